//! The state that a guest starts in.

use super::layout;
use crate::mem::guest::{BadAddress, GuestMemory};
use crate::vm::Gpr;

/// How the CPU runs at the start. Interrupts are off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As after a reset: 16-bit code, the code segment at the end of the first 4 GiB.
    Real,
    /// As after a startup IPI with this vector: 16-bit code at the start of the page with that number.
    Startup(u8),
    /// 32-bit protected mode, paging off, flat segments.
    Protected,
    /// 64-bit mode; the first 4 GiB are mapped to themselves.
    Long,
    /// The same by the guest's page tables, at this address.
    Called(u64),
}

/// Where and how a guest starts. What is not said is as after a reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The mode.
    pub mode: Mode,
    /// The instruction pointer.
    pub entry: u64,
    /// General registers that are not 0.
    pub registers: [(Gpr, u64); 2],
}

impl Start {
    /// A start with one register set.
    pub fn new(mode: Mode, entry: impl Into<u64>, register: Gpr, value: u64) -> Start {
        Start { mode, entry: entry.into(), registers: [(register, value); 2] }
    }
}

/// The selector of the code segment, outside of real mode (Linux, "The Linux/x86 Boot Protocol").
pub const CODE_SELECTOR: u16 = 0x10;
/// The selector of all data segments.
pub const DATA_SELECTOR: u16 = 0x18;

/// The GDT of a mode: the segments that the CPU starts with, where their selectors say. Real mode has
/// none.
pub const fn gdt(mode: Mode) -> [u64; 4] {
    const CODE_32: u64 = 0x00cf_9b00_0000_ffff;
    const CODE_64: u64 = 0x00af_9b00_0000_ffff;
    const DATA: u64 = 0x00cf_9300_0000_ffff;
    match mode {
        Mode::Real | Mode::Startup(_) => [0; 4],
        Mode::Protected => [0, 0, CODE_32, DATA],
        Mode::Long | Mode::Called(_) => [0, 0, CODE_64, DATA],
    }
}

/// Writes what the CPU reads from memory in this mode: the GDT, and the page tables.
pub fn write_tables(mode: Mode, memory: &GuestMemory) -> Result<(), BadAddress> {
    match mode {
        Mode::Real | Mode::Startup(_) | Mode::Called(_) => return Ok(()),
        Mode::Protected => {}
        Mode::Long => write_page_tables(memory)?,
    }
    write_entries(layout::GDT, gdt(mode), memory)
}

/// Maps the first 4 GiB to themselves by pages of 2 MiB: the top table, one of the level below, and
/// four of that below.
fn write_page_tables(memory: &GuestMemory) -> Result<(), BadAddress> {
    const TABLE: u64 = 0x1000;
    const POINTER: u64 = 0b11;
    const PAGE_2M: u64 = 1 << 7 | POINTER;
    let pointers = layout::PAGE_TABLES.wrapping_add(TABLE);
    let directories = pointers.wrapping_add(TABLE);
    write_entries(layout::PAGE_TABLES, [pointers | POINTER], memory)?;
    let tables = (0..4).map(|i: u64| directories.wrapping_add(i.wrapping_mul(TABLE)) | POINTER);
    write_entries(pointers, tables, memory)?;
    write_entries(directories, (0..4 * 512).map(|i: u64| i << 21 | PAGE_2M), memory)
}

fn write_entries(
    mut at: u64,
    entries: impl IntoIterator<Item = u64>,
    memory: &GuestMemory,
) -> Result<(), BadAddress> {
    for entry in entries {
        memory.write_u64(at, entry)?;
        at = at.wrapping_add(8);
    }
    Ok(())
}
