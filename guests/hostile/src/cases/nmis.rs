//! Non-maskable interrupts: what blocks them, and what their handler's IRET does.

use core::arch::x86_64::__cpuid;
use core::hint;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use guest_kernel::apic;
use guest_kernel::descriptors::selector;
use guest_kernel::interrupts::{self, Frame, Handler};
use x86_64::instructions::interrupts as cpu_interrupts;

use super::shadows::step_over_cpuid;
use super::{Action, Case, Expected, Verdict, Wrong};

const fn any(name: &'static str, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Survives, needs_pv: false, action: Action::Run(run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    any("nmi-blocks-nmi", nmi_blocks_nmi),
    any("nmi-iret-faults", || HANDLERS.iter().try_for_each(|&handler| nmi_iret_faults(handler))),
];

const NMI: u8 = 2;
/// Loop rounds in which an NMI that is not blocked comes.
const PATIENCE: u32 = 100_000;

static NMIS: AtomicU32 = AtomicU32::new(0);
/// Where the first NMI's frame is: what it interrupted has its stack above.
static FIRST: AtomicU64 = AtomicU64::new(0);
static NESTED: AtomicBool = AtomicBool::new(false);
static INTERRUPTS_WERE_ON: AtomicBool = AtomicBool::new(false);

/// The first NMI's handler sends two more. Exits and time pass before its IRET.
fn send_more(frame: &mut Frame) {
    const INTERRUPT_FLAG: u64 = 1 << 9;
    if frame.rflags & INTERRUPT_FLAG != 0 {
        INTERRUPTS_WERE_ON.store(true, Ordering::Relaxed);
    }
    if NMIS.fetch_add(1, Ordering::Relaxed) == 0 {
        FIRST.store((&raw const *frame) as u64, Ordering::Relaxed);
        for _ in 0..2 {
            apic::send_nmi_to_self();
            hint::black_box(__cpuid(0));
        }
        (0..PATIENCE).for_each(|_| hint::spin_loop());
    } else if frame.rsp <= FIRST.load(Ordering::Relaxed) {
        NESTED.store(true, Ordering::Relaxed);
    }
}

/// An NMI comes although interrupts are disabled. What comes before its handler's IRET waits for
/// that, and of several one is kept (SDM vol. 3, Handling Multiple NMIs).
fn nmi_blocks_nmi() -> Verdict {
    cpu_interrupts::disable();
    interrupts::handle(NMI, send_more);
    apic::send_nmi_to_self();
    for _ in 0..PATIENCE {
        hint::spin_loop();
    }
    interrupts::forget(NMI);
    if INTERRUPTS_WERE_ON.load(Ordering::Relaxed) {
        return Err(Wrong::Other("interrupts were enabled"));
    }
    if NESTED.load(Ordering::Relaxed) {
        return Err(Wrong::Other("an NMI came before the IRET of the one before"));
    }
    match NMIS.load(Ordering::Relaxed) {
        2 => Ok(()),
        0 => Err(Wrong::Other("the NMI did not come")),
        1 => Err(Wrong::Other("the NMI that was sent while NMIs were blocked did not come")),
        _ => Err(Wrong::Other("more than one NMI was kept while NMIs were blocked")),
    }
}

/// A selector outside the GDT, which IRET refuses by #GP.
const NO_SEGMENT: u64 = 0x7ff8;
const TRAP_FLAG: u64 = 1 << 8;
const GP: u8 = 13;
/// Those of the #GP: one returns what it found, one clears the trap flag to be sure.
const HANDLERS: [Handler; 2] = [repair, |frame| {
    repair(frame);
    frame.rflags &= !TRAP_FLAG;
}];

static FAULTS: AtomicU32 = AtomicU32::new(0);
static STEPPED: AtomicBool = AtomicBool::new(false);

/// The first NMI's handler cannot return to where it came from.
fn lose_segment(frame: &mut Frame) {
    if NMIS.fetch_add(1, Ordering::Relaxed) == 0 {
        frame.cs = NO_SEGMENT;
    }
}

/// Gives IRET the segment back. Its frame is on the stack that the #GP found.
fn repair(frame: &mut Frame) {
    FAULTS.fetch_add(1, Ordering::Relaxed);
    STEPPED.fetch_or(frame.rflags & TRAP_FLAG != 0, Ordering::Relaxed);
    // SAFETY: the handler's IRET is the one instruction here that causes a #GP, and it has not moved
    // the stack pointer: CS is the second word of what it returns to.
    unsafe { (frame.rsp as *mut u64).add(1).write(selector::KERNEL_CODE) };
}

/// Sends an NMI; whether there were `count` of them in the end.
fn nmi_comes(count: u32) -> bool {
    apic::send_nmi_to_self();
    (0..PATIENCE).any(|_| {
        hint::spin_loop();
        NMIS.load(Ordering::Relaxed) == count
    })
}

/// An IRET that faults and is repeated returns, and NMIs and single steps are as before. However the
/// end of the blocking is noticed, the guest sees no trap flag that it has not set.
fn nmi_iret_faults(handler: Handler) -> Verdict {
    let sound = |is: bool, why| if is { Ok(()) } else { Err(Wrong::Other(why)) };
    cpu_interrupts::disable();
    NMIS.store(0, Ordering::Relaxed);
    FAULTS.store(0, Ordering::Relaxed);
    interrupts::handle(NMI, lose_segment);
    interrupts::handle(GP, handler);
    let came = [nmi_comes(1), nmi_comes(2)];
    interrupts::forget(GP);
    interrupts::forget(NMI);
    sound(came[0], "the NMI did not come")?;
    sound(FAULTS.load(Ordering::Relaxed) == 1, "the IRET did not fault once")?;
    sound(!STEPPED.load(Ordering::Relaxed), "the #GP found a trap flag that nobody set")?;
    sound(came[1], "no NMI came after the IRET that was repeated")?;
    step_over_cpuid()
}
