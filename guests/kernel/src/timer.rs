//! One-shot deadlines in TSC ticks, and the rates that they need.

use core::hint;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::{Operations, clock, cpuid, timer};

use crate::apic::{self, TIMER_VECTOR};
use crate::pv;

pub use x86_64::clock::tsc as now;
pub use x86_64::idle::halt_until;
pub use x86_64::timer::arm;

/// How long the APIC timer is held against the TSC, in TSC ticks.
const CALIBRATION: u64 = 4_000_000;
/// The TSC's frequency where nothing tells it. A clock that counts ticks costs the same to read.
const UNKNOWN_HZ: u64 = 1_000_000_000;

/// The TSC's frequency, as far as it is known.
static HZ: AtomicU64 = AtomicU64::new(UNKNOWN_HZ);

/// Prepares the timer of the CPU that executes this.
pub(crate) fn prepare() {
    // SAFETY: the vector has a stub, and the guests that arm the timer install its handler.
    unsafe { timer::setup(TIMER_VECTOR) };
}

/// Prepares the timer, whenever the local APIC has been enabled.
pub fn init() {
    prepare();
    if let Some(paravane) = pv::paravane() {
        // The shim has taken the rates from CPUID.
        HZ.store(paravane.tsc_hz, Ordering::Relaxed);
        return;
    }
    let hz = tsc_hz().unwrap_or(UNKNOWN_HZ);
    HZ.store(hz, Ordering::Relaxed);
    clock::set_tsc_hz(hz);
    if x86_64::operations().contains(Operations::ONE_SHOT) {
        let (apic_ticks, tsc_ticks) = calibrate();
        timer::set_rate(apic_ticks, tsc_ticks);
    }
}

/// Waits for a condition, for some microseconds at most, and says whether it came to be.
pub fn spin_until(microseconds: u64, mut condition: impl FnMut() -> bool) -> bool {
    let begin = now();
    while !condition() {
        if now() - begin >= ticks(microseconds) {
            return condition();
        }
        hint::spin_loop();
    }
    true
}

/// Waits for some microseconds. Without PAUSE: machines on which CPUs take turns end a turn at each.
pub fn delay(microseconds: u64) {
    let begin = now();
    while now() - begin < ticks(microseconds) {}
}

/// How many TSC ticks are that many microseconds.
pub fn ticks(microseconds: u64) -> u64 {
    microseconds * (HZ.load(Ordering::Relaxed) / 1_000_000)
}

/// How many APIC timer ticks pass in how many TSC ticks.
fn calibrate() -> (u64, u64) {
    apic::set_timer_count(u32::MAX);
    let begin = now();
    while now() - begin < CALIBRATION {}
    let passed = (u64::from(u32::MAX - apic::timer_count()), now() - begin);
    apic::set_timer_count(0);
    passed
}

/// The frequency as CPUID.15H tells it (SDM vol. 3, Time-Stamp Counter).
fn tsc_hz() -> Option<u64> {
    if cpuid::cpuid(0, 0).eax < 0x15 {
        return None;
    }
    let tsc = cpuid::cpuid(0x15, 0);
    let hz = u64::from(tsc.ecx) * u64::from(tsc.ebx);
    hz.checked_div(u64::from(tsc.eax)).filter(|&hz| hz != 0)
}
