//! A CPU that takes no interrupts: what others ask of it ends all the same.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use guest_kernel::smp;
use guest_kernel::timer::{delay, now, ticks};
use guest_kernel::{info, println};
use x86_64::hypercall::smp as call;
use x86_64::instructions::interrupts as flag;

use super::smp::{VECTOR, all_is_well, begin, came, end, sound};
use super::{Action, Case, Expected, Verdict};

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "if0-loop",
        expected: Expected::Survives,
        needs_pv: true,
        action: Action::Several(if0_loop),
    },
    Case {
        name: "if0-exits",
        expected: Expected::Survives,
        needs_pv: true,
        action: Action::Several(if0_exits),
    },
];

/// Flushes of `if0-loop`, each with an interrupt and a kick before it, and microseconds between two: they come at
/// every time of a slice.
const ROUNDS: u64 = 20;
const PAUSE_US: u64 = 130;
/// Flushes of `if0-exits`: they come at every instruction of an exit.
const PHASES: u64 = 500;
/// How long a flush may take, in microseconds, unless the command line says it: some slices as they come.
const BOUND_US: u64 = 100_000;

/// The round in which the deaf CPU is, counted from 1.
static ROUND: AtomicU64 = AtomicU64::new(0);
/// The last that has been allowed to end.
static ENDS: AtomicU64 = AtomicU64::new(0);
static LONGEST: AtomicU64 = AtomicU64::new(0);
static DEAF: AtomicU64 = AtomicU64::new(0);

/// Loops until the round may end. No instruction of the loop exits.
fn turn(round: u64) {
    ROUND.store(round, Ordering::Release);
    // SAFETY: reads a word that is there for good.
    unsafe {
        asm!(
            "2: cmp [{}], {}", "jb 2b",
            in(reg) ENDS.as_ptr(), in(reg) round, options(nostack, readonly)
        );
    }
}

fn begins(round: u64) {
    while ROUND.load(Ordering::Acquire) != round {
        smp::relax();
    }
}

fn ends(round: u64) {
    ENDS.store(round, Ordering::Release);
}

/// Has the deaf CPU flush; how long that took, or nothing if the call is refused.
fn flush() -> Option<u64> {
    let deaf = DEAF.load(Ordering::Relaxed) as usize;
    let mask = 1 << smp::apic_id(deaf);
    let begin = now();
    call::send(VECTOR.into(), 0, mask).ok()?;
    call::kick(smp::apic_id(deaf).into()).ok()?;
    x86_64::smp::flush(mask).ok()?;
    let ticks = now() - begin;
    LONGEST.fetch_max(ticks, Ordering::Relaxed);
    Some(ticks)
}

/// Asks the CPU for everything that can be asked of it, again and again.
fn ask(cpu: usize) {
    for _ in 0..ROUNDS {
        delay(PAUSE_US * (cpu as u64 + 1));
        if flush().is_none() {
            return;
        }
    }
}

/// Runs a CPU without interrupts while the others do something; what others asked of it has to end.
fn beside(deaf_one: fn(usize), ask: fn(usize), rounds: u64) -> Verdict {
    let n = begin();
    let deaf = n - 1;
    let bound = info::options().number("bound-us").unwrap_or(BOUND_US);
    let before = came(deaf);
    DEAF.store(deaf as u64, Ordering::Relaxed);
    for word in [&ROUND, &ENDS, &LONGEST] {
        word.store(0, Ordering::Relaxed);
    }
    println!("@hostile CPU {deaf} takes no interrupts");
    smp::run_on(deaf, deaf_one);
    begins(1);
    (1..deaf).for_each(|cpu| smp::run_on(cpu, ask));
    ask(0);
    (1..deaf).for_each(smp::join);
    ends(rounds);
    smp::run_on_all(n, |_| ());
    let longest = LONGEST.load(Ordering::Relaxed);
    println!("@hostile a flush took {} us", longest / ticks(1).max(1));
    let verdict = sound(longest != 0, "a call was refused")
        .and_then(|()| sound(longest <= ticks(bound), "a flush took too long"))
        .and_then(|()| sound(came(deaf) > before, "no interrupt came after all"))
        .and_then(|()| all_is_well(n));
    end();
    verdict
}

/// The last CPU takes no interrupts while all others interrupt it, kick it and wait for it to flush.
fn if0_loop() -> Verdict {
    beside(
        |_| {
            flag::disable();
            turn(1);
            flag::enable();
        },
        ask,
        1,
    )
}

/// The same, where what CPU 0 asks comes while the other exits, at a later instruction each time, after which it
/// exits no more.
fn if0_exits() -> Verdict {
    beside(
        |_| {
            flag::disable();
            for round in 1..=PHASES {
                turn(round);
                core::hint::black_box(core::arch::x86_64::__cpuid(0));
            }
            flag::enable();
        },
        |cpu| {
            for round in 1..PHASES {
                if cpu != 0 {
                    break;
                }
                begins(round);
                ends(round);
                let phase = now() + round;
                while now() < phase {}
                if flush().is_none() {
                    return;
                }
            }
        },
        PHASES,
    )
}
