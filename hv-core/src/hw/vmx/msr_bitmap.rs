//! The MSR bitmaps (SDM vol. 3, MSR-Bitmap Address): reads of low MSRs, of high ones, then writes.

use crate::device::apic;
use crate::emulate::msr::table;
use crate::hw::msr_map::Layout;
use crate::vm::Features;

const LAYOUT: Layout = Layout { ranges: &[0, 0xc000_0000], stride: 1, write: 0x4000 };

/// A page of MSR bitmaps.
pub type Page = [u8; 4096];

/// Lets the MSRs pass that the policy lets pass, and, in x2APIC mode, the registers that the CPU virtualizes.
pub fn fill(page: &mut Page, x2apic: bool, features: &Features) {
    let read = [table::PASS_READ, table::PASS_READ_OWN, table::PASS_SWITCHED];
    LAYOUT.fill(page, &[table::PASS], &read);
    let registers = x2apic && features.contains(Features::APIC_REGISTERS);
    let delivery = features.contains(Features::VIRTUAL_INTERRUPTS);
    for msr in apic::MSR_X2APIC {
        let read = registers && apic::msr_read_passes(msr, delivery);
        let write = registers && apic::msr_write_passes(msr, delivery);
        LAYOUT.set(page, msr, false, !read);
        LAYOUT.set(page, msr, true, !write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_have_bitmaps_of_their_own() {
        let cases = [(0, 0, 0), (0x1b, 3, 3), (0x1fff, 0x3ff, 7), (0xc000_0101, 0x420, 1)];
        for (msr, byte, bit) in cases {
            assert_eq!(LAYOUT.bit(msr, false), Some((byte, 1 << bit)), "{msr:#x}");
            assert_eq!(LAYOUT.bit(msr, true), Some((byte + 0x800, 1 << bit)), "{msr:#x}");
        }
        for msr in [0x2000, 0x4000_0000, 0xbfff_ffff, 0xc000_2000, 0xc001_0000, !0] {
            assert_eq!((LAYOUT.bit(msr, false), LAYOUT.bit(msr, true)), (None, None), "{msr:#x}");
        }
    }
}
