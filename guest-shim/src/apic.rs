//! The local APIC: end of interrupt, interprocessor interrupts, and its registers.
//!
//! Natively it is reached by the x2APIC's MSRs, or by memory if [`InitOptions::xapic`] says where
//! that is mapped. Paravirtual is the end of an interrupt: the hypervisor sets a flag when it needs
//! no exit, and taking the flag ends the interrupt.
//!
//! [`InitOptions::xapic`]: crate::InitOptions::xapic

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::VirtAddr;
use x86_64::registers::model_specific::{ApicBase, ApicBaseFlags, Msr};

use crate::area::{self, SharedPage};
use crate::site::{Key, enabled};

/// A register, by its offset in the xAPIC page. The x2APIC MSR is 800H plus a sixteenth of it (SDM
/// vol. 3, x2APIC Register Address Space).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Register {
    /// Local APIC ID.
    Id = 0x20,
    /// Version.
    Version = 0x30,
    /// Task priority.
    TaskPriority = 0x80,
    /// End of interrupt.
    Eoi = 0xb0,
    /// Spurious interrupt vector; bit 8 enables the APIC.
    Spurious = 0xf0,
    /// Error status.
    ErrorStatus = 0x280,
    /// Interrupt command, low half.
    Command = 0x300,
    /// LVT entry of the timer.
    LvtTimer = 0x320,
    /// Initial count of the timer.
    TimerInitial = 0x380,
    /// Current count of the timer.
    TimerCurrent = 0x390,
    /// Divide configuration of the timer.
    TimerDivide = 0x3e0,
}

impl Register {
    const fn msr(self) -> Msr {
        Msr::new(0x800 + (self as u32 >> 4))
    }
}

/// Interrupt command, high half; the x2APIC has both halves in one register.
const COMMAND_HIGH: u64 = 0x310;
/// x2APIC self-IPI; the xAPIC has none.
const SELF_IPI: u32 = 0x83f;
/// Interrupt command: the destination is the sender; and level assert, which fixed delivery needs.
const TO_SELF: u32 = 0b01 << 18 | ASSERT;
const ASSERT: u32 = 1 << 14;
/// Interrupt command: not yet sent.
const PENDING: u32 = 1 << 12;
/// Spurious interrupt vector: the APIC is enabled.
const ENABLE: u32 = 1 << 8;

static XAPIC: AtomicU64 = AtomicU64::new(0);

pub(crate) fn set_xapic(base: VirtAddr) {
    XAPIC.store(base.as_u64(), Ordering::Relaxed);
}

fn memory(offset: u64) -> *mut u32 {
    (XAPIC.load(Ordering::Relaxed) + offset) as *mut u32
}

/// Reads a register.
#[inline]
pub fn read(register: Register) -> u32 {
    if enabled::<{ Key::XApic as u32 }>() {
        // SAFETY: `init` was promised the mapping when it patched the site; no register of the
        // enum has a read that changes anything.
        unsafe { memory(register as u64).read_volatile() }
    } else {
        // SAFETY: as above; in x2APIC mode the MSR exists.
        unsafe { register.msr().read() as u32 }
    }
}

/// Writes a register.
///
/// # Safety
///
/// The APIC is enabled, in x2APIC mode unless `init` was told of the xAPIC page, and the
/// interrupts that this brings about have handlers. [`Register::Command`] goes through
/// [`send_ipi`], which knows where the destination belongs.
#[inline]
pub unsafe fn write(register: Register, value: u32) {
    if enabled::<{ Key::XApic as u32 }>() {
        // SAFETY: the mapping was promised to `init`, the effects are the caller's.
        unsafe { memory(register as u64).write_volatile(value) };
    } else {
        // SAFETY: as above.
        unsafe { register.msr().write(value.into()) };
    }
}

/// Enables this CPU's APIC, by memory or in x2APIC mode as [`crate::init`] was told, with
/// `spurious` as the spurious vector and every priority let through.
///
/// # Safety
///
/// The CPU has x2APIC mode unless `init` was told of the xAPIC page, and there is a handler at
/// `spurious`.
pub unsafe fn enable(spurious: u8) {
    let (frame, flags) = ApicBase::read();
    let mut wanted = flags | ApicBaseFlags::LAPIC_ENABLE;
    if !enabled::<{ Key::XApic as u32 }>() {
        wanted |= ApicBaseFlags::X2APIC_ENABLE;
    }
    // SAFETY: the base stays, the mode is one that the caller promises; the registers' effects are
    // what this function is for.
    unsafe {
        if wanted != flags {
            ApicBase::write(frame, wanted);
        }
        write(Register::TaskPriority, 0);
        write(Register::Spurious, ENABLE | u32::from(spurious));
    }
}

/// This CPU's APIC ID.
pub fn id() -> u32 {
    let id = read(Register::Id);
    if enabled::<{ Key::XApic as u32 }>() { id >> 24 } else { id }
}

/// Signals the end of the interrupt in service.
#[inline]
pub fn eoi() {
    if enabled::<{ Key::Eoi as u32 }>() && area::shared().is_some_and(SharedPage::take_eoi) {
        return;
    }
    // SAFETY: without an interrupt in service it does nothing.
    unsafe { write(Register::Eoi, 0) };
}

/// Sends `vector` to this CPU.
///
/// # Safety
///
/// There is a handler at `vector`, which ends with [`eoi`].
#[inline]
pub unsafe fn self_ipi(vector: u8) {
    if enabled::<{ Key::XApic as u32 }>() {
        // SAFETY: the caller's promise.
        unsafe { command_by_memory(0, TO_SELF | u32::from(vector)) };
    } else {
        // SAFETY: the caller's promise; the MSR exists in x2APIC mode.
        unsafe { Msr::new(SELF_IPI).write(vector.into()) };
    }
}

/// Writes the interrupt command register: `destination` is an APIC ID, `command` the low half,
/// without the level bit, which is set.
///
/// # Safety
///
/// As the command asks: a handler on the destination for an interrupt, start-up code for a SIPI.
#[inline]
pub unsafe fn send_ipi(destination: u32, command: u32) {
    if enabled::<{ Key::XApic as u32 }>() {
        // SAFETY: the caller's promise.
        unsafe { command_by_memory(destination, command | ASSERT) };
    } else {
        let value = u64::from(destination) << 32 | u64::from(command | ASSERT);
        // An MSR write to the x2APIC does not wait for earlier stores (SDM vol. 3, MSR Access in
        // x2APIC Mode), and the receiver may be meant to see them.
        // SAFETY: fences; then the caller's promise.
        unsafe {
            core::arch::x86_64::_mm_mfence();
            core::arch::x86_64::_mm_lfence();
            Register::Command.msr().write(value);
        }
    }
}

/// # Safety
///
/// As [`send_ipi`].
unsafe fn command_by_memory(destination: u32, command: u32) {
    // SAFETY: the page is mapped, as `init` was promised; the command is the caller's.
    unsafe {
        memory(COMMAND_HIGH).write_volatile(destination << 24);
        memory(Register::Command as u64).write_volatile(command);
        while memory(Register::Command as u64).read_volatile() & PENDING != 0 {
            core::hint::spin_loop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn msr_numbers_follow_from_the_offsets() {
        let number = |register: Register| 0x800 + (register as u32 >> 4);
        assert_eq!(number(Register::Eoi), 0x80b);
        assert_eq!(number(Register::Command), 0x830);
        assert_eq!(number(Register::TimerDivide), 0x83e);
    }
}
