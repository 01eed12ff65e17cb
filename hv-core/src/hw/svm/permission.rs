//! The permission maps: which MSRs and ports exit (APM vol. 2, MSR Intercepts, I/O Intercepts).

use crate::hw::msr_map::Layout;

/// Bytes of the MSR permission map, which stands in whole pages that follow each other.
pub const MSR_MAP: usize = 8192;
/// Bytes of the I/O permission map, with the page beyond port FFFFh into which an access can reach.
pub const IO_MAP: usize = 12288;

/// The MSR permission map.
const LAYOUT: Layout = Layout { ranges: &[0, 0xc000_0000, 0xc001_0000], stride: 2, write: 1 };

/// Lets everything exit but all accesses to the MSRs of the lists `pass` and reads of those of `pass_read`.
pub fn fill(map: &mut [u8; MSR_MAP], pass: &[&[u32]], pass_read: &[&[u32]]) {
    LAYOUT.fill(map, pass, pass_read);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_msr_has_its_two_bits() {
        let cases = [
            (0x0000_0000, 0x0000, 0),
            (0x0000_001b, 0x0006, 6),
            (0x0000_1fff, 0x07ff, 6),
            (0xc000_0080, 0x0820, 0),
            (0xc000_0102, 0x0840, 4),
            (0xc001_0015, 0x1005, 2),
            (0xc001_1fff, 0x17ff, 6),
        ];
        for (msr, byte, first) in cases {
            assert_eq!(LAYOUT.bit(msr, false), Some((byte, 1 << first)), "{msr:#x}");
            assert_eq!(LAYOUT.bit(msr, true), Some((byte, 2 << first)), "{msr:#x}");
        }
        for msr in [0x2000, 0x4000_0000, 0xbfff_ffff, 0xc000_2000, 0xc000_ffff, 0xc001_2000, !0] {
            assert_eq!((LAYOUT.bit(msr, false), LAYOUT.bit(msr, true)), (None, None), "{msr:#x}");
        }
    }
}
