//! What must not pass from one VM to another, or from a VM to itself after a reset.
//!
//! A VM that has a neighbour on its CPU gives it turns, so that their states alternate in the CPU.
//! With the option `tag=N` each leaves marks of its own.

use core::arch::asm;
use core::ops::Range;
use core::sync::atomic::{AtomicBool, Ordering};

use guest_kernel::apic::{self, TIMER_VECTOR};
use guest_kernel::interrupts::{self, Frame};
use guest_kernel::{info, println, timer};
use x86_64::hypercall::{sched, sys};
use x86_64::instructions::interrupts as cpu_interrupts;
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;

use super::{Action, Case, Expected, Verdict, Wrong};

const fn case(name: &'static str, expected: Expected, run: fn() -> Verdict) -> Case {
    Case { name, expected, needs_pv: true, action: Action::Run(run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    case("xmm-without-xsave", Expected::Survives, || with_sse(keep_xmm)),
    case("xmm-with-xsave", Expected::Survives, || with_xcr0(X87 | SSE, keep_xmm)),
    case("xcr0-shrinks", Expected::Survives, || with_xcr0(X87 | SSE, shrink)),
    case("pattern", Expected::Depends, || with_sse(keep_pattern)),
    case("registers", Expected::Survives, registers),
    case("apic-page", Expected::Depends, apic_page),
    case("reset", Expected::Depends, reset),
];

const X87: u32 = 1 << 0;
const SSE: u32 = 1 << 1;
/// Turns for a neighbour: enough for it to boot and then to alternate with this VM.
const TURNS: u64 = 200;

/// 16 registers of 16 bytes.
type Xmm = [u64; 32];

/// Marks of this VM and nobody else.
pub(super) fn tag() -> u64 {
    0x5eed_0000_0000_0000 | info::options().number("tag").unwrap_or(1) << 32
}

/// The addresses of RAM that nobody uses: above the image, and below what the end of the memory is used for.
pub(super) fn unused() -> Range<u64> {
    const FIRST: u64 = 8 << 20;
    const LAST: u64 = 1 << 20;
    let end = info::memory().map(|r| r.end).max().unwrap_or(0);
    FIRST..end.saturating_sub(LAST).max(FIRST)
}

fn give_way() -> Verdict {
    sched::yield_now().map(drop).map_err(|_| Wrong::Other("sched.yield is refused"))
}

/// Runs `code` with SSE on.
fn with_sse(code: fn() -> Verdict) -> Verdict {
    let before = Cr4::read();
    // SAFETY: every CPU with long mode has SSE, and no code of the guests uses its registers.
    unsafe { Cr4::write(before | Cr4Flags::OSFXSR) };
    let result = code();
    // SAFETY: as it was.
    unsafe { Cr4::write(before) };
    result
}

/// Runs `code` with SSE on and these components in XCR0, where the CPU has it.
fn with_xcr0(components: u32, code: fn() -> Verdict) -> Verdict {
    // CPUID.1:ECX bit 26.
    if core::arch::x86_64::__cpuid(1).ecx & 1 << 26 == 0 {
        return Ok(());
    }
    let before = Cr4::read();
    // SAFETY: CPUID offers it.
    unsafe { Cr4::write(before | Cr4Flags::OSXSAVE) };
    set_xcr0(components);
    let result = with_sse(code);
    set_xcr0(X87);
    // SAFETY: as it was.
    unsafe { Cr4::write(before) };
    result
}

fn set_xcr0(components: u32) {
    // SAFETY: CR4.OSXSAVE is on, and every CPU with XSAVE has these components.
    unsafe { asm!("xsetbv", in("ecx") 0, in("eax") components, in("edx") 0) };
}

fn load_xmm(values: &Xmm) {
    // SAFETY: CR4.OSFXSR is on; no compiled code uses the registers, since the target has no SSE.
    unsafe {
        asm!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "movdqu xmm\\n, [{0} + 16 * \\n]",
            ".endr",
            in(reg) values,
            options(readonly, nostack),
        )
    }
}

fn xmm() -> Xmm {
    let mut values = [0; 32];
    // SAFETY: as in `load_xmm`.
    unsafe {
        asm!(
            ".irp n, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15",
            "movdqu [{0} + 16 * \\n], xmm\\n",
            ".endr",
            in(reg) &mut values,
            options(nostack),
        )
    }
    values
}

/// The registers hold this VM's values after every turn of the neighbour.
fn keep_xmm() -> Verdict {
    for turn in 0..TURNS {
        let values: Xmm = core::array::from_fn(|n| tag() | turn << 8 | n as u64);
        load_xmm(&values);
        give_way()?;
        if xmm() != values {
            return Err(Wrong::Other("the vector registers hold other values"));
        }
    }
    Ok(())
}

/// Memory and vector registers hold this VM's values, whatever its neighbour does: for `turns=N` turns,
/// each of which looks at a part of the memory.
fn keep_pattern() -> Verdict {
    const PARTS: u64 = 16;
    let unused = unused();
    let words = (unused.end - unused.start) / 8;
    let place = |word: u64| (unused.start + 8 * word) as *mut u64;
    let value = |word: u64| (tag() + word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    // SAFETY: RAM that nobody uses.
    (0..words).for_each(|word| unsafe { place(word).write_volatile(value(word)) });
    let registers: Xmm = core::array::from_fn(|n| value(n as u64));
    for turn in 0..info::options().number("turns").unwrap_or(TURNS) {
        load_xmm(&registers);
        give_way()?;
        if xmm() != registers {
            return Err(Wrong::Other("the vector registers hold other values"));
        }
        // SAFETY: as above.
        let kept = |word: u64| unsafe { place(word).read_volatile() } == value(word);
        let part = turn % PARTS;
        if words == 0 || !(words / PARTS * part..words / PARTS * (part + 1)).all(kept) {
            return Err(Wrong::Other("the memory holds other values"));
        }
    }
    Ok(())
}

/// Components that leave XCR0 keep their values: legacy SSE instructions go on working with them.
fn shrink() -> Verdict {
    for turn in 0..TURNS {
        let values: Xmm = core::array::from_fn(|n| tag() | turn << 8 | n as u64);
        set_xcr0(X87 | SSE);
        load_xmm(&values);
        give_way()?;
        set_xcr0(X87);
        give_way()?;
        if xmm() != values {
            return Err(Wrong::Other("a component that left XCR0 lost its value"));
        }
    }
    Ok(())
}

/// STAR, LSTAR, CSTAR, FMASK, KERNEL_GS_BASE and TSC_AUX.
const LIVE_MSRS: [u32; 6] =
    [0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084, KERNEL_GS_BASE, 0xc000_0103];

/// DR0 to DR3, and CR2.
fn live_registers() -> [u64; 5] {
    let (a, b, c, d, e): (u64, u64, u64, u64, u64);
    // SAFETY: reading them has no effect.
    unsafe {
        asm!("mov {}, dr0", "mov {}, dr1", "mov {}, dr2", "mov {}, dr3", "mov {}, cr2",
            out(reg) a, out(reg) b, out(reg) c, out(reg) d, out(reg) e);
    }
    [a, b, c, d, e]
}

/// Registers that stay in the CPU while a vCPU runs hold this VM's values, whether it has just written them or some
/// turns ago.
fn registers() -> Verdict {
    let rdtscp = core::arch::x86_64::__cpuid(0x8000_0001).edx & 1 << 27 != 0;
    let msrs = &LIVE_MSRS[..if rdtscp { 6 } else { 5 }];
    for turn in 0..TURNS {
        // Below 2^31, so that they are legal wherever they stand. Every second time all VMs have the same, and
        // the first that changes them finds them in the CPU.
        let written = turn / 4;
        let own = match written % 2 {
            0 => 0,
            _ => (tag() >> 16 & 0xff_0000) | (written << 4),
        };
        let value = |n: usize| own | n as u64;
        if turn % 4 == 0 {
            // SAFETY: nothing here uses what they are for: no SYSCALL, no SWAPGS, and no breakpoint is on.
            unsafe {
                (0..).zip(msrs).for_each(|(n, &msr)| Msr::new(msr).write(value(n)));
                asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}", "mov cr2, {}",
                    in(reg) value(6), in(reg) value(7), in(reg) value(8), in(reg) value(9), in(reg) value(10));
            }
        }
        give_way()?;
        // SAFETY: the MSRs are there, and reading them has no effect.
        if !(0..).zip(msrs).all(|(n, &msr)| unsafe { Msr::new(msr).read() } == value(n)) {
            return Err(Wrong::Other("an MSR holds another value"));
        }
        if live_registers() != [6, 7, 8, 9, 10].map(value) {
            return Err(Wrong::Other("a debug register or CR2 holds another value"));
        }
    }
    Ok(())
}

