//! Entries of the nested page tables (APM vol. 2, Nested Paging): those of long mode. The CPU walks
//! them as a user, whatever the guest's privilege is.

use crate::mem::nested::Format;

const PRESENT: u64 = 1 << 0;
const WRITE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
/// Preset with [`DIRTY`], so that the CPU has nothing to write here: nobody would look at it.
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
/// Counts under the host's EFER.NXE.
const NO_EXECUTE: u64 = 1 << 63;

/// The format of NPT entries. Their memory type is the PAT's first, write-back.
pub const NPT: Format = Format {
    table: PRESENT | WRITE | USER | ACCESSED,
    leaf: PRESENT | USER | ACCESSED | DIRTY,
    full: WRITE,
    read_only: NO_EXECUTE,
    read_write: WRITE | NO_EXECUTE,
    read_execute: 0,
    present: PRESENT,
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mem::nested::Access;

    #[test]
    fn entries_are_as_the_manual_draws_them() {
        assert_eq!(NPT.table(0x12_3000), 0x12_3027);
        assert_eq!(NPT.leaf(0x12_3000, 1, Access::Full), 0x12_3067);
        assert_eq!(NPT.leaf(0x4000_0000, 3, Access::Full), 0x4000_00e7);
        assert_eq!(NPT.leaf(0x20_0000, 2, Access::ReadOnly), 0x8000_0000_0020_00e5);
        assert_eq!(NPT.leaf(0x20_0000, 2, Access::ReadExecute), 0x20_00e5);
        assert_eq!(NPT.leaf(0x12_3000, 1, Access::ReadWrite), 0x8000_0000_0012_3067);
        // Bit 7 of a 4 KiB leaf selects a memory type.
        assert_eq!(NPT.leaf(0x1000, 1, Access::ReadOnly), 0x8000_0000_0000_1065);
    }

    #[test]
    fn what_was_written_is_read_back() {
        let hpa = 0x000f_ffff_c000_0000;
        let kinds = [Access::Full, Access::ReadOnly, Access::ReadWrite, Access::ReadExecute];
        for (level, access) in [1, 2, 3].into_iter().flat_map(|level| kinds.map(|a| (level, a))) {
            let leaf = NPT.leaf(hpa, level, access);
            assert!(NPT.present(leaf) && NPT.is_leaf(leaf, level));
            assert_eq!((NPT.address(leaf), NPT.access(leaf)), (hpa, access));
        }
        assert!(NPT.present(NPT.table(hpa)) && !NPT.is_leaf(NPT.table(hpa), 2));
        assert!(!NPT.present(0) && !NPT.present(!1), "the other bits are software's then");
    }
}
