//! Counting in binary and in four decimal digits.

/// How a counter counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device::pit) enum Radix {
    Binary,
    Decimal,
}

impl Radix {
    /// `count` after `pulses` decrements. Each decimal digit counts down to 0 and then from 9, so
    /// that one above 9, which the data sheet does not know, is some more pulses the first time.
    pub(in crate::device::pit) fn subtract(self, count: u16, pulses: u64) -> u16 {
        if self == Radix::Binary {
            return count.wrapping_sub(pulses as u16);
        }
        let (mut result, mut borrow) = (0, pulses);
        for shift in [0, 4, 8, 12] {
            let digit = u64::from(count >> shift & 0xf);
            let (after, carried) = match borrow.checked_sub(digit.wrapping_add(1)) {
                None => (digit.wrapping_sub(borrow), 0),
                Some(over) => (9u64.wrapping_sub(over % 10), (over / 10).wrapping_add(1)),
            };
            borrow = carried;
            result |= (after as u16) << shift;
        }
        result
    }
}

/// How many decrements lead from `count` to 0; from 0, all of them.
pub(super) fn span(count: u16, radix: Radix) -> u64 {
    match (radix, count) {
        (Radix::Binary, 0) => 0x1_0000,
        (Radix::Binary, _) => count.into(),
        (Radix::Decimal, 0) => 10_000,
        (Radix::Decimal, _) => [(0, 1u64), (4, 10), (8, 100), (12, 1000)]
            .iter()
            .map(|(shift, weight)| u64::from(count >> shift & 0xf).wrapping_mul(*weight))
            .fold(0, u64::wrapping_add),
    }
}
