//! What a vCPU can be told.

use bitflags::bitflags;

use crate::device::apic::Trigger;

/// Something that a vCPU is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notice {
    /// An interrupt with this vector.
    Vector(u8, Trigger),
    /// An NMI.
    Nmi,
    /// INIT.
    Init,
    /// A startup IPI with this vector.
    Startup(u8),
    /// [`Post::ask_start`](super::Post::ask_start) was answered by yes.
    Start,
    /// The board is to be looked at.
    Board,
    /// [`Post::raise`](super::Post::raise) was called.
    Event,
    /// The VM stops.
    Stop,
}

bitflags! {
    /// Notices that are one bit each.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Notices: u32 {
        /// [`Notice::Nmi`].
        const NMI = 1 << 8;
        /// [`Notice::Init`].
        const INIT = 1 << 9;
        /// [`Notice::Startup`]. Its vector is in bits 7:0.
        const STARTUP = 1 << 10;
        /// [`Notice::Board`].
        const BOARD = 1 << 11;
        /// [`Notice::Event`].
        const EVENT = 1 << 12;
        /// The vector of a startup IPI.
        const VECTOR_BITS = 0xff;
    }
}

/// What was taken from a [`Post`](super::Post).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Vectors, a bit for each.
    pub vectors: [u64; 4],
    /// Those of them that are triggered by a level.
    pub levels: [u64; 4],
    /// The rest.
    pub notices: Notices,
}

impl Taken {
    /// The vector of the startup IPI, if there is one.
    pub fn startup(&self) -> Option<u8> {
        self.notices.contains(Notices::STARTUP).then_some(self.notices.bits() as u8)
    }
}
