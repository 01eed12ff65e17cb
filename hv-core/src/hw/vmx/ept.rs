//! Entries of the extended page tables (SDM vol. 3, The Extended Page Table Mechanism).

use crate::mem::nested::{Access, Format};

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const EXECUTE: u64 = 1 << 2;
/// Memory type of a leaf: write-back, whatever the guest's PAT says, since all of it is RAM.
const WRITE_BACK: u64 = 6 << 3;
const IGNORE_PAT: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// The format of EPT entries.
#[derive(Debug)]
pub struct Ept;

impl Format for Ept {
    fn table(hpa: u64) -> u64 {
        hpa | READ | WRITE | EXECUTE
    }

    fn leaf(hpa: u64, level: u32, access: Access) -> u64 {
        let rights = match access {
            Access::Full => READ | WRITE | EXECUTE,
            Access::ReadOnly => READ,
        };
        hpa | rights | WRITE_BACK | IGNORE_PAT | if level > 1 { LARGE } else { 0 }
    }

    fn present(entry: u64) -> bool {
        entry & (READ | WRITE | EXECUTE) != 0
    }

    fn is_leaf(entry: u64, level: u32) -> bool {
        level == 1 || entry & LARGE != 0
    }

    fn address(entry: u64) -> u64 {
        entry & ADDRESS
    }

    fn access(entry: u64) -> Access {
        if entry & WRITE != 0 { Access::Full } else { Access::ReadOnly }
    }
}

/// The EPT pointer of a four-level table, its structures cached write-back, without accessed and
/// dirty flags, which nobody would look at.
pub const fn pointer(root: u64) -> u64 {
    const WALK_LENGTH_4: u64 = 3 << 3;
    const STRUCTURES_WRITE_BACK: u64 = 6;
    root | WALK_LENGTH_4 | STRUCTURES_WRITE_BACK
}
