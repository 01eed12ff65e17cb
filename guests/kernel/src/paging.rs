//! Address spaces: the kernel's identity mapping in each, and pages of their own above it.

use x86_64::VirtAddr;
use x86_64::registers::control::{Cr3, Cr3Flags};
use x86_64::structures::paging::mapper::{MapToError, UnmapError};
use x86_64::structures::paging::{
    Mapper, OffsetPageTable, Page, PageTable, PageTableFlags, PhysFrame, Size4KiB,
};

use crate::frames;

/// The lowest address that an address space has for itself.
pub const PRIVATE: u64 = 1 << 39;

/// An address space, by its root table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressSpace {
    root: PhysFrame,
}

fn table(frame: PhysFrame) -> *mut PageTable {
    frame.start_address().as_u64() as *mut PageTable
}

impl AddressSpace {
    /// The one in use.
    pub fn current() -> AddressSpace {
        AddressSpace { root: Cr3::read().0 }
    }

    /// A new one, with the kernel's mapping and nothing else.
    pub fn new() -> AddressSpace {
        let root = frames::allocate();
        let kernel = table(AddressSpace::current().root);
        let mut new = PageTable::new();
        // SAFETY: tables are identity mapped, the current one is not being changed, and the new
        // frame is ours.
        unsafe {
            new[0].set_addr((&(*kernel))[0].addr(), (&(*kernel))[0].flags());
            table(root).write(new);
        }
        AddressSpace { root }
    }

    /// Loads it into CR3.
    pub fn activate(self) {
        // SAFETY: every address space holds the kernel's mapping.
        unsafe { Cr3::write(self.root, Cr3Flags::empty()) }
    }

    fn mapper(self) -> OffsetPageTable<'static> {
        // SAFETY: tables are identity mapped; who calls this has the lock on the frames, and keeps no
        // reference to a table when it gives that back.
        unsafe { OffsetPageTable::new(&mut *table(self.root), VirtAddr::zero()) }
    }

    /// Maps `page` to `frame`, writable and with `flags` besides.
    ///
    /// # Errors
    ///
    /// The page is mapped already.
    ///
    /// # Panics
    ///
    /// If `page` is below [`PRIVATE`], in the kernel's part.
    // Wherever it is: what a fault costs must not depend on how many others map pages.
    #[inline(always)]
    pub fn map(
        self,
        page: Page,
        frame: PhysFrame,
        flags: PageTableFlags,
    ) -> Result<(), MapToError<Size4KiB>> {
        assert!(page.start_address().as_u64() >= PRIVATE, "the kernel's part is fixed");
        let flags = flags | PageTableFlags::PRESENT | PageTableFlags::WRITABLE;
        let mut frames = frames::allocator();
        // SAFETY: the page is in the part that no Rust object lives in.
        unsafe { self.mapper().map_to(page, frame, flags, &mut *frames) }
            // A page that was not present is in no TLB.
            .map(|flush| flush.ignore())
    }

    /// Takes the mapping of `page` away and flushes it from the TLB of this CPU.
    ///
    /// # Errors
    ///
    /// The page is not mapped.
    pub fn unmap(self, page: Page) -> Result<PhysFrame, UnmapError> {
        let frames = frames::allocator();
        let (frame, flush) = self.mapper().unmap(page)?;
        drop(frames);
        flush.flush();
        Ok(frame)
    }
}

impl Default for AddressSpace {
    fn default() -> AddressSpace {
        AddressSpace::new()
    }
}
