//! Address spaces, page faults, fresh memory.

use guest_kernel::interrupts::{self, Frame};
use guest_kernel::paging::{AddressSpace, PRIVATE};
use guest_kernel::{frames, thread};
use spin::Once;
use x86_64::VirtAddr;
use x86_64::registers::control::Cr2;
use x86_64::structures::paging::{Page, PageTableFlags};

use crate::measure::Meter;

/// Most pages that [`first_touch`] touches: small VMs have that much to spare.
const FRESH_PAGES: u64 = 64;
const PAGE_FAULT: u8 = 14;

static PARTNER: Once<usize> = Once::new();

/// A thread in an address space of its own that always switches back.
pub fn partner() -> usize {
    extern "C" fn main() -> ! {
        loop {
            thread::switch_to(0);
        }
    }
    *PARTNER.call_once(|| thread::spawn(main, AddressSpace::new()))
}

/// The page that faults. It is mapped once so that the tables above it exist.
pub fn faulting_page() -> Page {
    interrupts::handle(PAGE_FAULT, map_fresh);
    let page = Page::containing_address(VirtAddr::new(PRIVATE));
    op::touch(page);
    op::unmap(page);
    page
}

fn map_fresh(_: &mut Frame) {
    let page = Page::containing_address(VirtAddr::new(Cr2::read_raw()));
    AddressSpace::current()
        .map(page, frames::allocate(), PageTableFlags::empty())
        .expect("a page that faults is not mapped");
}

/// A switch to a thread in another address space; two are a round trip.
pub fn context_switch(meter: &mut Meter, ops: u64) {
    partner();
    let rounds = ops.div_ceil(2);
    meter.section_of(2 * rounds, rounds, op::switch_there_and_back);
}

/// A touch of an unmapped page, the fault, a mapping, the touch, and the unmapping with INVLPG.
pub fn page_fault(meter: &mut Meter, ops: u64) {
    faulting_page();
    meter.section(ops, op::page_fault);
    interrupts::forget(PAGE_FAULT);
}

/// A write to a page of RAM that nobody has touched since the machine started.
pub fn first_touch(meter: &mut Meter, ops: u64) {
    let ops = ops.min(FRESH_PAGES);
    let mut next = frames::allocate_fresh().start_address().as_u64();
    // Fresh frames come one behind the other.
    for _ in 1..ops {
        frames::allocate_fresh();
    }
    meter.section(ops, || {
        // SAFETY: the frame is ours and identity mapped.
        unsafe { (next as *mut u64).write_volatile(1) };
        next += 4096;
    });
}

/// One operation each.
pub mod op {
    use super::*;

    pub fn switch_there_and_back() {
        thread::switch_to(partner());
    }

    pub fn touch(page: Page) {
        // SAFETY: the page is in the guest's private part; the fault handler maps it.
        unsafe { page.start_address().as_mut_ptr::<u64>().write_volatile(1) };
    }

    pub fn unmap(page: Page) {
        let frame = AddressSpace::current().unmap(page).expect("a touched page is mapped");
        // SAFETY: the fault handler allocated it, and it is no longer mapped.
        unsafe { frames::free(frame) };
    }

    pub fn page_fault() {
        let page = Page::containing_address(VirtAddr::new(PRIVATE));
        touch(page);
        unmap(page);
    }
}
