//! *share*: pages that a VM lets another one use.

use pv_abi::Status;
use pv_abi::call::{Number, grant, share};

use super::smp::FLUSH_US;
use super::{Arguments, Reply, page};
use crate::mem::frames::PAGE;
use crate::mem::nested::Access;
use crate::vm::share::Revocation;
use crate::vm::{Hardware, Vcpu};

pub(super) fn call(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    arguments: &Arguments,
) -> Reply {
    match perform(vcpu, hardware, number, arguments) {
        (Status::Success, value) => Reply::Value(value),
        (Status::Again, count) => Reply::Again(count),
        (status, _) => Reply::Error(status),
    }
}

/// Its result fits into registers, which that of [`call`] does not.
#[inline(never)]
fn perform(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    arguments: &Arguments,
) -> (Status, u64) {
    let slot = arguments.0;
    let (peer, mask) = match decide(vcpu, number, arguments) {
        Ok(Answer::Value(value)) => return (Status::Success, value),
        Ok(Answer::Wait(Revocation::Done)) => return (Status::Success, 0),
        Ok(Answer::Wait(Revocation::Busy(missing))) => return (Status::Again, count(missing)),
        Ok(Answer::Wait(Revocation::Flush(peer, mask))) => (peer, mask),
        Err(status) => return (status, 0),
    };
    let until = hardware.tsc().saturating_add(vcpu.vm.ticks(FLUSH_US));
    let missing = vcpu.flush_all(peer.posts, mask, until, hardware);
    vcpu.vm.revoked(slot, missing);
    (if missing == 0 { Status::Success } else { Status::Again }, count(missing))
}

fn count(mask: u64) -> u64 {
    mask.count_ones().into()
}

/// What is left of a call that is decided.
enum Answer {
    Value(u64),
    Wait(Revocation),
}

/// Does what waits for no CPU.
#[inline(never)]
fn decide(
    vcpu: &mut Vcpu,
    number: Number,
    &Arguments(first, second, third, fourth): &Arguments,
) -> Result<Answer, Status> {
    let value = match number {
        share::OFFER => offer(vcpu, first, second, third, fourth)?,
        share::REVOKE => return vcpu.vm.begin_revocation(first).map(Answer::Wait),
        share::MAP => vcpu.vm.map_offer(first, second, third)?,
        share::UNMAP => {
            vcpu.vm.unmap_offer(first, second)?;
            // This vCPU flushes before its next instruction.
            vcpu.attend();
            0
        }
        _ => return Err(Status::UnknownFunction),
    };
    Ok(Answer::Value(value))
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
