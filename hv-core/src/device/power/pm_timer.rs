//! The ACPI power management timer (ACPI specification, Power Management Timer).

/// How many times a second it counts.
pub const FREQUENCY: u64 = 3_579_545;
const SECOND: u64 = 1_000_000_000;

/// How many bits it has. FADT's flag TMR_VAL_EXT says 32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerWidth {
    /// 24: it wraps each 4.7 seconds.
    Bits24,
    /// 32: it wraps each 20 minutes.
    Bits32,
}

/// What a PC here has. Its carry, and with that the SCI, is rare.
pub const TIMER_WIDTH: TimerWidth = TimerWidth::Bits32;

impl TimerWidth {
    const fn highest_bit(self) -> u32 {
        match self {
            TimerWidth::Bits24 => 23,
            TimerWidth::Bits32 => 31,
        }
    }

    /// What the timer reads.
    pub const fn value(self, now: u64) -> u32 {
        ticks(now) as u32 & u32::MAX >> 31u32.saturating_sub(self.highest_bit())
    }

    /// How often its highest bit has changed.
    pub(super) const fn carries(self, now: u64) -> u64 {
        ticks(now) >> self.highest_bit()
    }

    /// When its highest bit changes for the `carries`-th time.
    pub(super) const fn carry(self, carries: u64) -> u64 {
        time_of(carries.saturating_mul(1 << self.highest_bit()))
    }
}

/// Ticks since the VM started. Whole seconds apart from the rest, so that nothing overflows.
const fn ticks(now: u64) -> u64 {
    let rest = (now % SECOND).wrapping_mul(FREQUENCY) / SECOND;
    (now / SECOND).wrapping_mul(FREQUENCY).wrapping_add(rest)
}

/// The first nanosecond at which there have been this many ticks.
const fn time_of(ticks: u64) -> u64 {
    let rest = (ticks % FREQUENCY).wrapping_mul(SECOND).div_ceil(FREQUENCY);
    (ticks / FREQUENCY).saturating_mul(SECOND).saturating_add(rest)
}
