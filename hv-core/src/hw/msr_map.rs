//! The maps that say which MSRs exit. The vendors differ only in the place of a bit.

/// Where the bits of a map are. MSRs come in ranges of 2000h; a bit of 1 exits.
#[derive(Debug)]
pub struct Layout {
    /// The first MSR of each range, in the order of the map.
    pub ranges: &'static [u32],
    /// From one MSR to the next, in bits.
    pub stride: usize,
    /// From the bit for reads to the one for writes.
    pub write: usize,
}

const RANGE: u32 = 0x2000;

impl Layout {
    /// The byte of the map, and the bit in it, that let a read or write exit. `None`: the map has no
    /// bit, and the access always exits.
    pub fn bit(&self, msr: u32, write: bool) -> Option<(usize, u8)> {
        let index = msr & (RANGE - 1);
        let range = self.ranges.iter().position(|&first| first == msr & !(RANGE - 1))?;
        let msrs = range.wrapping_mul(RANGE as usize).wrapping_add(index as usize);
        let bit = msrs.wrapping_mul(self.stride).wrapping_add(if write { self.write } else { 0 });
        Some((bit >> 3, 1 << (bit & 7)))
    }

    /// Lets an access exit, or pass.
    pub fn set(&self, map: &mut [u8], msr: u32, write: bool, exits: bool) {
        if let Some((byte, mask)) = self.bit(msr, write)
            && let Some(byte) = map.get_mut(byte)
        {
            *byte = if exits { *byte | mask } else { *byte & !mask };
        }
    }

    /// Lets everything exit but all accesses to the MSRs of the lists `pass` and reads of those of `pass_read`.
    pub fn fill(&self, map: &mut [u8], pass: &[&[u32]], pass_read: &[&[u32]]) {
        map.fill(0xff);
        for &msr in pass.iter().copied().flatten() {
            self.set(map, msr, true, false);
        }
        for &msr in pass.iter().chain(pass_read).copied().flatten() {
            self.set(map, msr, false, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LAYOUT: Layout = Layout { ranges: &[0, 0xc000_0000], stride: 2, write: 1 };

    #[test]
    fn what_does_not_pass_exits() {
        let mut map = [0; 4096];
        LAYOUT.fill(&mut map, &[&[0xc000_0101], &[0x4000_0000]], &[&[0x10]]);
        let mut expected = [0xff; 4096];
        expected[0x840] = 0b1111_0011;
        expected[0x004] = 0b1111_1110;
        assert!(map == expected);
        LAYOUT.set(&mut map, 0xc000_0101, true, true);
        expected[0x840] = 0b1111_1011;
        assert!(map == expected);
        LAYOUT.fill(&mut map, &[], &[]);
        assert!(map == [0xff; 4096]);
    }

    #[test]
    fn a_map_that_is_too_short_is_left_alone() {
        let mut map = [0xff; 1];
        LAYOUT.fill(&mut map, &[&[0xc000_0101, 0x1b]], &[]);
        assert_eq!(map, [0xff]);
    }
}
