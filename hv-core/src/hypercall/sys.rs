//! *sys*: the machine as a whole.

use pv_abi::Status;
use pv_abi::call::{Number, sys};

use super::console::{self, MAX_TRANSFER};
use super::{Arguments, Reply, UNKNOWN};
use crate::host::report::Cause;
use crate::vm::{Hardware, Leave, Options, Vcpu};

pub(super) fn call(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    &Arguments(first, length, ..): &Arguments,
) -> Reply {
    match number {
        sys::SHUTDOWN if first > 255 => Reply::Error(Status::InvalidArgument),
        sys::SHUTDOWN => Reply::Never(vcpu.ends(Cause::Shutdown, first, "")),
        sys::RESET if vcpu.vm.options.contains(Options::MAY_RESET) => Reply::Never(Leave::Reset),
        sys::RESET => Reply::Error(Status::Denied),
        sys::CRASH => {
            if length > MAX_TRANSFER as u64 {
                return Reply::Error(Status::BadLength);
            }
            // Without a message the address is ignored.
            if length != 0
                && let Err(bad) = vcpu.vm.memory.locate(first, length)
            {
                return bad.into();
            }
            // The message goes out on the console, behind what was written before; the report
            // follows it.
            console::drain(vcpu, hardware);
            let _ = console::copy_out(vcpu, hardware, first, length as usize);
            Reply::Never(vcpu.ends(Cause::Crash, 0, "the guest reported a crash"))
        }
        _ => UNKNOWN,
    }
}
