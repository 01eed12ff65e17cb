//! Time: nanoseconds from the TSC.

use core::sync::atomic::{AtomicU64, Ordering};

use pv_abi::area::Clock;

use crate::area;
use crate::site::{Key, enabled};

const NS_PER_SECOND: u128 = 1_000_000_000;

/// Nanoseconds per TSC tick, times 2^32; 0 while unknown.
static NATIVE: AtomicU64 = AtomicU64::new(0);

/// The TSC. It is not ordered with the instructions around it.
#[inline]
pub fn tsc() -> u64 {
    // SAFETY: kernels run at CPL 0, where RDTSC is always allowed.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Nanoseconds at `tsc`, as the ABI defines it. A TSC before the clock's base is taken as the base,
/// so that time does not jump by centuries.
pub const fn nanoseconds(clock: &Clock, tsc: u64) -> u64 {
    let ticks = tsc.saturating_sub(clock.tsc_base);
    let product = ticks as u128 * clock.multiplier as u128;
    clock.ns_base.wrapping_add((product >> (clock.shift & 63)) as u64)
}

/// Tells the TSC's frequency in Hz, for the native clock; 0 makes it unknown.
pub fn set_tsc_hz(hz: u64) {
    NATIVE.store(multiplier(hz), Ordering::Relaxed);
}

fn multiplier(hz: u64) -> u64 {
    let multiplier = (NS_PER_SECOND << 32).checked_div(hz.into()).unwrap_or(0);
    u64::try_from(multiplier).unwrap_or(u64::MAX)
}

fn native(tsc: u64) -> Option<u64> {
    let multiplier = NATIVE.load(Ordering::Relaxed);
    let clock = Clock { multiplier, shift: 32, ..Clock::default() };
    (multiplier != 0).then(|| nanoseconds(&clock, tsc))
}

/// Nanoseconds since the VM started or, natively, since the TSC was 0; `None` if the TSC's
/// frequency is not known. Monotonic on one CPU, and to within a nanosecond from one to another as
/// far as their TSCs are.
#[inline]
pub fn now() -> Option<u64> {
    if enabled::<{ Key::Clock as u32 }>()
        && let Some(area) = area::current()
    {
        return Some(nanoseconds(&area.clock(), tsc()));
    }
    native(tsc())
}

/// As [`now`], but where RDTSC exits it is the time of the last entry: up to a time slice old,
/// and free. Do not wait in a loop for it to advance.
#[inline]
pub fn coarse() -> Option<u64> {
    if enabled::<{ Key::TscExits as u32 }>()
        && let Some(area) = area::current()
    {
        return Some(nanoseconds(&area.clock(), area.entered()));
    }
    now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_product_has_128_bits() {
        let clock = Clock {
            tsc_base: 1000,
            ns_base: 5,
            multiplier: 1 << 31, // half a nanosecond a tick
            shift: 32,
            ..Clock::default()
        };
        assert_eq!(nanoseconds(&clock, 1000), 5);
        assert_eq!(nanoseconds(&clock, 1003), 6, "rounded down");
        // 2^40 ticks times 2^31 does not fit into 64 bits.
        assert_eq!(nanoseconds(&clock, 1000 + (1 << 40)), 5 + (1 << 39));
        assert_eq!(nanoseconds(&clock, 0), 5, "before the base");
    }

    #[test]
    fn a_day_at_three_gigahertz_is_exact_to_the_microsecond() {
        let clock = Clock { multiplier: multiplier(3_000_000_000), shift: 32, ..Clock::default() };
        let day = 86_400 * NS_PER_SECOND as u64;
        assert!(day.abs_diff(nanoseconds(&clock, 86_400 * 3_000_000_000)) < 100_000);
        assert_eq!(multiplier(0), 0);
    }
}
