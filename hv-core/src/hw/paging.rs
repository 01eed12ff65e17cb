//! The hypervisor's own page tables: all RAM identity mapped, never writable and executable at
//! once.
//!
//! The boot code maps the first 4 GiB by 2 MiB pages; here the image gets its rights, the rest
//! becomes no-execute, memory above 4 GiB is added, and stacks get their guard pages.

use x86_64::VirtAddr;
use x86_64::instructions::tlb;

use crate::mem::frames::{Frames, Range};

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
const ADDRESS: u64 = 0x000f_ffff_ffff_f000;

const SMALL_PAGE: u64 = 1 << 12;
const LARGE_PAGE: u64 = 1 << 21;
const HUGE_PAGE: u64 = 1 << 30;
const BOOT_MAPPED: u64 = 4 << 30;
/// One top-level table entry's reach, and the end of the memory that is used: 512 GiB.
pub const LIMIT: u64 = 1 << 39;

unsafe extern "C" {
    static boot_pml4: u8;
    static image_start: u8;
    static image_rodata: u8;
    static image_data: u8;
    static image_end: u8;
    static boot_stack_guard: u8;
}

/// Where the image is, in bytes.
pub fn image() -> Range {
    Range::new(&raw const image_start as u64, &raw const image_end as u64)
}

/// The top-level table.
pub fn root() -> u64 {
    &raw const boot_pml4 as u64
}

fn entry(table: u64, index: u64) -> *mut u64 {
    ((table & ADDRESS) as *mut u64).wrapping_add((index & 511) as usize)
}

fn get(table: u64, index: u64) -> u64 {
    // SAFETY: the callers pass tables of this tree, which the boot code or `zeroed_page` made.
    unsafe { entry(table, index).read_volatile() }
}

fn set(table: u64, index: u64, value: u64) {
    // SAFETY: as in `get`; the callers only narrow rights, split pages into equal ones or add
    // mappings of RAM.
    unsafe { entry(table, index).write_volatile(value) };
}

fn directory(address: u64) -> u64 {
    get(get(root(), 0), address >> 30)
}

/// Replaces the 2 MiB page that holds `address` by a table of 4 KiB pages with the same rights.
fn split(frames: &mut Frames, address: u64) -> Option<u64> {
    let directory = directory(address);
    let old = get(directory, address >> 21);
    if old & LARGE == 0 {
        return Some(old);
    }
    // Every entry is written below; memory above what the boot code maps is not mapped yet.
    let table = frames.allocate_below(SMALL_PAGE, SMALL_PAGE, BOOT_MAPPED)?.start;
    for i in 0..512u64 {
        let page = (old & ADDRESS).wrapping_add(i.wrapping_mul(SMALL_PAGE));
        set(table, i, page | old & (PRESENT | WRITABLE | NO_EXECUTE));
    }
    let new = table | PRESENT | WRITABLE;
    set(directory, address >> 21, new);
    Some(new)
}

/// Gives the image its rights, makes everything else no-execute except the first 2 MiB, where the
/// trampoline still has to run, and maps the RAM above 4 GiB. Called once, by the first CPU.
///
/// `None` if there is no memory for the tables.
pub fn protect(frames: &mut Frames, has_1g_pages: bool) -> Option<()> {
    let (rodata, data) = (&raw const image_rodata as u64, &raw const image_data as u64);
    let image = image();
    for address in (LARGE_PAGE..BOOT_MAPPED).step_by(LARGE_PAGE as usize) {
        let large = Range::new(address, address.wrapping_add(LARGE_PAGE));
        // The image's own pages get their rights one by one below: this code runs in them.
        if image.start >= large.end || image.end <= large.start {
            let directory = directory(address);
            set(directory, address >> 21, get(directory, address >> 21) | NO_EXECUTE);
        }
    }
    // What follows the image in its last large page is ordinary memory.
    for page in (image.end..image.end.next_multiple_of(LARGE_PAGE)).step_by(SMALL_PAGE as usize) {
        set(split(frames, page)?, page >> 12, page | PRESENT | WRITABLE | NO_EXECUTE);
    }
    for page in (image.start..image.end).step_by(SMALL_PAGE as usize) {
        let rights = match page {
            p if p < rodata => PRESENT,
            p if p < data => PRESENT | NO_EXECUTE,
            _ => PRESENT | WRITABLE | NO_EXECUTE,
        };
        set(split(frames, page)?, page >> 12, page | rights);
    }
    unmap(frames, &raw const boot_stack_guard as u64)?;
    // Tables come from below 4 GiB, so the ranges above do not change meanwhile.
    let mut next = BOOT_MAPPED;
    while let Some(range) = frames.free_ranges().iter().find(|r| r.end > next).copied() {
        let start = range.start.max(next) & !(HUGE_PAGE.wrapping_sub(1));
        map_huge(frames, start, has_1g_pages)?;
        next = start.saturating_add(HUGE_PAGE);
    }
    tlb::flush_all();
    Some(())
}

fn map_huge(frames: &mut Frames, start: u64, has_1g_pages: bool) -> Option<()> {
    let rights = PRESENT | WRITABLE | NO_EXECUTE;
    let pdpt = get(root(), 0);
    if get(pdpt, start >> 30) & PRESENT != 0 {
        return Some(());
    }
    if has_1g_pages {
        set(pdpt, start >> 30, start | rights | LARGE);
        return Some(());
    }
    let directory = frames.allocate_below(SMALL_PAGE, SMALL_PAGE, BOOT_MAPPED)?.start;
    for i in 0..512u64 {
        set(directory, i, start.wrapping_add(i.wrapping_mul(LARGE_PAGE)) | rights | LARGE);
    }
    set(pdpt, start >> 30, directory | PRESENT | WRITABLE);
    Some(())
}

/// Takes the right to execute from the first 2 MiB, when the last CPU has left the trampoline.
pub fn close_trampoline() {
    let directory = directory(0);
    set(directory, 0, get(directory, 0) | NO_EXECUTE);
    tlb::flush_all();
}

/// Unmaps one 4 KiB page below 4 GiB: a stack's guard.
///
/// `None` if there is no memory for a table.
pub fn unmap(frames: &mut Frames, page: u64) -> Option<()> {
    let table = split(frames, page)?;
    set(table, page >> 12, 0);
    tlb::flush(VirtAddr::new(page));
    Some(())
}
