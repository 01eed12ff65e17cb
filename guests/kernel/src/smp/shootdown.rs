//! Taking translations out of the TLBs of other CPUs.

use core::hint;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use x86_64::instructions::{interrupts, tlb};
use x86_64::structures::paging::page::PageRange;
use x86_64::structures::paging::{Page, PageSize, Size4KiB};

use super::lock::{Lock, TicketLock};
use super::{CpuSet, online, this};
use crate::interrupts::Frame;
use crate::{apic, ipi};

/// The vector that asks a CPU to look at the request.
pub const VECTOR: u8 = 0xf1;
/// More pages than these are flushed as a whole: INVLPG for each costs more than what is lost.
pub const MOST_PAGES: u64 = 32;

/// What is to be flushed, and by whom; of one initiator at a time.
struct Request {
    start: AtomicU64,
    end: AtomicU64,
    /// The CPUs that have not done it yet, as the bits of a [`CpuSet`].
    waiting: AtomicU32,
}

static REQUEST: Request =
    Request { start: AtomicU64::new(0), end: AtomicU64::new(0), waiting: AtomicU32::new(0) };
static INITIATOR: TicketLock = TicketLock::new();

/// Flushes `pages` from this CPU's TLB.
pub(super) fn flush_here(pages: PageRange) {
    let (start, end) = (pages.start.start_address(), pages.end.start_address());
    if (end - start) / Size4KiB::SIZE > MOST_PAGES {
        // No page of the guests is global.
        tlb::flush_all();
    } else {
        pages.for_each(|page| tlb::flush(page.start_address()));
    }
}

/// Flushes `pages` from the TLBs of those of `cpus` that are online, by interrupts to them, and from
/// this CPU's. Returns when all have done it.
pub(super) fn by_interrupts(pages: PageRange, cpus: CpuSet) {
    let everybody = online().without(CpuSet::of(this()));
    let others = everybody.and(cpus);
    if others.is_empty() {
        return flush_here(pages);
    }
    // Another initiator may wait for this CPU, which may have its interrupts disabled.
    while !INITIATOR.try_lock() {
        super::relax();
    }
    REQUEST.start.store(pages.start.start_address().as_u64(), Ordering::Relaxed);
    REQUEST.end.store(pages.end.start_address().as_u64(), Ordering::Relaxed);
    REQUEST.waiting.store(others.0, Ordering::Release);
    if others == everybody && others.0.count_ones() > 1 {
        ipi::broadcast(VECTOR);
    } else {
        others.iter().for_each(|cpu| ipi::send(cpu, VECTOR));
    }
    flush_here(pages);
    while REQUEST.waiting.load(Ordering::Acquire) != 0 {
        hint::spin_loop();
    }
    INITIATOR.unlock();
}

/// Does what is asked of this CPU, if anything is.
#[inline]
pub(super) fn serve() {
    let bit = CpuSet::of(this()).0;
    if REQUEST.waiting.load(Ordering::Acquire) & bit == 0 {
        return;
    }
    // Were the interrupt to serve the request here, the rest of this would take the next for done.
    interrupts::without_interrupts(|| {
        if REQUEST.waiting.load(Ordering::Acquire) & bit == 0 {
            return;
        }
        let page = |address: &AtomicU64| {
            let address = x86_64::VirtAddr::new_truncate(address.load(Ordering::Relaxed));
            Page::containing_address(address)
        };
        flush_here(Page::range(page(&REQUEST.start), page(&REQUEST.end)));
        REQUEST.waiting.fetch_and(!bit, Ordering::Release);
    });
}

/// The handler of [`VECTOR`].
pub(super) fn interrupt(_: &mut Frame) {
    serve();
    apic::end_of_interrupt();
}
