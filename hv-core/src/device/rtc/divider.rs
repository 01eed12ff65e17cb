//! Register A and the divider chain: when seconds end, and ticks of the periodic interrupt.

const SECOND: u64 = 1_000_000_000;
const NANOSECONDS: u128 = SECOND as u128;

/// How long before an update UIP announces it.
const UPDATE_IN_PROGRESS: u64 = 244_000;

/// 32.768 kHz, and 1024 Hz for the periodic interrupt: what a BIOS leaves in register A.
const DEFAULT_A: u8 = 0x26;

const TIME_BASE_32_KHZ: u8 = 0x20;

#[derive(Clone, Debug)]
pub(super) struct Divider {
    /// Bits 6:0 of register A.
    control: u8,
    /// Nanoseconds in a second of the VM at which a second of the clock ends.
    phase: u64,
}

impl Divider {
    pub(super) const fn new() -> Divider {
        Divider { control: DEFAULT_A, phase: 0 }
    }

    pub(super) fn control(&self) -> u8 {
        self.control
    }

    /// A write to register A. Half a second after the chain is released, a second ends.
    pub(super) fn set_control(&mut self, value: u8, now: u64) {
        let stood = !self.runs();
        self.control = value & 0x7f;
        if stood {
            self.phase = (now % SECOND).wrapping_add(SECOND / 2) % SECOND;
        }
    }

    /// Whether one of the three time bases is selected.
    pub(super) fn runs(&self) -> bool {
        self.control & 0x70 <= TIME_BASE_32_KHZ
    }

    /// How many seconds have ended; only differences mean something.
    pub(super) fn seconds(&self, now: u64) -> u64 {
        self.count(now, 1)
    }

    /// When the second ends that is the first for [`Divider::seconds`] to be `second`.
    pub(super) fn time_of_second(&self, second: u64) -> Option<u64> {
        self.time(second, 1)
    }

    /// The bit of register A that announces the end of a second.
    pub(super) fn is_update_near(&self, now: u64) -> bool {
        let end = self.seconds(now).checked_add(1).and_then(|second| self.time_of_second(second));
        end.is_some_and(|end| end.saturating_sub(now) <= UPDATE_IN_PROGRESS)
    }

    /// How many ticks of the periodic interrupt there were; only differences mean something.
    pub(super) fn ticks(&self, now: u64) -> u64 {
        self.rate().map_or(0, |rate| self.count(now, rate))
    }

    /// The first tick after `now`.
    pub(super) fn next_tick(&self, now: u64) -> Option<u64> {
        let rate = self.rate()?;
        self.time(self.count(now, rate).checked_add(1)?, rate)
    }

    /// The rate that is selected, in hertz.
    fn rate(&self) -> Option<u64> {
        let tap = match (self.control & 0x0f, self.control & 0x70) {
            (0, _) => return None,
            // The chain of the slow crystal begins behind the first taps.
            (tap @ 1..=2, TIME_BASE_32_KHZ) => tap.wrapping_add(7),
            (tap, _) => tap,
        };
        self.runs().then(|| 0x1_0000u64.wrapping_shr(tap.into()))
    }

    /// Counts at `rate` from an end of a second before the VM started.
    fn count(&self, now: u64, rate: u64) -> u64 {
        let since = u128::from(now).wrapping_add(NANOSECONDS).wrapping_sub(self.phase.into());
        (since.wrapping_mul(rate.into()) / NANOSECONDS) as u64
    }

    fn time(&self, count: u64, rate: u64) -> Option<u64> {
        let since = u128::from(count)
            .wrapping_mul(NANOSECONDS)
            .wrapping_add(rate.into())
            .wrapping_sub(1)
            .checked_div(rate.into())?;
        let time = since.wrapping_add(self.phase.into()).checked_sub(NANOSECONDS)?;
        u64::try_from(time).ok()
    }
}
