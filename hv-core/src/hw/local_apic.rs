//! The host's own local APIC: identity, IPIs to start and to kick CPUs, the timer that ends HLT.

use core::ptr;

use super::Cpuid;
use super::instructions::{rdmsr, tsc, wrmsr};

const APIC_BASE: u32 = 0x1b;
const BASE_X2APIC: u64 = 1 << 10;
const BASE_ENABLE: u64 = 1 << 11;
const X2APIC_MSRS: u32 = 0x800;
const TSC_DEADLINE: u32 = 0x6e0;

/// Register numbers: the offset in the xAPIC page divided by 16.
const ID: u32 = 0x2;
const EOI: u32 = 0xb;
const SPURIOUS: u32 = 0xf;
const ICR_LOW: u32 = 0x30;
const ICR_HIGH: u32 = 0x31;
const LVT_TIMER: u32 = 0x32;
const INITIAL_COUNT: u32 = 0x38;
const CURRENT_COUNT: u32 = 0x39;
const DIVIDE: u32 = 0x3e;

const LVT_MASKED: u32 = 1 << 16;
const LVT_TSC_DEADLINE: u32 = 2 << 17;
const SOFTWARE_ENABLE: u32 = 1 << 8;
const DELIVERY_PENDING: u32 = 1 << 12;
const ASSERT: u32 = 1 << 14;

/// [`DIVIDE`]: the timer counts every tick of its clock.
const DIVIDE_BY_1: u32 = 0xb;

/// The vector that ends an idle CPU's HLT, and a time slice where the CPU has nothing better for it.
const TIMER_VECTOR: u32 = 0xf0;
const SPURIOUS_VECTOR: u32 = 0xff;
/// The vector by which other CPUs end this one's guest mode or HLT.
const KICK_VECTOR: u32 = 0xf1;

fn base() -> u64 {
    // SAFETY: every CPU with long mode has a local APIC and thus this MSR.
    unsafe { rdmsr(APIC_BASE) }
}

/// Where a register is in xAPIC mode.
fn place(base: u64, register: u32) -> *mut u32 {
    let page = base & 0xf_ffff_f000;
    (page.wrapping_add(u64::from(register) << 4)) as *mut u32
}

fn read(register: u32) -> u32 {
    let base = base();
    if base & BASE_X2APIC != 0 {
        // SAFETY: in x2APIC mode the registers named above are MSRs from 800h on.
        unsafe { rdmsr(X2APIC_MSRS.wrapping_add(register)) as u32 }
    } else {
        // SAFETY: in xAPIC mode the page is mapped (it lies below 4 GiB) and uncached by the MTRRs.
        unsafe { ptr::read_volatile(place(base, register)) }
    }
}

fn write(register: u32, value: u32) {
    write_by(base(), register, value);
}

/// The same, where the base is known.
#[inline]
fn write_by(base: u64, register: u32, value: u32) {
    if base & BASE_X2APIC != 0 {
        // SAFETY: as in `read`; the callers write what the registers allow.
        unsafe { wrmsr(X2APIC_MSRS.wrapping_add(register), u64::from(value)) }
    } else {
        // SAFETY: as in `read`.
        unsafe { ptr::write_volatile(place(base, register), value) }
    }
}

/// This CPU's APIC ID.
pub fn id() -> u32 {
    if base() & BASE_X2APIC != 0 { read(ID) } else { read(ID) >> 24 }
}

/// Enables the APIC by software and masks its timer; other local interrupts stay as the firmware
/// left them, the legacy PICs are masked. Called once on each CPU.
///
/// The enable bit of IA32_APIC_BASE is never cleared: some APICs cannot be enabled again.
pub fn init() {
    if base() & BASE_ENABLE == 0 {
        // SAFETY: enabling the APIC is legal from the disabled state.
        unsafe { wrmsr(APIC_BASE, base() | BASE_ENABLE) };
    }
    write(LVT_TIMER, LVT_MASKED | TIMER_VECTOR);
    write(SPURIOUS, SOFTWARE_ENABLE | SPURIOUS_VECTOR);
    for pic_mask in [0x21, 0xa1] {
        // SAFETY: masks every input of the legacy PICs, which the hypervisor does not use.
        unsafe { x86_64::instructions::port::Port::<u8>::new(pic_mask).write(0xff) };
    }
}

fn send(target: u32, command: u32) {
    if base() & BASE_X2APIC != 0 {
        let icr = u64::from(target) << 32 | u64::from(command);
        // SAFETY: the x2APIC's interrupt command register takes target and command in one write.
        unsafe { wrmsr(X2APIC_MSRS.wrapping_add(ICR_LOW), icr) };
    } else {
        write(ICR_HIGH, target << 24);
        write(ICR_LOW, command);
        while read(ICR_LOW) & DELIVERY_PENDING != 0 {
            core::hint::spin_loop();
        }
    }
}

