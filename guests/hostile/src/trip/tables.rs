//! The tables of a trip: segments, gates, tasks, pages.

use super::code::{STUBS_16, STUBS_32, STUBS_64};
use super::{ARENA, MAPPED, Paging, TableRegister, Way};

/// Where the code is; two pages.
pub(super) const CODE: u64 = 0x8000;
/// Where the data is.
pub(super) const DATA: u64 = 0xa000;
/// Where the GDT is.
pub const GDT: u64 = 0xb000;
const IDT: u64 = 0xc000;
/// A task-state segment, with a bitmap that refuses every port: three pages.
pub const TASK: u64 = 0xd000;
const STACK: u64 = 0x1_0000;
/// The stack on which exceptions are handled, where it changes.
pub const STACK_TOP: u64 = STACK + 0xf00;
/// IDT of protected mode.
const IDT_32: u64 = 0x1_1000;
/// A task-state segment to switch to.
pub const OTHER_TASK: u64 = 0x1_2000;

const PML4: u64 = 0x1_3000;
const PDPT: u64 = 0x1_4000;
const DIRECTORY: u64 = 0x1_5000;
const TABLE: u64 = 0x1_6000;
const PAE_POINTERS: u64 = 0x1_7000;
const SHORT_DIRECTORY: u64 = 0x1_8000;
const SHORT_TABLE: u64 = 0x1_9000;

/// Selectors of a trip's GDT.
pub mod segment {
    /// All memory, 32-bit code.
    pub const CODE_32: u16 = 0x08;
    /// All memory, data.
    pub const DATA: u16 = 0x10;
    /// 64-bit code.
    pub const CODE_64: u16 = 0x18;
    /// The first 64 KiB, 16-bit code.
    pub const LOW_CODE_16: u16 = 0x20;
    /// The first 64 KiB, data, with the limits of real mode.
    pub const LOW_DATA_16: u16 = 0x28;
    /// The task of 64-bit mode.
    pub const TASK_64: u16 = 0x30;
    /// The task of protected mode.
    pub const TASK_32: u16 = 0x40;
    /// All memory, data for CPL 3.
    pub const USER_DATA: u16 = 0x48 | 3;
    /// All memory, 32-bit code for CPL 3.
    pub const USER_CODE_32: u16 = 0x50 | 3;
    /// 64-bit code for CPL 3.
    pub const USER_CODE_64: u16 = 0x58 | 3;
    /// The arena, 16-bit code.
    pub const ARENA_CODE_16: u16 = 0x60;
    /// The arena, data with 16-bit stack pointer.
    pub const ARENA_DATA_16: u16 = 0x68;
    /// The arena, 32-bit code.
    pub const ARENA_CODE_32: u16 = 0x70;
    /// The arena, data with 32-bit stack pointer.
    pub const ARENA_DATA_32: u16 = 0x78;
    /// The same for CPL 3.
    pub const USER_ARENA_CODE_16: u16 = 0x80 | 3;
    /// The same for CPL 3.
    pub const USER_ARENA_DATA_16: u16 = 0x88 | 3;
    /// The same for CPL 3.
    pub const USER_ARENA_CODE_32: u16 = 0x90 | 3;
    /// The same for CPL 3.
    pub const USER_ARENA_DATA_32: u16 = 0x98 | 3;
    /// A task to switch to.
    pub const OTHER_TASK: u16 = 0xa0;
    /// All memory, data with 16-bit stack pointer: what unreal mode has.
    pub const BIG_DATA: u16 = 0xb0;
    /// Not present.
    pub const ABSENT: u16 = 0xb8;
    /// What [`super::set_segment`] makes of it.
    pub const OWN: u16 = 0xc0;
    /// The same.
    pub const OTHER_OWN: u16 = 0xc8;
}

/// A descriptor; `flags` are its bits 40 to 55, with bits 16 to 19 of the limit in the middle.
const fn descriptor(base: u32, limit: u32, access: u8, size: u8) -> u64 {
    let (base, limit) = (base as u64, limit as u64);
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | (access as u64) << 40
        | (limit >> 16 & 0xf) << 48
        | (size as u64) << 52
        | (base >> 24) << 56
}

/// Granularity of 4 KiB.
const G: u8 = 8;
/// 32-bit size.
const D: u8 = 4;
/// 64-bit code.
const L: u8 = 2;
const CODE_0: u8 = 0x9b;
const DATA_0: u8 = 0x93;
const CODE_3: u8 = 0xfb;
const DATA_3: u8 = 0xf3;
const TASK_FREE: u8 = 0x89;
const ALL: u32 = 0xf_ffff;
const AT: u32 = ARENA.start as u32;
const TASK_LIMIT: u32 = 0x67 + 32 + 8192 + 1;

