//! The modes in which steps are taken.

use crate::trip::tables::segment::*;
use crate::trip::{ARENA, Paging, Start, Way};

/// A mode.
#[derive(Clone, Copy)]
pub struct Mode {
    /// Its name in the summary.
    pub name: &'static str,
    way: Way,
    paging: Paging,
    cs: u16,
    data: u16,
    /// Bits of an address as it comes.
    pub bits: u8,
    /// The linear address of offset 0.
    pub base: u64,
    /// The privilege level.
    pub level: u8,
    /// Virtual-8086 mode.
    pub is_virtual: bool,
}

const PROTECTED: Mode = Mode {
    name: "",
    way: Way::Protected,
    paging: Paging::Off,
    cs: 0,
    data: 0,
    bits: 32,
    base: ARENA.start,
    level: 0,
    is_virtual: false,
};
const PAGED: Mode = Mode { paging: Paging::TwoLevels, ..PROTECTED };
const PAE: Mode = Mode { paging: Paging::Pae, ..PROTECTED };
const LONG: Mode = Mode { way: Way::Long, ..PROTECTED };
const VIRTUAL: Mode = Mode {
    cs: (ARENA.start >> 4) as u16,
    data: (ARENA.start >> 4) as u16,
    bits: 16,
    level: 3,
    is_virtual: true,
    ..PROTECTED
};

/// All of them.
pub const MODES: &[Mode] = &[
    Mode { name: "64-bit", cs: CODE_64, data: DATA, bits: 64, base: 0, ..LONG },
    Mode {
        name: "64-bit-user",
        cs: USER_CODE_64,
        data: USER_DATA,
        bits: 64,
        base: 0,
        level: 3,
        ..LONG
    },
    Mode { name: "compatibility-32", cs: ARENA_CODE_32, data: ARENA_DATA_32, ..LONG },
    Mode {
        name: "compatibility-32-user",
        cs: USER_CODE_32,
        data: USER_DATA,
        base: 0,
        level: 3,
        ..LONG
    },
    Mode { name: "compatibility-16", cs: ARENA_CODE_16, data: ARENA_DATA_16, bits: 16, ..LONG },
    Mode {
        name: "compatibility-16-user",
        cs: USER_ARENA_CODE_16,
        data: USER_ARENA_DATA_16,
        bits: 16,
        level: 3,
        ..LONG
    },
    Mode { name: "protected-32", cs: ARENA_CODE_32, data: ARENA_DATA_32, ..PROTECTED },
    Mode { name: "protected-16", cs: ARENA_CODE_16, data: ARENA_DATA_16, bits: 16, ..PROTECTED },
    Mode { name: "paged-32", cs: ARENA_CODE_32, data: ARENA_DATA_32, ..PAGED },
    Mode { name: "paged-32-user", cs: USER_CODE_32, data: USER_DATA, base: 0, level: 3, ..PAGED },
    Mode {
        name: "pae-16-user",
        cs: USER_ARENA_CODE_16,
        data: USER_ARENA_DATA_16,
        bits: 16,
        level: 3,
        ..PAE
    },
    Mode { name: "pae-32-user", cs: USER_ARENA_CODE_32, data: USER_ARENA_DATA_32, level: 3, ..PAE },
    Mode { name: "real", level: 0, is_virtual: false, way: Way::Real, ..VIRTUAL },
    Mode { name: "virtual-8086", paging: Paging::TwoLevels, ..VIRTUAL },
    Mode { name: "virtual-8086-pae", paging: Paging::Pae, ..VIRTUAL },
];

impl Mode {
    /// Whether every exception gets a stack of its own, whatever the stack pointer is.
    pub fn is_safe_stack(&self) -> bool {
        self.way == Way::Long || self.level == 3
    }

    /// Whether it can write memory that no page table confines.
    pub fn is_unconfined(&self) -> bool {
        self.way != Way::Long && self.paging == Paging::Off
    }

    /// Real mode.
    pub fn is_real(&self) -> bool {
        self.way == Way::Real
    }

    /// 64-bit mode or compatibility mode.
    pub fn is_long(&self) -> bool {
        self.way == Way::Long
    }

    /// Its stack with a stack pointer of 16 bits, in an unconfined mode.
    pub fn stack_16(&self) -> u16 {
        if self.is_real() { self.data } else { ARENA_DATA_16 }
    }

    /// Code at `offset` of the arena in this mode.
    pub fn start(&self, offset: u64) -> Start {
        Start {
            way: self.way,
            paging: self.paging,
            ip: ARENA.start - self.base + offset,
            cs: self.cs,
            ss: self.data,
            data: [self.data; 4],
            flags: if self.is_virtual { crate::trip::VM | 2 } else { 2 },
            ..Start::default()
        }
    }
}
