//! Entries of the extended page tables (SDM vol. 3, The Extended Page Table Mechanism).

use crate::mem::nested::Format;

const READ: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const EXECUTE: u64 = 1 << 2;
/// Memory type of a leaf: write-back, whatever the guest's PAT says, since all of it is RAM.
const WRITE_BACK: u64 = 6 << 3;
const IGNORE_PAT: u64 = 1 << 6;

/// The format of EPT entries.
pub const EPT: Format = Format {
    table: READ | WRITE | EXECUTE,
    leaf: READ | WRITE_BACK | IGNORE_PAT,
    full: WRITE | EXECUTE,
    read_only: 0,
    read_write: WRITE,
    read_execute: EXECUTE,
    present: READ | WRITE | EXECUTE,
};

/// The EPT pointer of a four-level table, its structures cached write-back, without accessed and
/// dirty flags, which nobody would look at.
pub const fn pointer(root: u64) -> u64 {
    const WALK_LENGTH_4: u64 = 3 << 3;
    const STRUCTURES_WRITE_BACK: u64 = 6;
    root | WALK_LENGTH_4 | STRUCTURES_WRITE_BACK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::nested::Access;

    #[test]
    fn entries_are_as_the_manual_draws_them() {
        assert_eq!(EPT.table(0x12_3000), 0x12_3007);
        assert_eq!(EPT.leaf(0x12_3000, 1, Access::Full), 0x12_3077);
        assert_eq!(EPT.leaf(0x4000_0000, 3, Access::Full), 0x4000_00f7);
        assert_eq!(EPT.leaf(0x20_0000, 2, Access::ReadOnly), 0x20_00f1);
        assert_eq!(EPT.leaf(0x20_0000, 2, Access::ReadExecute), 0x20_00f5);
        assert_eq!(EPT.leaf(0x12_3000, 1, Access::ReadWrite), 0x12_3073);
        assert_eq!(pointer(0x5000), 0x501e);
    }

    #[test]
    fn what_was_written_is_read_back() {
        let all = [Access::Full, Access::ReadOnly, Access::ReadWrite, Access::ReadExecute];
        for access in all {
            assert_eq!(EPT.access(EPT.leaf(0x20_0000, 2, access)), access);
        }
    }
}