/// INIT, then two startup IPIs to the page number `page` (SDM vol. 3, "MP Initialization
/// Protocol"), with the pauses it asks for counted in TSC ticks of `per_us` a microsecond.
pub fn start_cpu(target: u32, page: u8, per_us: u64, started: impl Fn() -> bool) {
    const STARTUP: u32 = 6 << 8;
    let wait = |us: u64| {
        let end = tsc().wrapping_add(us.saturating_mul(per_us));
        while tsc() < end && !started() {
            core::hint::spin_loop();
        }
    };
    park(target);
    wait(10_000);
    for pause in [200, 100_000] {
        if !started() {
            send(target, STARTUP | u32::from(page));
            wait(pause);
        }
    }
}

/// Interrupts another CPU: it leaves its guest, or its HLT. While it is neither in the one nor in the other,
/// the interrupt waits until it is.
pub fn interrupt(target: u32) {
    send(target, ASSERT | KICK_VECTOR);
}

/// Puts a CPU back to waiting for a startup IPI.
pub fn park(target: u32) {
    const INIT: u32 = 5 << 8;
    send(target, INIT | ASSERT);
}

/// How this machine's APIC timers are armed for a time of the TSC.
#[derive(Clone, Copy, Debug)]
pub enum Timer {
    /// By the TSC itself.
    Deadline,
    /// By counts, of which so many, divided by 2^32, make a tick of the TSC.
    OneShot(u64),
}

impl Timer {
    /// Asks the CPU, and measures the timer's clock where it must be known.
    pub fn find(cpuid: &impl Cpuid, tsc_hz: u64) -> Timer {
        if cpuid.cpuid(1, 0)[2] & 1 << 24 != 0 {
            return Timer::Deadline;
        }
        write(DIVIDE, DIVIDE_BY_1);
        write(INITIAL_COUNT, u32::MAX);
        let start = tsc();
        while tsc().wrapping_sub(start) < tsc_hz / 100 {
            core::hint::spin_loop();
        }
        let counted = u32::MAX.wrapping_sub(read(CURRENT_COUNT));
        let ticks = tsc().wrapping_sub(start).max(1);
        write(INITIAL_COUNT, 0);
        let ratio = (u64::from(counted) << 32).checked_div(ticks);
        Timer::OneShot(ratio.unwrap_or(1).clamp(1, 1 << 32))
    }

    /// Lets this CPU's timer interrupt when it is armed.
    pub fn enable(self) {
        match self {
            Timer::Deadline => {
                write(LVT_TIMER, LVT_TSC_DEADLINE | TIMER_VECTOR);
                // SAFETY: a fence has no effect on memory. It is the SDM's: the memory-mapped write of
                // the LVT is not ordered before WRMSR otherwise.
                unsafe { core::arch::asm!("mfence", options(nostack, preserves_flags)) };
            }
            Timer::OneShot(_) => {
                write(DIVIDE, DIVIDE_BY_1);
                write(LVT_TIMER, TIMER_VECTOR);
            }
        }
    }

    /// Interrupts this CPU at TSC `deadline`, at once if that has passed; it is `now`.
    pub fn arm(self, deadline: u64, now: u64) {
        match self {
            // SAFETY: the mode was selected by `enable`, and CPUID has it. 0 would disarm.
            Timer::Deadline => unsafe { wrmsr(TSC_DEADLINE, deadline.max(1)) },
            Timer::OneShot(ratio) => {
                let ticks = deadline.saturating_sub(now).min(u32::MAX.into());
                // Both factors are at most 2^32. Rounded up: too early would be an exit for nothing.
                let counts = (ticks.wrapping_mul(ratio) >> 32).wrapping_add(1);
                write(INITIAL_COUNT, u32::try_from(counts).unwrap_or(u32::MAX));
            }
        }
    }

    /// Takes the deadline back.
    pub fn disarm(self) {
        match self {
            // SAFETY: as in `arm`.
            Timer::Deadline => unsafe { wrmsr(TSC_DEADLINE, 0) },
            Timer::OneShot(_) => write(INITIAL_COUNT, 0),
        }
    }

    /// Halts this CPU until an interrupt or, at the latest, TSC `deadline`; it is `now`. Returns the TSC.
    #[inline]
    pub fn halt_until(self, deadline: u64, now: u64) -> u64 {
        self.arm(deadline, now);
        let base = base();
        x86_64::instructions::interrupts::enable_and_hlt();
        x86_64::instructions::interrupts::disable();
        // Without one in service, as after an NMI or the spurious interrupt, it has no effect.
        write_by(base, EOI, 0);
        let now = tsc();
        if now < deadline {
            // It has not fired: it must not end the guest's time for nothing.
            self.disarm();
        }
        now
    }
}

/// Takes one pending interrupt of the host: opens the window for one instruction.
pub fn take_interrupts() {
    x86_64::instructions::interrupts::enable();
    x86_64::instructions::nop();
    x86_64::instructions::interrupts::disable();
    // As in `halt_until`.
    write(EOI, 0);
}
