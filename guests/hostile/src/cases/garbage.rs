//! Nonsense for every register that a guest can reach without memory: ports, MSRs, the local APIC.
//!
//! None of it may harm anybody, and the guest itself goes on once it has set right what it needs.

use core::hint;
use core::sync::atomic::{AtomicU32, Ordering};

use guest_kernel::apic::{self, APIC_BASE_MSR};
use guest_kernel::interrupts::{self, Frame};
use guest_kernel::probe::probe;
use guest_kernel::{console, println, serial, timer};
use x86_64::instructions::interrupts as cpu_interrupts;
use x86_64::instructions::port::Port;
use x86_64::registers::model_specific::Msr;

use super::{Action, Case, Expected, Verdict, Wrong};
use crate::ports;

const fn case(name: &'static str, expected: Expected, run: fn() -> Verdict) -> Case {
    Case { name, expected, needs_pv: true, action: Action::Run(run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    // These take long: they are run by themselves.
    case("garbage-ports", Expected::Depends, all_ports),
    case("garbage-msrs", Expected::Depends, all_msrs),
    case("lvt-nmi", Expected::Survives, every_entry_is_nmi),
    case("apic-timer-flood", Expected::Survives, apic_timer_flood),
    case("apic-over-code", Expected::Survives, apic_over_code),
    // Its output fills a log, so it is run by itself.
    case("uart-flood", Expected::Depends, uart_flood),
    // These take a machine of type `pc`.
    Case { needs_pv: false, ..case("pit-flood", Expected::Depends, pit_flood) },
    Case { needs_pv: false, ..case("pit-flood-io-apic", Expected::Depends, pit_flood_io_apic) },
    Case { needs_pv: false, ..case("pit-nmi-ends-hlt", Expected::Depends, pit_nmi_ends_hlt) },
];

/// A value that depends on `n` and says nothing.
const fn nonsense(n: u32) -> u32 {
    let n = (n ^ n >> 16).wrapping_mul(0x7feb_352d);
    (n ^ n >> 15).wrapping_mul(0x846c_a68b)
}

/// Every port, by each size, both ways. Interrupts are off: what devices make of it nobody hears.
fn all_ports() -> Verdict {
    cpu_interrupts::disable();
    for port in (0..=u16::MAX).filter(|&port| !ports::ends(port)) {
        let value = nonsense(port.into());
        // SAFETY: these ports do not end the machine; what else they do is what the case is for, and
        // no device reaches memory.
        unsafe {
            Port::<u8>::new(port).read();
            Port::<u16>::new(port).read();
            Port::<u32>::new(port).read();
            Port::<u8>::new(port).write(value as u8);
            Port::<u16>::new(port).write(!value as u16);
            Port::<u32>::new(port).write(value);
        }
    }
    quiet_devices();
    serial::init();
    println!("@hostile every port was written");
    Ok(())
}

/// The interrupts of a PC's devices are off again.
fn quiet_devices() {
    /// The masks of the 8259s, after the four words that initialize each.
    const STEPS: [(u16, u8); 10] = [
        (0x20, 0x11),
        (0x21, 0x20),
        (0x21, 4),
        (0x21, 1),
        (0xa0, 0x11),
        (0xa1, 0x28),
        (0xa1, 2),
        (0xa1, 1),
        (0x21, 0xff),
        (0xa1, 0xff),
    ];
    for (port, value) in STEPS {
        // SAFETY: nothing here uses the 8259s.
        unsafe { Port::<u8>::new(port).write(value) };
    }
}

/// Where MSRs are, on CPUs and in hypervisors.
const RANGES: [core::ops::Range<u32>; 4] =
    [0..0x2000, 0x4000_0000..0x4000_2000, 0xc000_0000..0xc000_2000, 0xc001_0000..0xc001_2000];
/// Those with a case of their own.
const BASE: core::ops::Range<u32> = APIC_BASE_MSR..APIC_BASE_MSR + 1;
/// The interrupt command, by which the only CPU would be stopped.
const COMMAND: u32 = 0x830;
/// An INIT to itself ends a machine with one CPU, so its delivery mode is another one.
const HARMLESS: u64 = !0x700;

fn read(msr: u32) -> Option<u64> {
    // SAFETY: a fault is what the probe is for; reads have no effect that matters.
    probe(|| unsafe { Msr::new(msr).read() }).ok()
}

fn write(msr: u32, value: u64) -> bool {
    // SAFETY: as above; the caller sets right what the kernel needs before it needs it.
    probe(|| unsafe { Msr::new(msr).write(value) }).is_ok()
}

/// Every MSR is read and written. What can be read is written back.
fn all_msrs() -> Verdict {
    let (mut readable, mut writable) = (0, 0);
    cpu_interrupts::disable();
    interrupts::handle(NMI, count_nmi);
    for msr in RANGES.into_iter().flatten().filter(|msr| !BASE.contains(msr)) {
        let before = read(msr);
        let value = u64::from(nonsense(msr)) << 32 | u64::from(nonsense(!msr));
        for value in [0, u64::MAX, value, !value, value >> 32, before.unwrap_or(0) ^ 1] {
            let value = if msr == COMMAND { value & HARMLESS } else { value };
            writable += u32::from(write(msr, value));
            if let Some(before) = before {
                write(msr, before);
            }
        }
        readable += u32::from(before.is_some());
    }
    renew_apic()?;
    interrupts::forget(NMI);
    println!("@hostile {readable} MSRs could be read, {writable} writes were taken");
    Ok(())
}

/// Turns the local APIC off and on: what it was told is forgotten.
fn renew_apic() -> Verdict {
    const ENABLED: u64 = 1 << 11;
    const X2: u64 = 1 << 10;
    let before = read(APIC_BASE_MSR).ok_or(Wrong::Other("APIC_BASE cannot be read"))?;
    let off = before & !(ENABLED | X2);
    if before & X2 == 0 {
        return Err(Wrong::Other("the local APIC is not in x2APIC mode"));
    }
    for value in [off, off | ENABLED, before] {
        if !write(APIC_BASE_MSR, value) {
            return Err(Wrong::Other("the local APIC cannot be turned off and on"));
        }
    }
    apic::init();
    timer::init();
    Ok(())
}

const NMI: u8 = 2;
const LVT: [u32; 7] = [0x82f, 0x832, 0x833, 0x834, 0x835, 0x836, 0x837];
const DELIVERY_NMI: u64 = 0b100 << 8;
/// Vectors below 16 are illegal: to send one is an error.
const ILLEGAL_VECTOR_TO_SELF: u64 = 1 << 18 | 1 << 14 | 1;
const PATIENCE: u32 = 10_000;

static NMIS: AtomicU32 = AtomicU32::new(0);

fn count_nmi(_: &mut Frame) {
    NMIS.fetch_add(1, Ordering::Relaxed);
}

/// Every entry of the local vector table asks for an NMI, the timer and errors among what raises them.
fn every_entry_is_nmi() -> Verdict {
    cpu_interrupts::disable();
    interrupts::handle(NMI, count_nmi);
    NMIS.store(0, Ordering::Relaxed);
    let taken = LVT.iter().filter(|&&entry| write(entry, DELIVERY_NMI)).count();
    for _ in 0..16 {
        timer::arm(timer::now() + 100);
        write(COMMAND, ILLEGAL_VECTOR_TO_SELF);
        apic::send_nmi_to_self();
        (0..PATIENCE).for_each(|_| hint::spin_loop());
    }
    renew_apic()?;
    interrupts::forget(NMI);
    println!("@hostile {taken} entries took NMI");
    // Those that were sent by command come in any case, some of them as one.
    if NMIS.load(Ordering::Relaxed) >= 16 { Ok(()) } else { Err(Wrong::Other("NMIs are missing")) }
}

/// The local APIC's page is moved over code in use. What is there belongs to the RAM or to the APIC;
/// the guest that did this may end, but here it goes on, since no register is in the instructions' way.
fn apic_over_code() -> Verdict {
    const ENABLED: u64 = 1 << 11;
    const X2: u64 = 1 << 10;
    let before = read(APIC_BASE_MSR).ok_or(Wrong::Other("APIC_BASE cannot be read"))?;
    let flags = before & 0xfff & !(ENABLED | X2);
    let page = apic_over_code as *const () as u64 & !0xfff;
    cpu_interrupts::disable();
    for value in [flags | before & !0xfff, flags | page, flags | ENABLED | page] {
        if !write(APIC_BASE_MSR, value) {
            return Err(Wrong::Other("the local APIC cannot be moved"));
        }
        hint::black_box(core::arch::x86_64::__cpuid(0));
    }
    let moved = read(APIC_BASE_MSR) == Some(flags | ENABLED | page);
    // Code of the page is executed, and read as memory.
    // SAFETY: code can be read.
    hint::black_box(unsafe { (page as *const u32).read_volatile() });
    hint::black_box(nonsense(1));
    let off = flags | before & !0xfff;
    let back = [off, off | ENABLED, before].iter().all(|&value| write(APIC_BASE_MSR, value));
    apic::init();
    timer::init();
    match (moved, back) {
        (true, true) => Ok(()),
        (false, _) => Err(Wrong::Other("APIC_BASE reads as something else")),
        (_, false) => Err(Wrong::Other("the local APIC cannot be moved back")),
    }
}

/// Bytes of a flood.
const FLOOD: u32 = 20_000;

/// The UART's data register is written without a look at its status; all the others are read and
/// written meanwhile.
fn uart_flood() -> Verdict {
    for n in 0..FLOOD {
        let register = (nonsense(n) % 8) as u16;
        // SAFETY: the registers of a UART that only the console uses, which waits meanwhile.
        unsafe {
            Port::<u8>::new(serial::COM1).write(if n % 64 == 63 { b'\n' } else { b'.' });
            Port::<u8>::new(serial::COM1 + register).read();
            if register == 1 || register == 2 || register >= 4 {
                Port::<u8>::new(serial::COM1 + register).write(nonsense(!n) as u8);
            }
        }
    }
    serial::init();
    console::write(b"\n");
    Ok(())
}

const TIMER_LINE: u8 = 0x20;

static TICKS: AtomicU32 = AtomicU32::new(0);

/// With the shortest periods the next interrupt waits when this one ends, and nothing else gets to run: so the
/// last one that is wanted stops the timer.
fn tick(_: &mut Frame) {
    stop_after_the_last();
    // SAFETY: the end of the interrupt in service, unspecified.
    unsafe { Port::<u8>::new(0x20).write(0x20) };
}

fn stop_after_the_last() {
    if TICKS.fetch_add(1, Ordering::Relaxed) + 1 >= TICKS_WANTED {
        // Mode 0: the timer counts once.
        count_down(0x30, 0);
    }
}

/// Interrupts that are wanted, and the longest time to wait for them in TSC ticks.
const TICKS_WANTED: u32 = 1000;
const LIMIT: u64 = 2_000_000_000;

/// The PIT counts with the shortest periods that it has, and every period is an interrupt. A count of 1
/// is illegal in mode 2, and those after it may be more than a machine can follow: what comes of them is
/// not judged.
fn pit_flood() -> Verdict {
    const LINT0: u32 = 0x835;
    const EXTINT: u64 = 0b111 << 8;
    const MASKS: u16 = 0x21;
    quiet_devices();
    // Through the local APIC, where the pin is masked after a reset.
    let before = read(LINT0);
    write(LINT0, EXTINT);
    // SAFETY: the timer's line alone, and its vector has a handler before interrupts are enabled.
    unsafe { Port::<u8>::new(MASKS).write(0xfe) };
    let ticks = flood(tick);
    // SAFETY: all are masked.
    unsafe { Port::<u8>::new(MASKS).write(0xff) };
    if let Some(before) = before {
        write(LINT0, before);
    }
    judge(ticks)
}

/// The same by way of the I/O APIC.
fn pit_flood_io_apic() -> Verdict {
    quiet_devices();
    io_apic(TIMER_PIN, TIMER_LINE.into());
    let ticks = flood(|_| {
        stop_after_the_last();
        apic::end_of_interrupt();
    });
    io_apic(TIMER_PIN, MASKED);
    judge(ticks)
}

fn judge(ticks: u32) -> Verdict {
    println!("@hostile {ticks} ticks of the PIT");
    if ticks >= TICKS_WANTED {
        Ok(())
    } else {
        Err(Wrong::Other("the PIT's interrupts are missing"))
    }
}

/// The interrupts that were taken with the last of the periods.
fn flood(handler: interrupts::Handler) -> u32 {
    interrupts::handle(TIMER_LINE, handler);
    for (count, limit) in [(1, LIMIT / 20), (2, LIMIT / 20), (200, 10 * LIMIT)] {
        // Channel 0, both bytes, mode 2.
        count_down(0x34, count);
        TICKS.store(0, Ordering::Relaxed);
        cpu_interrupts::enable();
        let begin = timer::now();
        while TICKS.load(Ordering::Relaxed) < TICKS_WANTED && timer::now() - begin < limit {
            hint::spin_loop();
        }
        cpu_interrupts::disable();
    }
    // Mode 0: the timer counts once.
    count_down(0x30, 0);
    interrupts::forget(TIMER_LINE);
    TICKS.load(Ordering::Relaxed)
}

/// The local APIC's timer counts with its shortest period: its interrupts come, and the guest goes on.
fn apic_timer_flood() -> Verdict {
    const PERIODIC: u64 = 1 << 17 | TIMER_LINE as u64;
    const STOPPED: u64 = 1 << 16;
    const LVT: u32 = 0x832;
    const INITIAL: u32 = 0x838;
    const DIVIDE: u32 = 0x83e;
    TICKS.store(0, Ordering::Relaxed);
    interrupts::handle(TIMER_LINE, |_| {
        TICKS.fetch_add(1, Ordering::Relaxed);
        apic::end_of_interrupt();
    });
    let before = read(LVT);
    for (register, value) in [(LVT, PERIODIC), (DIVIDE, 0b1011), (INITIAL, 1)] {
        write(register, value);
    }
    cpu_interrupts::enable();
    while TICKS.load(Ordering::Relaxed) < 100 {
        hint::spin_loop();
    }
    cpu_interrupts::disable();
    for (register, value) in [(INITIAL, 0), (LVT, before.unwrap_or(STOPPED))] {
        write(register, value);
    }
    interrupts::forget(TIMER_LINE);
    timer::init();
    Ok(())
}

fn count_down(control: u8, count: u16) {
    let [low, high] = count.to_le_bytes();
    for (port, value) in [(0x43, control), (0x40, low), (0x40, high)] {
        // SAFETY: nothing else uses the timer, and its interrupt has a handler or is masked.
        unsafe { Port::<u8>::new(port).write(value) };
    }
}

const TIMER_PIN: u32 = 2;
const MASKED: u32 = 1 << 16;

/// Writes an entry of the I/O APIC, for the APIC with ID 0.
fn io_apic(pin: u32, entry: u32) {
    const SELECT: *mut u32 = 0xfec0_0000 as *mut u32;
    const WINDOW: *mut u32 = 0xfec0_0010 as *mut u32;
    for (index, value) in [(0x11 + 2 * pin, 0), (0x10 + 2 * pin, entry)] {
        // SAFETY: identity mapped; what it sends has a handler.
        unsafe {
            SELECT.write_volatile(index);
            WINDOW.write_volatile(value);
        }
    }
}

/// HLT with interrupts disabled waits for an NMI, and the timer makes one.
fn pit_nmi_ends_hlt() -> Verdict {
    const DELIVERY_NMI: u32 = 0b100 << 8;
    cpu_interrupts::disable();
    quiet_devices();
    interrupts::handle(NMI, count_nmi);
    NMIS.store(0, Ordering::Relaxed);
    io_apic(TIMER_PIN, DELIVERY_NMI);
    // Again and again, since one that comes before the HLT does not end it.
    count_down(0x34, 20_000);
    let ended = (0..3).all(|_| {
        let before = NMIS.load(Ordering::Relaxed);
        // SAFETY: the NMI ends it.
        unsafe { core::arch::asm!("hlt", options(nomem, nostack)) };
        NMIS.load(Ordering::Relaxed) != before
    });
    io_apic(TIMER_PIN, MASKED);
    count_down(0x30, 0);
    interrupts::forget(NMI);
    if ended { Ok(()) } else { Err(Wrong::Other("something else ended the HLT")) }
}
