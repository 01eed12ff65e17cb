//! How far the steps have come, in a place that outlives a reset: the RAM of the real-time clock.

use guest_kernel::println;
use x86_64::instructions::port::Port;

const INDEX: u16 = 0x70;
const VALUE: u16 = 0x71;
/// The bytes that are used: five of the next step's number, two of resets, one of the seed, and one
/// that makes the sum of all come out.
const FIRST: u8 = 0x40;
const BYTES: usize = 9;
/// What their sum is.
const SUM: u8 = 0x5e;

/// Progress.
pub struct Progress {
    bytes: [u8; BYTES],
    resumed: bool,
}

fn read(at: usize) -> u8 {
    // SAFETY: the clock's ports; the upper bit of the index, which masks NMIs, stays clear.
    unsafe {
        Port::<u8>::new(INDEX).write(FIRST + at as u8);
        Port::<u8>::new(VALUE).read()
    }
}

fn write(at: usize, byte: u8) {
    // SAFETY: as above; firmware keeps nothing in these bytes that a guest without it needs.
    unsafe {
        Port::<u8>::new(INDEX).write(FIRST + at as u8);
        Port::<u8>::new(VALUE).write(byte);
    }
}

/// Finds what a run with this seed has left, or begins.
pub fn find(seed: u64) -> Progress {
    let bytes = core::array::from_fn(read);
    let sum = bytes.iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
    let resumed = sum == SUM && bytes[7] == seed as u8;
    let mut progress = Progress { bytes, resumed };
    if resumed {
        let resets = progress.resets() + 1;
        progress.set(5, &resets.to_le_bytes());
        println!("@hostile steps: reset {resets} by step {}", progress.number());
    } else {
        progress.set(0, &[0, 0, 0, 0, 0, 0, 0, seed as u8]);
    }
    progress
}

impl Progress {
    fn number(&self) -> u64 {
        self.bytes[..5].iter().rfold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    fn resets(&self) -> u16 {
        u16::from_le_bytes([self.bytes[5], self.bytes[6]])
    }

    /// Writes what differs, and the byte for the sum.
    fn set(&mut self, at: usize, new: &[u8]) {
        for (i, &byte) in (at..).zip(new) {
            self.bytes[i] = byte;
            write(i, byte);
        }
        let sum = self.bytes[..BYTES - 1].iter().fold(0u8, |sum, &byte| sum.wrapping_add(byte));
        self.bytes[BYTES - 1] = SUM.wrapping_sub(sum);
        write(BYTES - 1, self.bytes[BYTES - 1]);
    }

    /// The step to begin with.
    pub fn next(&self, first: u64) -> u64 {
        if self.resumed { self.number() + 1 } else { first }
    }

    /// A step is about to be taken.
    pub fn enter(&mut self, number: u64) {
        let new = number.to_le_bytes();
        let changed = (0..5).rev().find(|&i| self.bytes[i] != new[i]).unwrap_or(0);
        self.set(0, &new[..=changed]);
    }

    /// All steps have been taken: forgets, and says how many resets there were.
    pub fn finish(mut self) -> u16 {
        let resets = self.resets();
        self.set(0, &[0; BYTES]);
        write(BYTES - 1, 0);
        resets
    }
}
