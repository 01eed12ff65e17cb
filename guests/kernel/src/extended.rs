//! The registers that XSAVE knows.

use core::arch::x86_64::__cpuid_count;

use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::xcontrol::XCr0;

/// Turns on all that this CPU has, as kernels do for their programs.
pub(crate) fn enable() {
    const XSAVE: u32 = 1 << 26;
    if __cpuid_count(1, 0).ecx & XSAVE == 0 {
        return;
    }
    let components = __cpuid_count(0xd, 0);
    // SAFETY: the CPU has XSAVE and these components; the guests use no register that they stand for.
    unsafe {
        Cr4::update(|cr4| cr4.insert(Cr4Flags::OSXSAVE));
        XCr0::write_raw(u64::from(components.edx) << 32 | u64::from(components.eax));
    }
}
