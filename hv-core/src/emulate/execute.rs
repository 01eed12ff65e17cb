//! One instruction, executed as the CPU does it (SDM vol. 2, Instruction Set Reference), on anything
//! that is a [`Machine`].
//!
//! What faults leaves everything as it was before the instruction, or before the iteration of a
//! repeated one. Every place that is written is checked before anything is read or written.

use iced_x86::Instruction;

use super::decode::signed;
use crate::vm::Event;

mod address;
mod arithmetic;
mod guest;
mod machine;
#[cfg(test)]
mod native;
mod operand;
mod operation;
mod segment;
mod string;
mod table;
#[cfg(test)]
mod tests;

pub use address::offset;
pub use guest::Guest;
pub use machine::{Machine, Place};
pub use segment::{DS, number as segment_number};
pub use table::{Op, String, find};

use arithmetic::{alu, unary};
use table::Alu;

/// Why an instruction is not executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It raises this exception; CR2 is set.
    Fault(Event),
    /// It ends the VM; the machine knows why.
    End,
    /// The CPU is to try it again: what it depends on has changed.
    Again,
    /// It is not one of those that are known here.
    Unsupported,
}

/// How an instruction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Done {
    /// It is complete.
    Complete,
    /// It is complete and holds interrupts off until the next one is: MOV SS.
    Shadowed,
    /// Iterations are left: the instruction pointer stays.
    Again,
}

/// Executes an instruction, a repeated one for at most `budget` iterations, which is not 0. Moving the
/// instruction pointer is left to the caller.
///
/// # Errors
///
/// See [`Stop`].
pub fn execute(
    machine: &mut dyn Machine,
    instruction: &Instruction,
    budget: u32,
) -> Result<Done, Stop> {
    let (op, size) = find(instruction.code()).ok_or(Stop::Unsupported)?;
    let locked = instruction.has_lock_prefix() || op == Op::Exchange;
    let mut unit = Unit { machine, instruction, size, locked };
    match op {
        Op::Move | Op::ZeroExtend => {
            let value = unit.get(1)?;
            unit.put(0, value)?;
        }
        Op::SignExtend => {
            let value = signed(unit.get(1)?, size);
            unit.put(0, value)?;
        }
        Op::SwapBytes => {
            let value = unit.get(1)?.swap_bytes() >> 8u32.wrapping_sub(size.into()).wrapping_mul(8);
            unit.put(0, value)?;
        }
        Op::Alu(op) => {
            let (b, flags) = (unit.get(1)?, unit.machine.flags());
            if matches!(op, Alu::Cmp | Alu::Test) {
                let a = unit.get(0)?;
                unit.machine.set_flags(alu(op, a, b, flags, size).1);
            } else {
                unit.modify(&|a| alu(op, a, b, flags, size))?;
            }
        }
        Op::Unary(op) => {
            let flags = unit.machine.flags();
            unit.modify(&|a| unary(op, a, flags, size))?;
        }
        Op::Bit(op) => unit.bit(op)?,
        Op::Exchange => {
            let (b, flags) = (unit.get(1)?, unit.machine.flags());
            let a = unit.modify(&|_| (b, flags))?;
            unit.put(1, a)?;
        }
        Op::ExchangeAdd => {
            let (b, flags) = (unit.get(1)?, unit.machine.flags());
            let a = unit.modify(&|a| alu(Alu::Add, a, b, flags, size))?;
            unit.put(1, a)?;
        }
        Op::CompareExchange => unit.compare_exchange()?,
        Op::CompareExchange8 => unit.compare_exchange_8()?,
        Op::Push => unit.push()?,
        Op::Pop => unit.pop()?,
        Op::StoreSegment => {
            let number = segment::number(instruction.op1_register()).ok_or(Stop::Unsupported)?;
            let selector = unit.machine.segment(number).selector;
            unit.put(0, selector.into())?;
        }
        Op::LoadSegment => {
            let selector = unit.get(1)? as u16;
            return unit.load_segment(selector);
        }
        Op::String(op) => return unit.string(op, budget),
        Op::AluGroup => return Err(Stop::Unsupported),
    }
    Ok(Done::Complete)
}

/// An instruction on its machine.
struct Unit<'a> {
    machine: &'a mut dyn Machine,
    instruction: &'a Instruction,
    /// Bytes of the operand in memory.
    size: u8,
    /// Memory is changed in one step.
    locked: bool,
}
