//! *sched*: giving up the CPU.

use pv_abi::Status;
use pv_abi::call::{Number, halt, sched};

use super::{Arguments, Reply, UNKNOWN, timer};
use crate::vm::hardware::Kept;
use crate::vm::vcpu::Halt;
use crate::vm::{Hardware, Leave, Vcpu};

const RFLAGS_IF: u64 = 1 << 9;

pub(super) fn call(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    &Arguments(deadline, flags, ..): &Arguments,
) -> Reply {
    match number {
        sched::HALT_UNTIL => {
            if flags & !halt::ENABLE_INTERRUPTS != 0 {
                return Reply::Error(Status::Reserved);
            }
            if deadline != 0 {
                timer::arm(vcpu, hardware, deadline);
            }
            if flags & halt::ENABLE_INTERRUPTS != 0 {
                let rflags = hardware.kept(Kept::Rflags);
                hardware.keep(Kept::Rflags, rflags | RFLAGS_IF);
            }
            vcpu.halt = Halt::Interrupt;
            Reply::Leave(0, Leave::Halted)
        }
        sched::YIELD if vcpu.contended() => Reply::Leave(0, Leave::Yielded),
        sched::YIELD => Reply::Value(0),
        _ => UNKNOWN,
    }
}
