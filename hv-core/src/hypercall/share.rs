//! *share*: pages that a VM lets another one use.

use pv_abi::Status;
use pv_abi::call::{Number, grant, share};

use super::smp::FLUSH_US;
use super::{Arguments, Reply, UNKNOWN, page};
use crate::mem::frames::PAGE;
use crate::mem::nested::Access;
use crate::vm::share::Revocation;
use crate::vm::{Hardware, Vcpu};

pub(super) fn call(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    &Arguments(first, second, third, fourth): &Arguments,
) -> Reply {
    match number {
        share::OFFER => offer(vcpu, first, second, third, fourth).into(),
        share::REVOKE => match vcpu.vm.begin_revocation(first) {
            Ok(Revocation::Done) => Reply::Value(0),
            Ok(Revocation::Busy(missing)) => Reply::Again(missing.count_ones().into()),
            Ok(Revocation::Flush(peer, mask)) => {
                let until = hardware.tsc().saturating_add(vcpu.vm.ticks(FLUSH_US));
                let missing = vcpu.flush_all(peer.posts, mask, until, hardware);
                vcpu.vm.revoked(first, missing);
                match missing.count_ones() {
                    0 => Reply::Value(0),
                    count => Reply::Again(count.into()),
                }
            }
            Err(status) => Reply::Error(status),
        },
        share::MAP => vcpu.vm.map_offer(first, second, third).into(),
        share::UNMAP => match vcpu.vm.unmap_offer(first, second) {
            Ok(()) => {
                // This vCPU flushes before its next instruction.
                vcpu.attend();
                Reply::Value(0)
            }
            Err(status) => Reply::Error(status),
        },
        _ => UNKNOWN,
    }
}

fn offer(vcpu: &Vcpu, slot: u64, gpa: u64, to: u64, access: u64) -> Result<u64, Status> {
    let memory = &vcpu.vm.memory;
    let page = memory.locate(page(vcpu, gpa)?, PAGE).map_err(|_| Status::BadAddress)?;
    let access = match access {
        grant::READ => Access::ReadOnly,
        grant::READ_WRITE => Access::ReadWrite,
        _ => return Err(Status::InvalidArgument),
    };
    vcpu.vm.offer(slot, page as u64, to, access).map(|()| 0)
}
