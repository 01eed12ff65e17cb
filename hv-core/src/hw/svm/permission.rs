//! The permission maps: which MSRs and ports exit (APM vol. 2, MSR Intercepts, I/O Intercepts).

/// Bytes of the MSR permission map, which stands in whole pages that follow each other.
pub const MSR_MAP: usize = 8192;
/// Bytes of the I/O permission map, with the page beyond port FFFFh into which an access can reach.
pub const IO_MAP: usize = 12288;

/// The byte of the MSR permission map, and the bit in it, that let a read or write exit. `None`: the
/// map has no bit, and the access always exits.
pub fn bit(msr: u32, write: bool) -> Option<(usize, u8)> {
    // 2000h MSRs stand in 800h bytes: each has two bits, of which the second is the write's.
    let part = match msr & !0x1fff {
        0 => 0,
        0xc000_0000 => 0x800,
        0xc001_0000 => 0x1000,
        _ => return None,
    };
    let index = msr & 0x1fff;
    Some((part | (index >> 2) as usize, 1 << ((index & 3) << 1 | u32::from(write))))
}

/// Lets everything exit but all accesses to the MSRs of `pass` and reads of those of `pass_read`.
pub fn fill(map: &mut [u8; MSR_MAP], pass: &[u32], pass_read: &[u32]) {
    map.fill(0xff);
    let reads = pass.iter().chain(pass_read).map(|&msr| bit(msr, false));
    let writes = pass.iter().map(|&msr| bit(msr, true));
    for (byte, mask) in reads.chain(writes).flatten() {
        if let Some(byte) = map.get_mut(byte) {
            *byte &= !mask;
        }
    }
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
            assert_eq!(bit(msr, false), Some((byte, 1 << first)), "{msr:#x}");
            assert_eq!(bit(msr, true), Some((byte, 2 << first)), "{msr:#x}");
        }
        for msr in [0x2000, 0x4000_0000, 0xbfff_ffff, 0xc000_2000, 0xc000_ffff, 0xc001_2000, !0] {
            assert_eq!((bit(msr, false), bit(msr, true)), (None, None), "{msr:#x}");
        }
    }

    #[test]
    fn what_does_not_pass_exits() {
        let mut map = [0; MSR_MAP];
        fill(&mut map, &[0xc000_0101, 0x4000_0000], &[0x10]);
        let mut expected = [0xff; MSR_MAP];
        expected[0x840] = 0b1111_0011;
        expected[0x004] = 0b1111_1110;
        assert!(map == expected);
        fill(&mut map, &[], &[]);
        assert!(map == [0xff; MSR_MAP]);
    }
}
