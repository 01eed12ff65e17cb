//! The APIC timer, counted in guest TSC ticks (SDM vol. 3, APIC Timer).

use core::num::NonZeroU32;

/// The frequency that the timer counts at before its divider, as a fraction of the guest's TSC
/// frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerRatio {
    /// Timer ticks ...
    pub num: NonZeroU32,
    /// ... in this many TSC ticks.
    pub den: NonZeroU32,
}

impl TimerRatio {
    /// The timer counts at the TSC's frequency.
    pub const ONE: TimerRatio = TimerRatio { num: NonZeroU32::MIN, den: NonZeroU32::MIN };

    /// `num` timer ticks in `den` TSC ticks, or `None` if one of them is 0.
    pub const fn new(num: u32, den: u32) -> Option<TimerRatio> {
        match (NonZeroU32::new(num), NonZeroU32::new(den)) {
            (Some(num), Some(den)) => Some(TimerRatio { num, den }),
            _ => None,
        }
    }
}

/// Bits 18:17 of the timer's LVT entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    OneShot,
    Periodic,
    Deadline,
    Reserved,
}

const MASKED: u32 = 1 << 16;

/// The parts of the timer that the registers alone do not tell. It keeps its own copy of the LVT
/// entry because the CPU may overwrite the one in the page before software sees the change.
#[derive(Clone, Debug)]
pub(super) struct Timer {
    ratio: TimerRatio,
    shortest_period: u64,
    lvt: u32,
    initial: u32,
    divide_log2: u32,
    /// Guest TSC at which the count reaches 0, or the deadline.
    expiry: Option<u64>,
}

impl Timer {
    pub(super) const fn new(ratio: TimerRatio, shortest_period: u64) -> Timer {
        Timer { ratio, shortest_period, lvt: MASKED, initial: 0, divide_log2: 1, expiry: None }
    }

    pub(super) fn reset(&mut self) {
        *self = Timer::new(self.ratio, self.shortest_period);
    }

    fn mode(&self) -> Mode {
        match self.lvt >> 17 & 3 {
            0 => Mode::OneShot,
            1 => Mode::Periodic,
            2 => Mode::Deadline,
            _ => Mode::Reserved,
        }
    }

    pub(super) fn is_deadline(&self) -> bool {
        self.mode() == Mode::Deadline
    }

    /// When [`Timer::expire`] must be called for an interrupt to be in time. A masked timer needs
    /// no attention: what it did meanwhile is worked out when somebody looks.
    #[inline]
    pub(super) fn due(&self) -> Option<u64> {
        if self.lvt & MASKED == 0 { self.expiry } else { None }
    }

    /// Brings the timer up to `now`; true if its interrupt fires. However many periods have passed,
    /// it fires once: the IRR holds no more.
    pub(super) fn expire(&mut self, now: u64) -> bool {
        if self.expiry.is_none_or(|expiry| expiry > now) {
            return false;
        }
        self.expiry = self.next(now);
        self.lvt & MASKED == 0
    }

    /// The first expiry after `now`.
    fn next(&self, now: u64) -> Option<u64> {
        let expiry = self.expiry?;
        if expiry > now {
            return Some(expiry);
        }
        match (self.mode(), self.ticks(self.initial)) {
            (Mode::Periodic, period @ 1..) => {
                let interrupts = self.lvt & MASKED == 0;
                let period = if interrupts { period.max(self.shortest_period) } else { period };
                let late = now.wrapping_sub(expiry).checked_rem(period).unwrap_or(0);
                Some(now.saturating_add(period.saturating_sub(late)))
            }
            _ => None,
        }
    }

    /// TSC ticks in which the timer counts from `count` to 0, rounded up.
    fn ticks(&self, count: u32) -> u64 {
        let scaled = u128::from(count)
            .wrapping_shl(self.divide_log2)
            .wrapping_mul(u128::from(self.ratio.den.get()));
        let ticks = scaled.div_ceil(u128::from(self.ratio.num.get()));
        u64::try_from(ticks).unwrap_or(u64::MAX)
    }

    /// The guest's TSC has moved by `delta`: a countdown goes on, a deadline stays where it is.
    pub(super) fn time_moved(&mut self, delta: u64) {
        if !self.is_deadline() {
            self.expiry = self.expiry.map(|expiry| expiry.wrapping_add(delta));
        }
    }

    /// The current-count register.
    pub(super) fn current(&self, now: u64) -> u32 {
        let Some(expiry) = self.next(now).filter(|_| !self.is_deadline()) else { return 0 };
        let left = u128::from(expiry.saturating_sub(now));
        let step = u128::from(self.ratio.den.get()).wrapping_shl(self.divide_log2);
        let count = left.wrapping_mul(u128::from(self.ratio.num.get())).div_ceil(step);
        u32::try_from(count).unwrap_or(u32::MAX).min(self.initial)
    }

    /// Writing the initial count starts the countdown; 0 stops it. In TSC-deadline mode the write
    /// is ignored.
    pub(super) fn set_initial(&mut self, count: u32, now: u64) {
        if self.is_deadline() {
            return;
        }
        self.initial = count;
        self.expiry = (count != 0).then(|| now.saturating_add(self.ticks(count)));
    }

    pub(super) fn initial(&self) -> u32 {
        self.initial
    }

    /// The divide configuration: bits 3, 1 and 0. A countdown under way goes on at the new speed.
    pub(super) fn set_divide(&mut self, value: u32, now: u64) {
        let code = (value >> 1 & 4) | (value & 3);
        let divide_log2 = code.wrapping_add(1) & 7;
        if !self.is_deadline() {
            self.expiry = self.expiry.map(|expiry| {
                let left = u128::from(expiry.saturating_sub(now));
                let left = left.wrapping_shl(divide_log2).wrapping_shr(self.divide_log2);
                now.saturating_add(u64::try_from(left).unwrap_or(u64::MAX))
            });
        }
        self.divide_log2 = divide_log2;
    }

    /// Takes over a new LVT entry. A change to or from TSC-deadline mode disarms the timer.
    pub(super) fn set_lvt(&mut self, lvt: u32) {
        let was_deadline = self.is_deadline();
        self.lvt = lvt;
        if was_deadline != self.is_deadline() {
            self.expiry = None;
            self.initial = 0;
        }
    }

    pub(super) fn lvt(&self) -> u32 {
        self.lvt
    }

    /// IA32_TSC_DEADLINE: 0 in the other modes and when disarmed.
    pub(super) fn deadline(&self, now: u64) -> u64 {
        self.next(now).filter(|_| self.is_deadline()).unwrap_or(0)
    }

    /// The deadline becomes `tsc`, which is ahead; `false` if the timer is in another mode, or an old
    /// deadline has passed and is to be served first.
    #[inline(always)]
    pub(super) fn move_ahead(&mut self, tsc: u64, now: u64) -> bool {
        let moves = self.is_deadline() && self.expiry.is_none_or(|expiry| expiry > now);
        if moves {
            self.expiry = Some(tsc);
        }
        moves
    }

    /// Writing IA32_TSC_DEADLINE: 0 disarms. Ignored in the other modes.
    pub(super) fn set_deadline(&mut self, tsc: u64) {
        if self.is_deadline() {
            self.expiry = (tsc != 0).then_some(tsc);
        }
    }
}