const SEGMENTS: [u64; 26] = [
    0,
    descriptor(0, ALL, CODE_0, G | D),
    descriptor(0, ALL, DATA_0, G | D),
    descriptor(0, ALL, CODE_0, G | L),
    descriptor(0, 0xffff, CODE_0, 0),
    descriptor(0, 0xffff, DATA_0, 0),
    descriptor(TASK as u32, TASK_LIMIT, TASK_FREE, 0),
    0,
    descriptor(TASK as u32, TASK_LIMIT, TASK_FREE, 0),
    descriptor(0, ALL, DATA_3, G | D),
    descriptor(0, ALL, CODE_3, G | D),
    descriptor(0, ALL, CODE_3, G | L),
    descriptor(AT, 0xffff, CODE_0, 0),
    descriptor(AT, 0xffff, DATA_0, 0),
    descriptor(AT, 0xffff, CODE_0, D),
    descriptor(AT, 0xffff, DATA_0, D),
    descriptor(AT, 0xffff, CODE_3, 0),
    descriptor(AT, 0xffff, DATA_3, 0),
    descriptor(AT, 0xffff, CODE_3, D),
    descriptor(AT, 0xffff, DATA_3, D),
    descriptor(OTHER_TASK as u32, 0x67, TASK_FREE, 0),
    (segment::OTHER_TASK as u64) << 16 | 0x85 << 40,
    descriptor(0, ALL, DATA_0, G),
    descriptor(AT, 0xffff, DATA_0 & 0x7f, 0),
    0,
    0,
];
/// Its limit.
pub const GDT_LIMIT: u16 = (size_of::<[u64; 26]>() - 1) as u16;

/// The base of the segment, which is one of this GDT's.
pub(super) fn flat(selector: u16) -> u64 {
    let descriptor = SEGMENTS.get(usize::from(selector >> 3)).copied().unwrap_or(0);
    descriptor >> 16 & 0xff_ffff | descriptor >> 56 << 24
}

fn write<T>(at: u64, value: T) {
    // SAFETY: the tables are in RAM that only trips use.
    unsafe { (at as *mut T).write_volatile(value) };
}

/// What the CPU itself changes in the tables is as before: every task can be loaded and switched to.
/// QEMU 7.2 marks page-directory pointers as accessed, a bit that is reserved in them.
pub(super) fn renew() {
    write(PAE_POINTERS, DIRECTORY | PRESENT);
    for selector in [segment::TASK_64, segment::TASK_32, segment::OTHER_TASK] {
        write(GDT + u64::from(selector), SEGMENTS[usize::from(selector >> 3)]);
    }
}

/// The first page-directory pointer of PAE paging.
pub fn pae_pointer() -> u64 {
    // SAFETY: as `write`.
    unsafe { (PAE_POINTERS as *const u64).read_volatile() }
}

/// The IDT, or the interrupt vectors of real mode.
pub(super) fn gate_tables(way: Way) -> TableRegister {
    match way {
        Way::Real => TableRegister::new(0, 0x3ff),
        Way::Protected => TableRegister::new(IDT_32, 0x7ff),
        Way::Long => TableRegister::new(IDT, 0xfff),
    }
}

/// Makes a segment of bytes, whose `access` is byte 5 of the descriptor.
pub fn set_segment(selector: u16, base: u64, limit: u32, access: u8, is_32: bool) {
    let size = if is_32 { D } else { 0 };
    write(GDT + u64::from(selector & !7), descriptor(base as u32, limit, access, size));
}

/// Lets every program use this port.
pub fn allow_port(port: u16) {
    let byte = TASK + 0x68 + 32 + u64::from(port / 8);
    // SAFETY: as `write`.
    let bits = unsafe { (byte as *const u8).read_volatile() };
    write(byte, bits & !(1u8 << (port % 8)));
}

/// A gate of protected mode that leads to a handler of a trip's own, and can be used from CPL 3.
pub fn set_gate(vector: u8, selector: u16, offset: u16) {
    let low = u64::from(offset) | u64::from(selector) << 16;
    write(IDT_32 + 8 * u64::from(vector), low | 0xee00 << 32);
}

/// A gate that leads to a task; or to none, if it is not there.
pub fn set_task_gate(vector: u8, present: bool) {
    let access: u64 = if present { 0xe5 } else { 0x65 };
    write(IDT_32 + 8 * u64::from(vector), u64::from(segment::OTHER_TASK) << 16 | access << 40);
}

/// The handler of an interrupt in real mode and in virtual-8086 mode.
pub fn set_real_vector(vector: u8, segment: u16, offset: u16) {
    write(4 * u64::from(vector), u32::from(segment) << 16 | u32::from(offset));
}

