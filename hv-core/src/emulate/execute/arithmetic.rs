//! Results and flags. A flag that the manual leaves undefined becomes what CPUs make of it.

use super::table::{Alu, Unary};
use crate::emulate::decode::ones;

#[allow(missing_docs)]
pub mod flag {
    pub const CF: u64 = 1 << 0;
    pub const PF: u64 = 1 << 2;
    pub const AF: u64 = 1 << 4;
    pub const ZF: u64 = 1 << 6;
    pub const SF: u64 = 1 << 7;
    pub const TF: u64 = 1 << 8;
    pub const DF: u64 = 1 << 10;
    pub const OF: u64 = 1 << 11;
    /// Those that arithmetic changes.
    pub const STATUS: u64 = CF | PF | AF | ZF | SF | OF;
}
use flag::*;

/// A result of `size` bytes, and the flags. `flags` are those before.
#[inline(never)]
pub fn alu(op: Alu, a: u64, b: u64, flags: u64, size: u8) -> (u64, u64) {
    let carry = flags & CF;
    match op {
        Alu::Add => add(a, b, 0, flags, size),
        Alu::Adc => add(a, b, carry, flags, size),
        Alu::Sub | Alu::Cmp => subtract(a, b, 0, flags, size),
        Alu::Sbb => subtract(a, b, carry, flags, size),
        Alu::And | Alu::Test => finish(a & b, 0, 0, flags, size),
        Alu::Or => finish(a | b, 0, 0, flags, size),
        Alu::Xor => finish(a ^ b, 0, 0, flags, size),
    }
}

/// As [`alu`], with one operand.
pub fn unary(op: Unary, a: u64, flags: u64, size: u8) -> (u64, u64) {
    let keep_carry = |(result, new): (u64, u64)| (result, new & !CF | flags & CF);
    match op {
        Unary::Inc => keep_carry(add(a, 1, 0, flags, size)),
        Unary::Dec => keep_carry(subtract(a, 1, 0, flags, size)),
        Unary::Neg => subtract(0, a, 0, flags, size),
        Unary::Not => (!a & ones(size), flags),
    }
}

fn add(a: u64, b: u64, carry: u64, flags: u64, size: u8) -> (u64, u64) {
    let result = a.wrapping_add(b).wrapping_add(carry);
    let carries = a & b | (a | b) & !result;
    finish(result, carries, (a ^ result) & (b ^ result), flags, size)
}

fn subtract(a: u64, b: u64, borrow: u64, flags: u64, size: u8) -> (u64, u64) {
    let result = a.wrapping_sub(b).wrapping_sub(borrow);
    let borrows = !a & b | (!a | b) & result;
    finish(result, borrows, (a ^ b) & (a ^ result), flags, size)
}

/// Cuts the result to its size. `carries` are those out of each bit; the sign of `overflow` is OF.
#[inline(never)]
fn finish(result: u64, carries: u64, overflow: u64, flags: u64, size: u8) -> (u64, u64) {
    let result = result & ones(size);
    let sign = ones(size) ^ ones(size) >> 1;
    let mut new = flags & !STATUS;
    for (flag, set) in [
        (CF, carries & sign != 0),
        (PF, (result as u8).count_ones() & 1 == 0),
        (AF, carries & 8 != 0),
        (ZF, result == 0),
        (SF, result & sign != 0),
        (OF, overflow & sign != 0),
    ] {
        if set {
            new |= flag;
        }
    }
    (result, new)
}
