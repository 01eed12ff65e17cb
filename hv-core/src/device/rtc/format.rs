//! How numbers stand in the bytes of the clock: bits 2 and 1 of register B.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Format {
    pub(super) binary: bool,
    pub(super) hours_24: bool,
}

const AFTERNOON: u8 = 0x80;

impl Format {
    /// The number in `byte`, whatever that is.
    pub(super) fn decode(self, byte: u8) -> u64 {
        let [tens, ones] = [byte >> 4, byte & 0xf].map(u64::from);
        if self.binary { byte.into() } else { tens.wrapping_mul(10).wrapping_add(ones) }
    }

    /// The byte for a number below 100.
    pub(super) fn encode(self, number: u64) -> u8 {
        let [tens, ones] = [number / 10, number % 10].map(|digit| digit as u8);
        if self.binary { number as u8 } else { tens << 4 | ones }
    }

    /// The hour in `byte`: 0 to 23, if it is one.
    pub(super) fn decode_hour(self, byte: u8) -> u64 {
        if self.hours_24 {
            return self.decode(byte);
        }
        let afternoon = if byte & AFTERNOON != 0 { 12 } else { 0 };
        (self.decode(byte & !AFTERNOON) % 12).wrapping_add(afternoon)
    }

    /// The byte for an hour from 0 to 23.
    pub(super) fn encode_hour(self, hour: u64) -> u8 {
        if self.hours_24 {
            return self.encode(hour);
        }
        let afternoon = if hour >= 12 { AFTERNOON } else { 0 };
        // 12 comes first.
        let hour = (hour.wrapping_add(11) % 12).wrapping_add(1);
        self.encode(hour) | afternoon
    }
}
