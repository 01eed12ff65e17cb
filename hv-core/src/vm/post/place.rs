//! Where a vCPU is, in one word.

/// Where a vCPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On no CPU, but it will be: it looks at its post before.
    Queued,
    /// It runs on this CPU.
    Running(u16),
    /// It is halted on this CPU, which is interrupted if it is left something.
    Resting(u16),
    /// It sleeps, and belongs to this CPU under this number.
    Asleep {
        /// The CPU.
        cpu: u16,
        /// Its number there.
        slot: u16,
    },
}

impl Place {
    pub(super) const fn pack(self) -> u64 {
        match self {
            Place::Queued => 0,
            Place::Running(cpu) => 1 | (cpu as u64) << 8,
            Place::Resting(cpu) => 3 | (cpu as u64) << 8,
            Place::Asleep { cpu, slot } => 2 | (cpu as u64) << 8 | (slot as u64) << 32,
        }
    }

    pub(super) const fn unpack(packed: u64) -> Place {
        let (cpu, slot) = ((packed >> 8) as u16, (packed >> 32) as u16);
        match packed as u8 {
            1 => Place::Running(cpu),
            2 => Place::Asleep { cpu, slot },
            3 => Place::Resting(cpu),
            _ => Place::Queued,
        }
    }
}