/// Where the xAPIC has no register.
const APIC_HOLE: u64 = 0xfee0_0400;

/// In x2APIC mode the page of the xAPIC is nothing; if it can be written, then to nobody's notice.
fn apic_page() -> Verdict {
    let at = APIC_HOLE as *mut u64;
    for turn in 0..TURNS {
        // SAFETY: identity mapped, uncached, and nothing of the guest's.
        let found = unsafe { at.read_volatile() };
        // Another VM's mark has the same upper bits and another tag.
        if found >> 48 == tag() >> 48 && found >> 32 != tag() >> 32 {
            return Err(Wrong::Other("a neighbour's mark is in the local APIC's page"));
        }
        if turn == TURNS - 1 {
            println!("@hostile apic-page reads {found:#x}");
        }
        // SAFETY: as above.
        unsafe { at.write_volatile(tag() | turn) };
        give_way()?;
    }
    Ok(())
}

const KERNEL_GS_BASE: u32 = 0xc000_0102;
const TSC_ADJUST: u32 = 0x3b;
/// Enabled, the bootstrap processor's, in xAPIC mode, at the default address.
const APIC_BASE: u64 = 0xfee0_0900;
/// TSC ticks in which a timer of the run before would come.
const WAIT: u64 = 1_000_000;

static TIMER_CAME: AtomicBool = AtomicBool::new(false);

