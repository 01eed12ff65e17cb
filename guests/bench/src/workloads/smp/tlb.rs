//! Flushes of other CPUs' TLBs.

use core::sync::atomic::{AtomicU64, Ordering};

use guest_kernel::frames;
use guest_kernel::paging::{AddressSpace, PRIVATE};
use guest_kernel::smp::{self, CpuSet, Wait};
use x86_64::VirtAddr;
use x86_64::structures::paging::page::PageRange;
use x86_64::structures::paging::{Page, PageTableFlags};

use super::{begin, end};
use crate::measure::Meter;

/// Where the pages are that are flushed. Nothing is mapped there for longer than a workload takes.
const START: u64 = PRIVATE;

static READ: AtomicU64 = AtomicU64::new(0);

fn pages(count: u64) -> PageRange {
    let first = Page::containing_address(VirtAddr::new(START));
    Page::range(first, first + count)
}

fn first_word() -> *mut u64 {
    START as *mut u64
}

/// Every CPU reads the first page and adds what is there.
fn read(_: usize) {
    // SAFETY: `see_the_change` has mapped it.
    READ.fetch_add(unsafe { first_word().read_volatile() }, Ordering::Relaxed);
}

/// A flush has to be one: after it every CPU sees the other frame that a page is mapped to.
fn see_the_change(n: usize) {
    let space = AddressSpace::current();
    let page = pages(1).start;
    for value in [1, 2] {
        let frame = frames::allocate();
        space.map(page, frame, PageTableFlags::empty()).expect("the page is free");
        smp::shootdown(pages(1), CpuSet::first(n));
        // SAFETY: the page was mapped to a frame of ours.
        unsafe { first_word().write_volatile(value) };
        READ.store(0, Ordering::Relaxed);
        smp::run_on_all(n, read);
        assert_eq!(READ.load(Ordering::Relaxed), value * n as u64, "a flush left a translation");
        space.unmap(page).expect("the page was mapped");
        // The frame stays taken: those who still see it must not see another's.
    }
    smp::shootdown(pages(1), CpuSet::first(n));
}

/// The request, the interrupts, a flush of `PAGES` pages on each CPU, the acknowledgement. What a kernel
/// does to the page tables before is left out.
pub fn shootdown<const PAGES: u64>(meter: &mut Meter, ops: u64) {
    let n = begin(Wait::Spin);
    see_the_change(n);
    meter.section(ops, || smp::shootdown(pages(PAGES), CpuSet::first(n)));
    end();
}
