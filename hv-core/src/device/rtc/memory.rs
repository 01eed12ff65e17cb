//! What a BIOS leaves in the memory of the clock.

use super::BYTES;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
/// The unit in which memory above 16 MiB is counted.
const UNIT: u64 = 64 * KIB;

/// The equipment byte: a floating-point unit, no diskette drive.
const EQUIPMENT: usize = 0x14;
const NO_DRIVES: u8 = 0x02;

/// The bytes that the checksum, high byte first, is the sum of.
const CHECKED: core::ops::Range<usize> = 0x10..0x2e;

/// Memory with the sizes of RAM below and above 4 GiB, in bytes.
pub(super) fn contents(below_4g: u64, above_4g: u64) -> [u8; BYTES] {
    let extended = below_4g.saturating_sub(MIB) / KIB;
    let mut memory = [0; BYTES];
    put(&mut memory, EQUIPMENT, &[NO_DRIVES]);
    for (at, size) in [
        (0x15, below_4g.min(640 * KIB) / KIB),
        (0x17, extended),
        (0x30, extended),
        (0x34, below_4g.saturating_sub(16 * MIB) / UNIT),
    ] {
        put(&mut memory, at, &u16::try_from(size).unwrap_or(u16::MAX).to_le_bytes());
    }
    let [low, middle, high, ..] = (above_4g / UNIT).min(0xff_ffff).to_le_bytes();
    put(&mut memory, 0x5b, &[low, middle, high]);
    let sum = memory.iter().take(CHECKED.end).skip(CHECKED.start);
    let sum = sum.fold(0u16, |sum, byte| sum.wrapping_add((*byte).into()));
    put(&mut memory, CHECKED.end, &sum.to_be_bytes());
    memory
}

fn put(memory: &mut [u8; BYTES], at: usize, bytes: &[u8]) {
    memory.iter_mut().skip(at).zip(bytes).for_each(|(to, from)| *to = *from);
}
