//! *smp*: what the vCPUs of a VM do to each other.

use pv_abi::Status;
use pv_abi::call::{Number, smp};

use super::{Arguments, Reply, UNKNOWN, page};
use crate::device::apic::Trigger;
use crate::emulate::msr::canonical;
use crate::vm::hardware::Link;
use crate::vm::post::{Notice, Post, Startup};
use crate::vm::vcpu::Halt;
use crate::vm::{Hardware, Leave, Vcpu};

/// How long a call waits for others to flush, in microseconds. One that is in guest mode leaves it at once;
/// what takes longer is a CPU that is at something else.
pub(super) const FLUSH_US: u64 = 200;

/// Vectors below are exceptions' (SDM vol. 3, Valid Interrupt Vectors).
pub(super) const FIRST_VECTOR: u8 = 16;

pub(super) fn call(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    &Arguments(first, second, third, fourth): &Arguments,
) -> Reply {
    match number {
        smp::START => start(vcpu, hardware, first, second, third, fourth).into(),
        smp::SEND => send(vcpu, hardware, first, second, third).into(),
        smp::FLUSH => flush(vcpu, hardware, first, second),
        smp::KICK => match one(vcpu, first) {
            Ok(post) => {
                vcpu.kick(post, hardware);
                Reply::Value(0)
            }
            Err(status) => Reply::Error(status),
        },
        smp::WAIT => {
            vcpu.halt = Halt::Interrupt;
            if vcpu.post.begin_wait() { Reply::Leave(0, Leave::Halted) } else { Reply::Value(0) }
        }
        smp::YIELD_TO => match one(vcpu, first) {
            // Whoever waits for one that runs does better to look again.
            Ok(post) if post.runs() => Reply::Value(0),
            Ok(_) => Reply::Leave(0, Leave::YieldedTo(first as u32)),
            Err(status) => Reply::Error(status),
        },
        _ => UNKNOWN,
    }
}

/// The vCPU with this number.
fn one(vcpu: &Vcpu, number: u64) -> Result<&'static Post, Status> {
    let number = usize::try_from(number).map_err(|_| Status::InvalidArgument)?;
    vcpu.vm.posts.get(number).copied().ok_or(Status::InvalidArgument)
}

/// The vCPUs that a mask names, from number `first` on: there is one for each of its bits, and none behind
/// the last.
fn named(vcpu: &Vcpu, first: u64, mask: u64) -> Result<&'static [&'static Post], Status> {
    let count = u64::BITS.saturating_sub(mask.leading_zeros()) as usize;
    if count == 0 {
        return Ok(&[]);
    }
    let first = usize::try_from(first).map_err(|_| Status::InvalidArgument)?;
    let posts = vcpu.vm.posts.get(first..).and_then(|posts| posts.get(..count));
    posts.ok_or(Status::InvalidArgument)
}

#[inline(never)]
fn start(
    vcpu: &mut Vcpu,
    link: &mut dyn Link,
    number: u64,
    entry: u64,
    tables: u64,
    argument: u64,
) -> Result<u64, Status> {
    let tables = page(vcpu, tables)?;
    let post = one(vcpu, number)?;
    if !canonical(entry) {
        return Err(Status::InvalidArgument);
    }
    if !post.ask_start(Startup::Called { entry, tables, argument }) {
        return Err(Status::AlreadyDone);
    }
    vcpu.tell(post, Notice::Start, link);
    Ok(0)
}

#[inline(never)]
fn send(
    vcpu: &mut Vcpu,
    link: &mut dyn Link,
    vector: u64,
    first: u64,
    mask: u64,
) -> Result<u64, Status> {
    let vector = u8::try_from(vector).map_err(|_| Status::InvalidArgument)?;
    let posts = named(vcpu, first, mask)?;
    if vector < FIRST_VECTOR {
        return Err(Status::InvalidArgument);
    }
    for (&post, bit) in posts.iter().zip(0u32..) {
        if mask >> bit & 1 == 0 {
            continue;
        }
        if core::ptr::eq(post, vcpu.post) {
            let _here = post.leave(Notice::Vector(vector, Trigger::Edge));
            vcpu.attend();
        } else {
            vcpu.tell(post, Notice::Vector(vector, Trigger::Edge), link);
        }
    }
    Ok(0)
}

#[inline(never)]
fn flush(vcpu: &mut Vcpu, hardware: &mut impl Hardware, first: u64, mask: u64) -> Reply {
    let posts = match named(vcpu, first, mask) {
        Ok(posts) => posts,
        Err(status) => return Reply::Error(status),
    };
    let until = hardware.tsc().saturating_add(vcpu.vm.ticks(FLUSH_US));
    match vcpu.flush_all(posts, mask, until, hardware) {
        0 => Reply::Value(0),
        missing => Reply::Again(missing),
    }
}
