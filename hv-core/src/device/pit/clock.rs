//! Ticks of the timer's input, counted from the start of the VM.

/// The frequency of CLK, in hertz.
pub const FREQUENCY: u64 = 1_193_182;

const NANOSECONDS: u64 = 1_000_000_000;

/// How many ticks have ended at `now`.
pub(super) fn tick(now: u64) -> u64 {
    scale(now, FREQUENCY, NANOSECONDS, 0).unwrap_or(u64::MAX)
}

/// When tick `tick` ends: the first nanosecond at which [`tick`] counts it.
pub(super) fn time(tick: u64) -> Option<u64> {
    scale(tick, NANOSECONDS, FREQUENCY, FREQUENCY.wrapping_sub(1))
}

fn scale(value: u64, num: u64, den: u64, round: u64) -> Option<u64> {
    let scaled = u128::from(value).wrapping_mul(num.into()).wrapping_add(round.into());
    u64::try_from(scaled.checked_div(den.into())?).ok()
}
