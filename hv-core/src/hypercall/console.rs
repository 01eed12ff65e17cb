//! *console*: bytes to and from the host.

use core::mem::offset_of;

use pv_abi::Status;
use pv_abi::call::{Number, console};
use pv_abi::ring::{CAPACITY, ConsoleRing};

use super::{Arguments, Reply, UNKNOWN, page};
use crate::vm::hardware::Link;
use crate::vm::{Hardware, Vcpu};

/// The longest transfer in bytes.
pub const MAX_TRANSFER: usize = 4096;
/// Guest memory is copied in pieces of this many bytes, which bounds the stack.
const PIECE: usize = 512;

pub(super) fn call(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    &Arguments(gpa, length, ..): &Arguments,
) -> Reply {
    match number {
        console::WRITE => {
            // Bytes of the ring came first.
            drain(vcpu, hardware);
            write(vcpu, hardware, gpa, length).into()
        }
        console::READ => {
            drain(vcpu, hardware);
            read(vcpu, hardware, gpa, length).into()
        }
        console::RING_REGISTER => ring_register(vcpu, gpa).into(),
        console::RING_FLUSH if vcpu.registered.ring.is_none() => Reply::Error(Status::NotReady),
        console::RING_FLUSH => Reply::Value(drain(vcpu, hardware)),
        _ => UNKNOWN,
    }
}

fn range(vcpu: &Vcpu, gpa: u64, length: u64) -> Result<usize, Status> {
    if length == 0 || length > MAX_TRANSFER as u64 {
        return Err(Status::BadLength);
    }
    vcpu.vm.memory.locate(gpa, length).map_err(|_| Status::BadAddress)?;
    Ok(length as usize)
}

/// Copies console output from guest memory into the outbox.
#[inline(never)]
pub(super) fn copy_out(
    vcpu: &mut Vcpu,
    link: &mut dyn Link,
    mut gpa: u64,
    mut length: usize,
) -> Result<(), Status> {
    let mut piece = [0; PIECE];
    // What other vCPUs write comes before or behind.
    let mut outbox = vcpu.vm.outbox.lock();
    while length > 0 {
        let part = length.min(PIECE);
        let Some(bytes) = piece.get_mut(..part) else { break };
        vcpu.vm.memory.read(gpa, bytes).map_err(|_| Status::BadAddress)?;
        outbox.console(link, bytes);
        gpa = gpa.wrapping_add(part as u64);
        length = length.saturating_sub(part);
    }
    drop(outbox);
    vcpu.output_waits(link);
    Ok(())
}

#[inline(never)]
fn write(vcpu: &mut Vcpu, link: &mut dyn Link, gpa: u64, length: u64) -> Result<u64, Status> {
    let count = range(vcpu, gpa, length)?;
    copy_out(vcpu, link, gpa, count)?;
    Ok(length)
}

#[inline(never)]
fn read(vcpu: &mut Vcpu, link: &mut dyn Link, gpa: u64, length: u64) -> Result<u64, Status> {
    range(vcpu, gpa, length)?;
    let mut done = 0;
    while done < length {
        let Some(byte) = link.receive() else { break };
        vcpu.vm.memory.write(gpa.wrapping_add(done), &[byte]).map_err(|_| Status::BadAddress)?;
        done = done.wrapping_add(1);
    }
    Ok(done)
}

fn ring_register(vcpu: &mut Vcpu, gpa: u64) -> Result<u64, Status> {
    let gpa = page(vcpu, gpa)?;
    if vcpu.registered.ring.is_some() {
        return Err(Status::AlreadyDone);
    }
    vcpu.registered.ring = Some(gpa);
    vcpu.registered.ring_tail = 0;
    let tail = gpa.wrapping_add(offset_of!(ConsoleRing, tail) as u64);
    vcpu.vm.memory.write_u32(tail, 0).map_err(|_| Status::BadAddress)?;
    Ok(CAPACITY as u64)
}

/// Takes what is in the ring; returns the bytes taken. The work is bounded by the ring's size,
/// whatever the guest stored as its head.
#[inline]
pub fn drain(vcpu: &mut Vcpu, link: &mut dyn Link) -> u64 {
    vcpu.registered.ring.map_or(0, |ring| drain_ring(vcpu, link, ring))
}

#[inline(never)]
fn drain_ring(vcpu: &mut Vcpu, link: &mut dyn Link, ring: u64) -> u64 {
    let at = |offset: usize| ring.wrapping_add(offset as u64);
    let Ok(head) = vcpu.vm.memory.read_u32(at(offset_of!(ConsoleRing, head))) else { return 0 };
    let tail = vcpu.registered.ring_tail;
    if head == tail {
        return 0;
    }
    let waiting = head.wrapping_sub(tail) as usize;
    vcpu.registered.ring_tail = head;
    // A head too far ahead is the guest's error: what the ring held is lost, and we go on behind it.
    let taken = if waiting > CAPACITY { 0 } else { waiting };
    let start = tail as usize & (CAPACITY - 1);
    let first = taken.min(CAPACITY.saturating_sub(start));
    let data = offset_of!(ConsoleRing, data);
    // Both parts lie in the page that was RAM when it was registered.
    let _ = copy_out(vcpu, link, at(data.saturating_add(start)), first);
    let _ = copy_out(vcpu, link, at(data), taken.saturating_sub(first));
    let _ = vcpu.vm.memory.write_u32(at(offset_of!(ConsoleRing, tail)), head);
    taken as u64
}
