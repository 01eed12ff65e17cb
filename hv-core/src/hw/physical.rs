//! Physical memory as the hypervisor sees it: identity mapped.

use core::ptr;

use zerocopy::FromBytes;

use crate::host::acpi::ReadPhysical;
use crate::mem::frames::{Frames, PAGE};
use crate::mem::nested::Tables;

/// Reads of memory that belongs to nobody: firmware tables and what the boot loader left.
#[derive(Clone, Copy)]
pub struct Physical;

impl ReadPhysical for Physical {
    fn read(&self, address: u64, into: &mut [u8]) -> bool {
        // Firmware tables stand below 4 GiB, which is mapped from the first instruction on.
        match address.checked_add(into.len() as u64) {
            Some(end) if address != 0 && end <= 1 << 32 => {}
            _ => return false,
        }
        for (i, byte) in into.iter_mut().enumerate() {
            let from = (address as *const u8).wrapping_add(i);
            // SAFETY: the range lies in the identity-mapped first 4 GiB; reading RAM or ROM there
            // has no effect, and no Rust object is aliased mutably at boot by what firmware wrote.
            *byte = unsafe { ptr::read_volatile(from) };
        }
        true
    }
}

impl Physical {
    /// Reads a value.
    pub fn value<T: FromBytes>(self, address: u64) -> Option<T> {
        let mut bytes = [0; 64];
        let bytes = bytes.get_mut(..size_of::<T>())?;
        self.read(address, bytes).then_some(())?;
        T::read_from_bytes(bytes).ok()
    }
}

/// A zeroed page, for tables that the hardware reads. Its owner keeps the address.
pub fn zeroed_page(frames: &mut Frames) -> Option<u64> {
    let page = frames.allocate(PAGE, PAGE)?;
    // SAFETY: the allocator handed the page out to us alone, and RAM is identity mapped.
    unsafe { ptr::write_bytes(page.start as *mut u8, 0, PAGE as usize) };
    Some(page.start)
}

/// Nested page tables in physical memory.
pub struct TableMemory<'a>(pub &'a mut Frames);

/// Nested page tables to which no table can be added: for changes that need none.
pub struct FixedTables;

fn entry(table: u64, index: u64) -> *mut u64 {
    (table as *mut u64).wrapping_add(index as usize)
}

impl Tables for FixedTables {
    fn allocate(&mut self) -> Option<u64> {
        None
    }

    fn get(&self, table: u64, index: u64) -> u64 {
        // SAFETY: the walker passes tables that `TableMemory` allocated, and indices below 512.
        unsafe { ptr::read_volatile(entry(table, index)) }
    }

    fn set(&mut self, table: u64, index: u64, value: u64) {
        // SAFETY: as in `get`. The CPU may walk the table meanwhile: one aligned store.
        unsafe { ptr::write_volatile(entry(table, index), value) };
    }
}

impl Tables for TableMemory<'_> {
    fn allocate(&mut self) -> Option<u64> {
        zeroed_page(self.0)
    }

    fn get(&self, table: u64, index: u64) -> u64 {
        FixedTables.get(table, index)
    }

    fn set(&mut self, table: u64, index: u64, value: u64) {
        FixedTables.set(table, index, value);
    }
}
