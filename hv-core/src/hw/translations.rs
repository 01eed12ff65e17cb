//! The memory of a VM as a CPU translates it.

use pv_abi::area::INFO_SIZE;

use super::physical::FixedTables;
use crate::mem::frames::PAGE;
use crate::mem::nested::{Access, Format, NestedTable};
use crate::mem::tlb::{MustFlush, Seen};

/// A VM's nested page table, and what its CPU has flushed for.
#[derive(Debug)]
pub struct Translations<F> {
    /// The nested page table.
    pub table: NestedTable<F>,
    /// Where the read-only half of the area is for the guest, and where it is.
    pub info: (u64, u64),
    /// What this CPU has flushed for.
    pub seen: Seen,
}

impl<F: Format> Translations<F> {
    /// Maps the read-only half of the area, or takes it away, for which a flush is owed.
    pub fn show_info(&mut self, show: bool) -> Option<MustFlush> {
        // Its tables were made with the VM, so none is allocated, and mapping cannot fail.
        let (gpa, hpa) = self.info;
        let table = &mut self.table;
        if show {
            let _ = table.map(&mut FixedTables, gpa, hpa, INFO_SIZE as u64, Access::ReadOnly);
            return None;
        }
        let second = gpa.wrapping_add(PAGE);
        let first = table.unmap_page(&mut FixedTables, gpa).ok()?;
        table.unmap_page(&mut FixedTables, second).ok().map(|owed| owed.and(first))
    }
}