/// Has virtual-8086 mode handle INT n itself (SDM vol. 3, Virtual-8086 Mode Extensions).
pub fn redirect(vector: u8) {
    let byte = TASK + 0x68 + u64::from(vector / 8);
    write(byte, !(1u8 << (vector % 8)));
}

/// The entry for a page of the lowest 2 MiB.
pub fn page_entry(paging: Paging, page: u64) -> u64 {
    let number = page >> 12;
    // SAFETY: the tables are in RAM that only trips use.
    unsafe {
        match paging {
            Paging::TwoLevels => ((SHORT_TABLE + 4 * number) as *const u32).read_volatile().into(),
            _ => ((TABLE + 8 * number) as *const u64).read_volatile(),
        }
    }
}

/// Changes it.
pub fn set_page_entry(paging: Paging, page: u64, entry: u64) {
    match paging {
        Paging::TwoLevels => write(SHORT_TABLE + 4 * (page >> 12), entry as u32),
        _ => write(TABLE + 8 * (page >> 12), entry),
    }
}

fn gates_of(vector: u8, access: u64) {
    let n = u64::from(vector);
    let gate = |selector: u16, handler: u64, stack: u64| {
        handler & 0xffff
            | u64::from(selector) << 16
            | (access | stack) << 32
            | (handler >> 16 & 0xffff) << 48
    };
    // Every exception of 64-bit mode has the first stack of the task.
    write(IDT + 16 * n, [gate(segment::CODE_64, STUBS_64 + 8 * n, 1), 0]);
    write(IDT_32 + 8 * n, gate(segment::CODE_32, STUBS_32 + 8 * n, 0));
    write(4 * n, (STUBS_16 + 4 * n) as u32);
}

/// Makes all of them.
pub(super) fn make() {
    write(GDT, SEGMENTS);
    (0..=255).for_each(|vector| gates_of(vector, 0x8e00));
    make_task();
    make_pages();
}

fn make_task() {
    // SAFETY: as `write`. Every port and no interrupt is redirected; the bitmap ends with ones.
    unsafe { core::ptr::write_bytes(TASK as *mut u8, 0, 0x3000) };
    // SAFETY: as above.
    unsafe { core::ptr::write_bytes((TASK + 0x68) as *mut u8, 0xff, 32 + 8192 + 2) };
    // In protected mode: ESP0 and SS0. In 64-bit mode the same place holds the reserved word and the
    // lower part of RSP0.
    write(TASK + 4, STACK_TOP as u32);
    write(TASK + 8, u32::from(segment::DATA));
    // The first stack of 64-bit mode's interrupt stack table.
    write(TASK + 0x24, STACK_TOP as u32);
    write(TASK + 0x28, 0u32);
    // Where the bitmap of ports begins; that of interrupts is before it.
    write(TASK + 0x66, 0x68 + 32u16);
}

const PRESENT: u64 = 1;
const WRITABLE: u64 = 2;
const USER: u64 = 4;

/// The entry for a page of the lowest 2 MiB.
fn entry(page: u64) -> u64 {
    /// What exceptions read, and what they write.
    const READ: [u64; 7] = [CODE, CODE + 0x1000, GDT, IDT, TASK, TASK + 0x1000, IDT_32];
    const WRITTEN: [u64; 2] = [DATA, STACK];
    if (ARENA.start..ARENA.start + MAPPED).contains(&page) {
        page | PRESENT | WRITABLE | USER
    } else if WRITTEN.contains(&page) {
        page | PRESENT | WRITABLE
    } else if page == 0 {
        // The interrupt vectors of virtual-8086 mode.
        page | PRESENT | USER
    } else if READ.contains(&page) || page == TASK + 0x2000 {
        page | PRESENT
    } else {
        0
    }
}

fn make_pages() {
    for table in [PML4, PDPT, DIRECTORY, PAE_POINTERS, SHORT_DIRECTORY] {
        write(table, [0u64; 512]);
    }
    for page in 0..512 {
        write(TABLE + 8 * page, entry(page << 12));
        // The other half of the page is never reached by the table's low addresses.
        write(SHORT_TABLE + 4 * page, entry(page << 12) as u32);
        write(SHORT_TABLE + 2048 + 4 * page, 0u32);
    }
    let below = PRESENT | WRITABLE | USER;
    write(PML4, PDPT | below);
    write(PDPT, DIRECTORY | below);
    write(DIRECTORY, TABLE | below);
    write(PAE_POINTERS, DIRECTORY | PRESENT);
    write(SHORT_DIRECTORY, (SHORT_TABLE | below) as u32);
}

/// The value of CR3.
pub const fn root(way: Way, paging: Paging) -> u64 {
    match (way, paging) {
        (Way::Long, _) => PML4,
        (_, Paging::Off) => 0,
        (_, Paging::TwoLevels) => SHORT_DIRECTORY,
        (_, Paging::Pae) => PAE_POINTERS,
    }
}
