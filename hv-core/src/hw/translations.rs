//! The memory of a VM as a CPU translates it.

use pv_abi::area::INFO_SIZE;

use spin::Mutex;

use super::physical::FixedTables;
use crate::mem::frames::PAGE;
use crate::mem::nested::{Access, NestedTable};
use crate::mem::tlb::{MustFlush, Seen};
use crate::vm::share::Window;

/// The memory of a VM as one of its vCPUs has it.
#[derive(Debug)]
pub struct Translations {
    /// The nested page table, which the vCPUs of the VM share. It is locked when what it maps changes.
    pub table: &'static Mutex<NestedTable>,
    /// Its root.
    pub root: u64,
    /// Where the read-only half of the vCPU's area is for the guest, and where it is.
    pub info: (u64, u64),
    /// What has been flushed for since the vCPU has its tag.
    pub seen: Seen,
}

impl Translations {
    /// Maps the read-only half of the area, or takes it away, for which a flush is owed.
    pub fn show_info(&mut self, show: bool) -> Option<MustFlush> {
        // Its tables were made with the VM, so none is allocated, and mapping cannot fail.
        let (gpa, hpa) = self.info;
        let mut table = self.table.lock();
        if show {
            let _ = table.map(&mut FixedTables, gpa, hpa, INFO_SIZE as u64, Access::ReadOnly);
            return None;
        }
        let second = gpa.wrapping_add(PAGE);
        let first = table.unmap_page(&mut FixedTables, gpa).ok()?;
        table.unmap_page(&mut FixedTables, second).ok().map(|owed| owed.and(first))
    }
}

// The tables were made with the VM here, too.
impl Window for Mutex<NestedTable> {
    #[cfg(test)]
    fn find(&self, gpa: u64) -> Option<(u64, Access)> {
        self.lock().translate(&FixedTables, gpa).map(|(hpa, access, _)| (hpa, access))
    }

    fn show(&self, gpa: u64, hpa: u64, access: Access) -> bool {
        self.lock().map(&mut FixedTables, gpa, hpa, PAGE, access).is_ok()
    }

    fn hide(&self, gpa: u64) -> Option<MustFlush> {
        self.lock().unmap_page(&mut FixedTables, gpa).ok()
    }
}
