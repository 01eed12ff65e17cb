//! What every CPU does by its own area, with the exits that it counts there.

use core::arch::x86_64::_mm_lfence;
use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};

use guest_kernel::apic::{self, SELF_VECTOR, TIMER_VECTOR};
use guest_kernel::interrupts::{self, Frame};
use guest_kernel::smp::{self, CPUS};
use guest_kernel::{println, timer};
use pv_abi::exit::Reason;
use x86_64::area::{self, Area};
use x86_64::clock;
use x86_64::instructions::interrupts as flag;

use super::smp::sound;
use super::{Action, Case, Expected, Verdict};

/// The cases.
pub const CASES: &[Case] = &[Case {
    name: "areas",
    expected: Expected::Depends,
    needs_pv: true,
    action: Action::Several(areas),
}];

/// Times of each deed, and looks at the clock to see whether it goes back.
const TIMES: u64 = 100;
const LOOKS: u64 = 2000;
/// How far ahead deadlines lie, in TSC ticks: one that is waited for, and one that never comes.
const SOON: u64 = 20_000;
const FAR: u64 = 1 << 40;
/// How far ahead a deadline lies that a CPU leaves behind when it is stopped, and its first one when it has been
/// started, in microseconds: longer than it takes to stop it.
const LEFT: u64 = 100_000;
const FIRST: u64 = 120_000;
/// How long an interrupt may take, in microseconds.
const PATIENCE: u64 = 1_000_000;

/// What every CPU does so many times. What is needed once before is not counted.
struct Deed {
    name: &'static str,
    before: fn(),
    act: fn(u64),
}

const DEEDS: [Deed; 5] = [
    Deed {
        name: "clock",
        before: || (),
        act: |_| {
            black_box(clock::now());
        },
    },
    Deed { name: "later", before: || later(0), act: later },
    Deed { name: "tick", before: || timer::arm(0), act: |_| awaits(tick) },
    Deed { name: "self-ipi", before: || (), act: |_| awaits(send) },
    Deed { name: "halt", before: flag::disable, act: halt },
];

/// Exits that a deed took: by calls, by registers of the local APIC, and all.
type Exits = [u64; 3];

fn exits(area: &Area) -> Exits {
    const REGISTERS: [Reason; 4] =
        [Reason::MsrWrite, Reason::ApicAccess, Reason::ApicWrite, Reason::EoiInduced];
    let sum = |reasons: &[Reason]| reasons.iter().map(|&reason| area.exits(reason).count).sum();
    [sum(&[Reason::Hypercall]), sum(&REGISTERS), area.total_exits()]
}

static CAME: [AtomicU64; CPUS] = [const { AtomicU64::new(0) }; CPUS];
/// Interrupts that did not come, areas that are another CPU's, and clocks that went back.
static LOST: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);
static BACK: AtomicU64 = AtomicU64::new(0);
/// The latest time that any CPU has seen.
static LATEST: AtomicU64 = AtomicU64::new(0);
static TAKEN: [[[AtomicU64; 3]; DEEDS.len()]; CPUS] =
    [const { [const { [const { AtomicU64::new(0) }; 3] }; DEEDS.len()] }; CPUS];

fn came(_: &mut Frame) {
    CAME[smp::this()].fetch_add(1, Ordering::Relaxed);
    apic::end_of_interrupt();
}

fn taken_here() -> u64 {
    CAME[smp::this()].load(Ordering::Relaxed)
}

/// Does something that interrupts this CPU, and waits for that.
fn awaits(act: fn()) {
    let before = taken_here();
    act();
    let end = timer::now() + timer::ticks(PATIENCE);
    // Without PAUSE: loops of it exit.
    while taken_here() == before {
        if timer::now() > end {
            LOST.fetch_add(1, Ordering::Relaxed);
            return;
        }
    }
}

fn tick() {
    timer::arm(timer::now() + SOON);
}

fn send() {
    apic::send_to_self(SELF_VECTOR);
}

/// Interrupts are disabled before and after.
fn halt(_: u64) {
    let (before, deadline) = (taken_here(), timer::now() + SOON);
    while taken_here() == before {
        timer::halt_until(deadline);
        flag::disable();
    }
}

fn later(by: u64) {
    timer::arm(timer::now() + FAR + by * SOON);
}

/// Every CPU's part.
fn work(cpu: usize) {
    let own = area::current().filter(|area| area.vcpu() == smp::apic_id(cpu));
    let Some(area) = own else {
        WRONG.fetch_add(1, Ordering::Relaxed);
        return;
    };
    flag::enable();
    awaits(|| timer::arm(timer::now() + timer::ticks(FIRST)));
    for (deed, taken) in DEEDS.iter().zip(&TAKEN[cpu]) {
        (deed.before)();
        let before = exits(&area);
        (0..TIMES).for_each(deed.act);
        for (taken, (after, before)) in taken.iter().zip(exits(&area).into_iter().zip(before)) {
            taken.store(after - before, Ordering::Relaxed);
        }
    }
    // With interrupts disabled, as the last deed leaves it, nothing comes between the two looks.
    for _ in 0..LOOKS {
        let latest = LATEST.load(Ordering::SeqCst);
        // SAFETY: a fence; the TSC is read behind what the time is compared with.
        unsafe { _mm_lfence() };
        let now = clock::now().unwrap_or(0);
        BACK.fetch_add(u64::from(now < latest), Ordering::Relaxed);
        LATEST.fetch_max(now, Ordering::SeqCst);
    }
}

/// What INIT must make forgotten: a deadline that is armed, so that a later one would need no call.
fn leave_a_deadline(_: usize) {
    timer::arm(timer::now() + timer::ticks(LEFT));
}

/// Every CPU uses its area, and again when all but this one were stopped and started.
fn areas() -> Verdict {
    interrupts::handle(TIMER_VECTOR, came);
    interrupts::handle(SELF_VECTOR, came);
    let n = smp::start(CPUS);
    for life in 1..=2 {
        smp::run_on_all(n, work);
        for (cpu, taken) in TAKEN[..n].iter().enumerate() {
            for (deed, taken) in DEEDS.iter().zip(taken) {
                let [calls, registers, all] = taken.each_ref().map(|c| c.load(Ordering::Relaxed));
                let name = deed.name;
                println!(
                    "@hostile area life={life} cpu={cpu} {name} calls={calls} registers={registers} exits={all}"
                );
            }
        }
        for cpu in 1..n {
            smp::run_on(cpu, leave_a_deadline);
            smp::join(cpu);
            smp::stop(cpu);
            sound(smp::start_again(cpu), "a CPU that was stopped does not start")?;
        }
    }
    let none = |count: &AtomicU64| count.load(Ordering::Relaxed) == 0;
    sound(none(&WRONG), "a CPU has another's area, or none")?;
    sound(none(&LOST), "an interrupt did not come")?;
    sound(none(&BACK), "the clock went back")
}
