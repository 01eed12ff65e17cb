//! Other vCPUs. There is no native way here: that is a kernel's own, by its local APIC. So nothing of this
//! is patched: where [`operations`](crate::operations) has [`Operations::SMP`](crate::Operations::SMP), the
//! kernel chooses these.
//!
//! A vCPU is named by its number, which is its initial APIC ID. A set of vCPUs is a mask, bit *i* for
//! number *i*: 64 of them, which is as many as a VM can have.

use x86_64::{PhysAddr, VirtAddr};

use crate::hypercall::{CallError, smp as call};

/// Starts a vCPU that waits for a startup IPI at `entry`, in 64-bit mode with these page tables and
/// `argument` in RDI. It has no stack, and its segments, IDT and EFER are those of the specification.
///
/// # Errors
///
/// [`Status::AlreadyDone`](pv_abi::Status::AlreadyDone) if it does not wait for that; and whatever else the
/// call returns.
///
/// # Safety
///
/// What is at `entry` under the page tables is code for another CPU that is in that state.
#[inline]
pub unsafe fn start(
    vcpu: u32,
    entry: VirtAddr,
    tables: PhysAddr,
    argument: u64,
) -> Result<(), CallError> {
    // SAFETY: the caller's promise.
    unsafe { call::start(vcpu.into(), entry.as_u64(), tables.as_u64(), argument) }.map(drop)
}

/// Interrupts vCPUs, this one as well if it is in the set.
///
/// # Errors
///
/// Whatever the call returns; nobody is then interrupted.
#[inline]
pub fn send(vector: u8, vcpus: u64) -> Result<(), CallError> {
    call::send(vector.into(), 0, vcpus).map(drop)
}

/// Flushes every translation of vCPUs, and returns when they all have.
///
/// # Errors
///
/// Whatever the call returns, but for [`CallError::Again`], after which it is made again.
#[inline]
pub fn flush(mut vcpus: u64) -> Result<(), CallError> {
    loop {
        match call::flush(0, vcpus) {
            Err(CallError::Again(missing)) => vcpus = missing,
            result => return result.map(drop),
        }
    }
}

/// Ends the [`wait`] of a vCPU, or its next one.
///
/// # Errors
///
/// Whatever the call returns.
#[inline]
pub fn kick(vcpu: u32) -> Result<(), CallError> {
    call::kick(vcpu.into()).map(drop)
}

/// Has another vCPU run instead of this one, for which this one waits. Returns at once if that runs.
///
/// # Errors
///
/// Whatever the call returns.
#[inline]
pub fn yield_to(vcpu: u32) -> Result<(), CallError> {
    call::yield_to(vcpu.into()).map(drop)
}

/// Halts until this vCPU is kicked or has an interrupt pending, or for no reason. RFLAGS.IF is as before.
///
/// # Errors
///
/// Whatever the call returns.
#[inline]
pub fn wait() -> Result<(), CallError> {
    call::wait().map(drop)
}
