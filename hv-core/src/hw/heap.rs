//! The heap: for what is made at boot and when a VM is made, never on the exit path.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use linked_list_allocator::Heap;
use spin::Mutex;

use crate::mem::frames::Range;

struct Locked(Mutex<Heap>);

#[global_allocator]
static HEAP: Locked = Locked(Mutex::new(Heap::empty()));

/// Gives the heap its memory, once.
///
/// # Safety
///
/// The range is mapped, writable and the caller's to give away for ever.
pub unsafe fn init(range: Range) {
    // SAFETY: as the caller vouches.
    unsafe { HEAP.0.lock().init(range.start as *mut u8, range.length() as usize) };
}

/// Bytes that are taken.
pub fn used() -> u64 {
    HEAP.0.lock().used() as u64
}

// SAFETY: `Heap` hands out disjoint blocks of the memory it was given that fit the layout, and the
// lock makes its calls exclusive; no interrupt handler allocates.
unsafe impl GlobalAlloc for Locked {
    // Both out of line: there are many callers, none of them in a hurry, and the search for a block is
    // long code.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0.lock().allocate_first_fit(layout).map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    #[inline(never)]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: by the trait's contract the block came from `alloc` with this layout.
            unsafe { self.0.lock().deallocate(block, layout) };
        }
    }
}
