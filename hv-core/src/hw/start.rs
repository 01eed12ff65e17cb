//! The state that a guest starts in, of which a backend writes its control block: the PVH entry, in
//! 32-bit protected mode with flat segments, paging and interrupts off, and all else as after reset.

use super::segment::AccessRights;
use crate::vm::hardware::Kept;
use crate::vm::image::Start;

/// DR6 after reset.
pub const DR6: u64 = 0xffff_0ff0;
const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const RFLAGS_FIXED: u64 = 1 << 1;
const DR7: u64 = 0x400;
const PAT: u64 = 0x0007_0406_0007_0406;

/// Registers that the backend keeps; the bases of FS and GS stand with their segments.
pub fn registers(start: Start) -> [(Kept, u64); 13] {
    [
        (Kept::Cr0, CR0_PE | CR0_ET),
        (Kept::Cr3, 0),
        (Kept::Cr4, 0),
        (Kept::Efer, 0),
        (Kept::Rip, start.entry.into()),
        (Kept::Rsp, 0),
        (Kept::Rflags, RFLAGS_FIXED),
        (Kept::Dr7, DR7),
        (Kept::Pat, PAT),
        (Kept::SysenterCs, 0),
        (Kept::SysenterEsp, 0),
        (Kept::SysenterEip, 0),
        (Kept::Debugctl, 0),
    ]
}

/// Access rights and limits of ES, CS, SS, DS, FS, GS, LDTR and TR; selectors and bases are 0.
pub const SEGMENTS: [(AccessRights, u32); 8] = [
    (AccessRights::FLAT_DATA, u32::MAX),
    (AccessRights::FLAT_CODE_32, u32::MAX),
    (AccessRights::FLAT_DATA, u32::MAX),
    (AccessRights::FLAT_DATA, u32::MAX),
    (AccessRights::FLAT_DATA, u32::MAX),
    (AccessRights::FLAT_DATA, u32::MAX),
    (AccessRights::UNUSABLE, 0),
    (AccessRights::BUSY_TSS, 0x67),
];