fn timer_came(_: &mut Frame) {
    TIMER_CAME.store(true, Ordering::Relaxed);
    apic::end_of_interrupt();
}

/// Finds the VM as at its first start, changes what it can, and resets it. Each run is the judge of
/// the reset before it; that the area can be registered is seen by the kernel, which has done it.
fn reset() -> Verdict {
    with_sse(|| {
        find_reset_state()?;
        println!("@hostile reset sound");
        leave_traces();
        match sys::reset() {
            Err(_) => Err(Wrong::Other("sys.reset is refused")),
            Ok(_) => Err(Wrong::Other("the guest goes on")),
        }
    })
}

/// Places in RAM that neither the image nor its loader uses.
fn markers() -> [*mut u64; 2] {
    let end = info::memory().map(|r| r.end).max().unwrap_or(0);
    [(end / 2) as *mut u64, (end - 8) as *mut u64]
}

fn find_reset_state() -> Verdict {
    let sound = |is: bool, why| if is { Ok(()) } else { Err(Wrong::Other(why)) };
    sound(apic::base_at_entry() == APIC_BASE, "the local APIC is not in its first mode")?;
    // SAFETY: the MSRs are there, and reading them has no effect.
    let msr = |msr| unsafe { Msr::new(msr).read() };
    sound(msr(TSC_ADJUST) == 0, "TSC_ADJUST is not 0")?;
    sound(msr(KERNEL_GS_BASE) == 0, "KERNEL_GS_BASE is not 0")?;
    let dr0: u64;
    // SAFETY: reading it has no effect.
    unsafe { asm!("mov {}, dr0", out(reg) dr0) };
    sound(dr0 == 0, "DR0 is not 0")?;
    sound(xmm() == [0; 32], "the vector registers are not 0")?;
    for marker in markers() {
        // SAFETY: RAM that nobody uses.
        sound(unsafe { marker.read_volatile() } == 0, "RAM is not 0")?;
    }
    interrupts::handle(TIMER_VECTOR, timer_came);
    cpu_interrupts::enable();
    let begin = timer::now();
    while timer::now() - begin < WAIT {}
    cpu_interrupts::disable();
    sound(!TIMER_CAME.load(Ordering::Relaxed), "the timer of the run before came")
}

/// The timer is armed so that it would come while the next run waits, whether the TSC goes on or not:
/// it is set back to where this run began to wait.
fn leave_traces() {
    for marker in markers() {
        // SAFETY: RAM that nobody uses.
        unsafe { marker.write_volatile(tag()) };
    }
    load_xmm(&[tag(); 32]);
    // SAFETY: nothing here uses the GS base, the breakpoint is off, and nothing measures across the
    // change of the TSC.
    unsafe {
        asm!("mov dr0, {}", in(reg) tag());
        Msr::new(KERNEL_GS_BASE).write(tag() & 0xffff_ffff);
        Msr::new(TSC_ADJUST).write(WAIT.wrapping_neg());
    }
    timer::arm(timer::now() + WAIT / 2);
}
