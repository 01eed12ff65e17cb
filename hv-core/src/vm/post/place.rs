//! Where a vCPU is, in one word.

/// Where a vCPU is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// On no CPU, but it will be: it looks at its post before.
    Queued,
    /// It runs on this CPU, or is halted there: then no other vCPU is on it, nor one of its VM anywhere.
    Running(u16),
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
            Place::Asleep { cpu, slot } => 2 | (cpu as u64) << 8 | (slot as u64) << 32,
        }
    }

    pub(super) const fn unpack(packed: u64) -> Place {
        let (cpu, slot) = ((packed >> 8) as u16, (packed >> 32) as u16);
        match packed as u8 {
            1 => Place::Running(cpu),
            2 => Place::Asleep { cpu, slot },
            _ => Place::Queued,
        }
    }
}
