//! The state that a guest starts in, of which a backend writes its control block: the same for both
//! vendors, as a table for each mode.

use super::check::{cr0, cr4, efer};
use super::segment::AccessRights;
use crate::vm::hardware::Kept;
use crate::vm::image::layout;
use crate::vm::image::start::{CODE_SELECTOR, DATA_SELECTOR, Mode, Start, gdt};

/// DR6 after reset.
pub const DR6: u64 = 0xffff_0ff0;
const CR0_ET: u64 = 1 << 4;
const RFLAGS_FIXED: u64 = 1 << 1;
const DR7: u64 = 0x400;
const PAT: u64 = 0x0007_0406_0007_0406;

/// A segment register.
#[derive(Clone, Copy, Debug)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// The base.
    pub base: u64,
    /// The limit in bytes, expanded.
    pub limit: u32,
    /// The access rights.
    pub rights: AccessRights,
}

/// What a mode says of the state.
#[derive(Debug)]
pub struct State {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    /// ES, CS, SS, DS, FS, GS, LDTR and TR.
    pub segments: [Segment; 8],
    /// Base and limit of the GDT.
    pub gdt: (u64, u32),
    /// Base and limit of the IDT.
    pub idt: (u64, u32),
}

const fn segment(selector: u16, limit: u32, rights: AccessRights) -> Segment {
    Segment { selector, base: 0, limit, rights }
}

const fn segments(code: Segment, data: Segment, ldt: Segment, task: Segment) -> [Segment; 8] {
    [data, code, data, data, data, data, ldt, task]
}

/// The segments of the GDT, whose code segment has these rights.
const fn flat(code: AccessRights) -> [Segment; 8] {
    segments(
        segment(CODE_SELECTOR, u32::MAX, code),
        segment(DATA_SELECTOR, u32::MAX, AccessRights::FLAT_DATA),
        segment(0, 0, AccessRights::UNUSABLE),
        segment(0, 0x67, AccessRights::BUSY_TSS),
    )
}

const FLAT_GDT: (u64, u32) = (layout::GDT, size_of_val(&gdt(Mode::Protected)) as u32 - 1);

/// SDM vol. 3, Processor State After Reset; APM vol. 2, Initial Processor State.
static REAL: State = State {
    cr0: cr0::CACHE | CR0_ET,
    cr3: 0,
    cr4: 0,
    efer: 0,
    segments: segments(
        Segment { base: 0xffff_0000, ..segment(0xf000, 0xffff, AccessRights::REAL_CODE) },
        segment(0, 0xffff, AccessRights::REAL_DATA),
        segment(0, 0xffff, AccessRights::LDT),
        segment(0, 0xffff, AccessRights::BUSY_TSS),
    ),
    gdt: (0, 0xffff),
    idt: (0, 0xffff),
};

static PROTECTED: State = State {
    cr0: cr0::PE | CR0_ET,
    cr3: 0,
    cr4: 0,
    efer: 0,
    segments: flat(AccessRights::FLAT_CODE_32),
    gdt: FLAT_GDT,
    idt: (0, 0),
};

static LONG: State = State {
    cr0: cr0::PG | cr0::PE | CR0_ET,
    cr3: layout::PAGE_TABLES,
    cr4: cr4::PAE,
    efer: efer::LME | efer::LMA,
    segments: flat(AccessRights::FLAT_CODE_64),
    gdt: FLAT_GDT,
    idt: (0, 0),
};

/// What the mode says.
pub fn state(mode: Mode) -> &'static State {
    match mode {
        Mode::Real | Mode::Startup(_) => &REAL,
        Mode::Protected => &PROTECTED,
        Mode::Long | Mode::Called(_) => &LONG,
    }
}

/// The segments of a mode.
pub fn segments_of(mode: Mode) -> [Segment; 8] {
    let mut segments = state(mode).segments;
    if let (Mode::Startup(page), [_, code, ..]) = (mode, &mut segments) {
        code.selector = u16::from(page) << 8;
        code.base = u64::from(page) << 12;
    }
    segments
}

/// Registers that the backend keeps; the bases of FS and GS stand with their segments.
pub fn registers(start: Start) -> [(Kept, u64); 13] {
    let state = state(start.mode);
    let cr3 = match start.mode {
        Mode::Called(tables) => tables,
        _ => state.cr3,
    };
    [
        (Kept::Cr0, state.cr0),
        (Kept::Cr3, cr3),
        (Kept::Cr4, state.cr4),
        (Kept::Efer, state.efer),
        (Kept::Rip, start.entry),
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

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::vm::Gpr;

    /// Every way to start.
    pub fn starts() -> impl Iterator<Item = Start> {
        let start = |(mode, entry): (_, u64)| Start::new(mode, entry, Gpr::Rbx, 0);
        [
            (Mode::Real, 0xfff0),
            (Mode::Protected, 0x10_0000),
            (Mode::Long, 0x100_0200),
            (Mode::Called(0x7000), 0xffff_8000_0000_0000),
        ]
        .into_iter()
        .map(start)
    }

    #[test]
    fn the_segments_are_those_of_the_gdt() {
        for mode in [Mode::Protected, Mode::Long] {
            let (state, gdt) = (state(mode), gdt(mode));
            assert_eq!(state.gdt, (layout::GDT, 31));
            for segment in &state.segments[..6] {
                let descriptor = gdt[usize::from(segment.selector >> 3)];
                let attributes = u64::from(segment.rights.attributes());
                assert_eq!(descriptor >> 40 & 0xff, attributes & 0xff, "{mode:?}");
                assert_eq!(descriptor >> 52 & 0xf, attributes >> 8, "{mode:?}");
                let limit = descriptor & 0xffff | descriptor >> 32 & 0xf_0000;
                assert_eq!(limit << 12 | 0xfff, segment.limit.into(), "in pages");
                assert_eq!(segment.base, 0);
            }
        }
    }

    #[test]
    fn a_reset_starts_16_bytes_below_4_gib() {
        let start = starts().next().unwrap();
        let code = state(start.mode).segments[1];
        assert_eq!(code.base + start.entry, 0xffff_fff0);
        assert!(start.entry <= code.limit.into());
    }
}
