//! The local APIC: x2APIC where CPUID offers it, else xAPIC. Its registers are the shim's business.

use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::Operations;
use x86_64::apic::{self, Register};
use x86_64::cpuid::cpuid;
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use crate::pv;

/// The vector of the APIC timer.
pub const TIMER_VECTOR: u8 = 0x40;
/// The vector that the guests use for interrupts to themselves.
pub const SELF_VECTOR: u8 = 0x50;
const SPURIOUS_VECTOR: u8 = 0xff;
/// Interrupt command: INIT, a startup IPI with the page's number as its vector, an NMI (SDM vol. 3, Interrupt
/// Command Register).
pub const INIT: u32 = 0b101 << 8;
/// See [`INIT`].
pub const STARTUP: u32 = 0b110 << 8;
/// See [`INIT`].
pub const NMI: u32 = 0b100 << 8;
/// Interrupt command, destination shorthand: every CPU but the sender.
pub const ALL_BUT_SELF: u32 = 0b11 << 18;

/// IA32_APIC_BASE.
pub const APIC_BASE_MSR: u32 = 0x1b;
/// Where the xAPIC's registers are; that page is mapped uncached.
pub(crate) const MMIO: u64 = 0xfee0_0000;
/// The masks of a PC's 8259s.
const PIC_MASKS: [u16; 2] = [0x21, 0xa1];

static BASE_AT_ENTRY: AtomicU64 = AtomicU64::new(0);

/// IA32_APIC_BASE as the kernel found it.
pub fn base_at_entry() -> u64 {
    BASE_AT_ENTRY.load(Ordering::Relaxed)
}

pub(crate) fn has_x2apic() -> bool {
    cpuid(1, 0).ecx & 1 << 21 != 0
}

/// Enables the local APIC: once at the start, and again by who has turned it off.
pub fn init() {
    // SAFETY: every CPU with a local APIC has the MSR.
    let base = unsafe { Msr::new(APIC_BASE_MSR).read() };
    // What the first call finds stays.
    let _ = BASE_AT_ENTRY.compare_exchange(0, base, Ordering::Relaxed, Ordering::Relaxed);
    if !pv::present() {
        // A PC's 8259s may be unmasked, with vectors in the exceptions' range.
        for port in PIC_MASKS {
            // SAFETY: masks every line; nothing here uses the 8259s.
            unsafe { Port::<u8>::new(port).write(0xff) };
        }
    }
    enable();
}

/// Enables the local APIC of the CPU that executes this.
pub(crate) fn enable() {
    // SAFETY: `pv::init` told the shim which mode the CPU has. A spurious interrupt has no handler
    // and ends the guest with a message: nothing here can cause one.
    unsafe { apic::enable(SPURIOUS_VECTOR) };
}

/// Ends the interrupt in service that has the highest priority.
#[inline]
pub fn end_of_interrupt() {
    apic::eoi();
}

/// The APIC ID of the CPU that executes this.
pub fn id() -> u32 {
    apic::id()
}

/// Whether the registers are reached by memory, so that APIC IDs have 8 bits.
#[inline]
pub fn is_by_memory() -> bool {
    x86_64::operations().contains(Operations::XAPIC)
}

/// Writes the interrupt command register: the APIC ID that a command without shorthand is for, and the
/// command without its level bit, which is set. What is at the destination has to be ready for it.
#[inline]
pub fn command(destination: u32, command: u32) {
    // SAFETY: every vector has a stub that leads to a handler or to a message; who sends INIT and startup
    // IPIs has code at the page that it names.
    unsafe { apic::send_ipi(destination, command) };
}

/// Sends an interrupt with `vector` to this CPU. Without a handler it ends the guest with a message.
#[inline]
pub fn send_to_self(vector: u8) {
    // SAFETY: every vector has a stub that leads to a handler or to that message.
    unsafe { apic::self_ipi(vector) };
}

/// Sends an NMI to this CPU.
pub fn send_nmi_to_self() {
    command(id(), NMI);
}

/// The current count of the timer.
pub(crate) fn timer_count() -> u32 {
    apic::read(Register::TimerCurrent)
}

/// Sets the initial count of the timer: starts it, or stops it with 0.
pub(crate) fn set_timer_count(count: u32) {
    // SAFETY: the timer's vector has a stub.
    unsafe { apic::write(Register::TimerInitial, count) };
}
