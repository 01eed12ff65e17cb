//! What CPUs can do to each other by calls.

use core::sync::atomic::{AtomicU64, Ordering};

use guest_kernel::smp::{self, CPUS, PV, operations, use_operations};
use pv_abi::Status::{self, *};
use pv_abi::call::{Number, smp as abi};
use x86_64::hypercall::{CallError, smp as call};
use x86_64::instructions::interrupts as flag;

use super::calls::{LOCAL_APIC, NOWHERE, SOMEWHERE, check, raw};
use super::smp::{VECTOR, all_is_well, begin, came, end, sound};
use super::{Action, Case, Expected, Verdict};

const fn several(name: &'static str, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Survives, needs_pv: true, action: Action::Several(run) }
}

/// The cases.
pub const CASES: &[Case] =
    &[several("smp-calls", smp_calls), several("smp-call-storm", smp_call_storm)];

/// Calls of every CPU in the storm.
const ROUNDS: u64 = 200;
/// Not canonical.
const CROOKED: u64 = 1 << 47;

fn refused(number: Number, arguments: [u64; 4], want: Status) -> Verdict {
    let [a, b, c, d] = arguments;
    check(&raw(number.0, [a, b, c, d, 0], 0, want))
}

/// Every wrong call, while the last CPU waits to be started: none is told of any, and that one starts at the
/// right call.
fn smp_calls() -> Verdict {
    let n = begin();
    let last = n as u64 - 1;
    let vector = u64::from(VECTOR);
    smp::stop(n - 1);
    let before: [u64; CPUS] = core::array::from_fn(came);
    for nobody in [smp::available() as u64, 64, 1 << 32, u64::MAX] {
        refused(abi::START, [nobody, SOMEWHERE, SOMEWHERE, 0], InvalidArgument)?;
        refused(abi::SEND, [vector, nobody, 1, 0], InvalidArgument)?;
        refused(abi::SEND, [vector, nobody - 1, 0b11, 0], InvalidArgument)?;
        refused(abi::FLUSH, [nobody, 1, 0, 0], InvalidArgument)?;
        refused(abi::KICK, [nobody, 0, 0, 0], InvalidArgument)?;
        refused(abi::YIELD_TO, [nobody, 0, 0, 0], InvalidArgument)?;
    }
    refused(abi::SEND, [vector, 0, u64::MAX, 0], InvalidArgument)?;
    refused(abi::FLUSH, [0, u64::MAX, 0, 0], InvalidArgument)?;
    for wrong in [0, 2, 15, 256, 1 << 32 | vector] {
        refused(abi::SEND, [wrong, 0, 1, 0], InvalidArgument)?;
        refused(abi::SEND, [wrong, 0, 0, 0], InvalidArgument)?;
    }
    for tables in [NOWHERE, LOCAL_APIC, 1 << 52, !0xfff] {
        refused(abi::START, [last, CROOKED, tables, 0], BadAddress)?;
        refused(abi::START, [u64::MAX, CROOKED, tables | 8, 0], Misaligned)?;
    }
    for entry in [CROOKED, 1 << 63, u64::MAX >> 16] {
        refused(abi::START, [last, entry, SOMEWHERE, 0], InvalidArgument)?;
    }
    // This CPU runs, and so does every one but the last.
    for cpu in 0..last {
        refused(abi::START, [cpu, SOMEWHERE, SOMEWHERE, 0], AlreadyDone)?;
    }
    refused(Number::new(abi::EXTENSION, 6), [0; 4], UnknownFunction)?;
    // Those that name nobody do nothing.
    refused(abi::SEND, [vector, u64::MAX, 0, 0], Success)?;
    refused(abi::FLUSH, [u64::MAX, 0, 0, 0], Success)?;
    flag::enable();
    let same = (0..n).all(|cpu| came(cpu) == before[cpu]);
    flag::disable();
    sound(same, "a refused call interrupted a CPU")?;
    let verdict = sound(starts_by_call(n - 1), "a CPU does not start by a call")
        .and_then(|()| refused(abi::START, [last, SOMEWHERE, SOMEWHERE, 0], AlreadyDone))
        .and_then(|()| all_is_well(n));
    end();
    verdict
}

/// Starts a CPU that was stopped, by a call whatever else is in use.
fn starts_by_call(cpu: usize) -> bool {
    let others = operations();
    use_operations(&PV);
    let started = smp::start_again(cpu);
    use_operations(others);
    started
}

/// CPUs that are in the storm, as the calls name them.
static TAKING_PART: AtomicU64 = AtomicU64::new(0);
/// Calls that were refused.
static REFUSED: AtomicU64 = AtomicU64::new(0);

fn judge<T>(result: Result<T, CallError>) {
    if !matches!(result, Ok(_) | Err(CallError::Again(_))) {
        REFUSED.fetch_add(1, Ordering::Relaxed);
    }
}

/// What each CPU does in the storm.
fn storm(cpu: usize) {
    let all = TAKING_PART.load(Ordering::Relaxed);
    let this = smp::apic_id(cpu).into();
    let next = smp::apic_id((cpu + 1) % all.count_ones() as usize).into();
    for _ in 0..ROUNDS {
        judge(call::flush(0, all));
        judge(call::send(VECTOR.into(), 0, all));
        judge(call::kick(next));
        judge(call::yield_to(next));
        judge(x86_64::smp::flush(all));
        // Its own kick ends the wait if no other's does.
        judge(call::kick(this));
        judge(call::wait());
    }
}

/// Every CPU flushes, interrupts, kicks and waits for all at the same time, and all come to an end.
fn smp_call_storm() -> Verdict {
    let n = begin();
    let all = (0..n).fold(0, |mask, cpu| mask | 1 << smp::apic_id(cpu));
    TAKING_PART.store(all, Ordering::Relaxed);
    REFUSED.store(0, Ordering::Relaxed);
    flag::enable();
    smp::run_on_all(n, storm);
    // What was sent last comes when each has run once more.
    smp::run_on_all(n, |_| ());
    flag::disable();
    let verdict = sound(REFUSED.load(Ordering::Relaxed) == 0, "a call was refused")
        .and_then(|()| all_is_well(n));
    end();
    verdict
}
