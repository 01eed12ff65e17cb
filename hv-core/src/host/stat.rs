//! What a VM has cost, as wire structures: exits by reason, and where those exits came from.

use pv_abi::area::Counter;
use pv_abi::exit::{Reason, SLOTS};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout};

/// When the counters of a [`Stat`] were read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Moment {
    /// At the end of the VM.
    End = 0,
    /// At a mark of the guest ([`pv_abi::call::stat::MARK`]).
    Mark = 1,
    /// When the guest wrote to the scratch register of its UART. It has no other use, so a guest that
    /// knows no hypercalls can mark a place by it.
    Scratch = 2,
}

impl Moment {
    /// The moment with this number.
    pub const fn from_number(number: u32) -> Option<Moment> {
        match number {
            0 => Some(Moment::End),
            1 => Some(Moment::Mark),
            2 => Some(Moment::Scratch),
            _ => None,
        }
    }
}

/// A VM's exits since it started. All ticks are of its TSC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stat {
    /// A [`Moment`].
    pub moment: u32,
    /// The mark's phase, [`pv_abi::stat::BEGIN`] or [`pv_abi::stat::END`]; at another moment 0.
    pub phase: u32,
    /// The mark's number, or the byte that was written; at the end 0.
    pub id: u64,
    /// Ticks since the VM was entered first.
    pub ticks: u64,
    /// Those of them in which its vCPU waited for an interrupt.
    pub halted: u64,
    /// Those of the exits by which the guest set the timer of its local APIC: writes of
    /// IA32_TSC_DEADLINE or of the initial count, by MSR or by memory.
    pub timer_writes: u64,
    /// Exits by the number of their [`Reason`].
    pub exits: [Counter; SLOTS],
}

const _: () = assert!(size_of::<Stat>() == 40 + 16 * SLOTS);

impl Stat {
    /// Exits of all reasons, marks left out.
    pub fn total(&self) -> u64 {
        let counted = self.exits.iter().zip(0u8..).filter(|(_, slot)| *slot != Reason::Mark as u8);
        counted.fold(0, |sum, (counter, _)| sum.wrapping_add(counter.count))
    }

    /// Those of several vCPUs of a VM together.
    pub fn sum(stats: impl Iterator<Item = Stat>) -> Stat {
        stats.fold(Stat::new_zeroed(), |mut sum, stat| {
            (sum.moment, sum.phase, sum.id) = (stat.moment, stat.phase, stat.id);
            sum.ticks = sum.ticks.max(stat.ticks);
            sum.halted = sum.halted.saturating_add(stat.halted);
            sum.timer_writes = sum.timer_writes.wrapping_add(stat.timer_writes);
            for (sum, counter) in sum.exits.iter_mut().zip(stat.exits) {
                sum.count = sum.count.wrapping_add(counter.count);
                sum.ticks = sum.ticks.wrapping_add(counter.ticks);
            }
            sum
        })
    }

    /// The counter of one reason.
    pub fn of(&self, reason: Reason) -> Counter {
        self.exits.get(usize::from(reason as u8)).copied().unwrap_or_default()
    }
}

/// What a guest reached for that cost an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Place {
    /// A port that was read.
    PortIn = 0,
    /// A port that was written.
    PortOut = 1,
    /// An MSR that was read.
    MsrRead = 2,
    /// An MSR that was written.
    MsrWrite = 3,
    /// A page of guest-physical memory; its number is the address.
    Page = 4,
}

impl Place {
    /// Every place, in the order of their numbers.
    pub const ALL: [Place; 5] =
        [Place::PortIn, Place::PortOut, Place::MsrRead, Place::MsrWrite, Place::Page];

    /// The place with this number.
    pub const fn from_number(number: u32) -> Option<Place> {
        Some(match number {
            0 => Place::PortIn,
            1 => Place::PortOut,
            2 => Place::MsrRead,
            3 => Place::MsrWrite,
            4 => Place::Page,
            _ => return None,
        })
    }
}

/// How many of each [`Place`] are told: those that cost most.
pub const TOP: usize = 10;

/// How often one port, MSR or page cost an exit. A VM's are sent at its end, in one frame.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct TopEntry {
    /// A [`Place`].
    pub place: u32,
    /// 0.
    pub reserved: u32,
    /// The port, the MSR, or the address of the page.
    pub number: u64,
    /// Exits.
    pub count: u64,
}

const _: () = {
    use super::link::MAX_PAYLOAD;
    assert!(size_of::<TopEntry>() == 24);
    assert!(TOP * Place::ALL.len() * size_of::<TopEntry>() <= MAX_PAYLOAD);
    assert!(size_of::<Stat>() <= MAX_PAYLOAD);
};

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    #[test]
    fn marks_are_not_among_the_exits_of_a_vm() {
        let mut stat = Stat::new_zeroed();
        for reason in [Reason::Cpuid, Reason::Mark, Reason::Other] {
            stat.exits[reason as usize].count = 1 << reason as u8;
        }
        assert_eq!(stat.total(), 1 << Reason::Cpuid as u8 | 1 << Reason::Other as u8);
        assert_eq!(stat.of(Reason::Mark).count, 1 << Reason::Mark as u8);
    }

    #[test]
    fn every_moment_and_place_comes_back_from_its_number() {
        for moment in [Moment::End, Moment::Mark, Moment::Scratch] {
            assert_eq!(Moment::from_number(moment as u32), Some(moment));
        }
        for place in Place::ALL {
            assert_eq!(Place::from_number(place as u32), Some(place));
        }
        assert_eq!((Moment::from_number(3), Place::from_number(5)), (None, None));
    }
}
