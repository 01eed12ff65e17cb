//! The scratch page: what is written there is read back, and each access is emulated.

use crate::pv;

/// Where it is, in a VM that has it.
pub const PAGE: u64 = 0xe000_0000;

/// Whether this VM has it. Without Paravane nothing is tried: it may be a device's.
pub fn is_present() -> bool {
    let word = PAGE as *mut u64;
    // SAFETY: memory is identity mapped, and where Paravane is the page is the scratch page or nobody's.
    pv::present()
        && unsafe {
            let before = word.read_volatile();
            word.write_volatile(!before);
            let after = word.read_volatile();
            word.write_volatile(before);
            after == !before
        }
}
