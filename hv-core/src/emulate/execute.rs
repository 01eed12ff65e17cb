//! One instruction, executed as the CPU does it (SDM vol. 2, Instruction Set Reference), on anything
//! that is a [`Machine`].
//!
//! What faults leaves everything as it was before the instruction, or before the iteration of a
//! repeated one. Every place that is written is checked before anything is read or written.

use iced_x86::{Instruction, OpKind};

use super::decode::{Part, ones, signed};
use crate::mem::paging::Access;
use crate::vm::hardware::{Mode, Segment};
use crate::vm::{Event, Gpr};

mod address;
mod arithmetic;
mod guest;
#[cfg(test)]
mod native;
mod segment;
mod string;
mod table;
#[cfg(test)]
mod tests;

pub use address::offset;
pub use guest::Guest;
pub use segment::{DS, number as segment_number};
pub use table::{Op, String, find};

use arithmetic::{alu, flag, unary};
use table::{Alu, Bit};

/// The machine as an instruction sees it. Registers are named by their numbers in encodings, segment
/// registers likewise: ES, CS, SS, DS, FS, GS.
pub trait Machine {
    /// A general register.
    fn register(&mut self, number: u8) -> u64;
    /// Sets a general register.
    fn set_register(&mut self, number: u8, value: u64);
    /// RFLAGS.
    fn flags(&mut self) -> u64;
    /// Sets RFLAGS.
    fn set_flags(&mut self, flags: u64);
    /// How instructions are read.
    fn mode(&self) -> Mode;
    /// Protected mode, and not virtual-8086 mode.
    fn protected(&mut self) -> bool;
    /// The privilege level.
    fn privilege(&mut self) -> u8;
    /// CR0.AM.
    fn checks_alignment(&mut self) -> bool;
    /// A segment register, or LDTR as number 6.
    fn segment(&mut self, number: u8) -> Segment;
    /// Loads a segment register's hidden parts and selector.
    fn set_segment(&mut self, number: u8, segment: &Segment);
    /// Base and limit of the GDT.
    fn gdt(&mut self) -> (u64, u32);
    /// Makes an access to linear memory ready.
    ///
    /// # Errors
    ///
    /// The access faults.
    fn place(&mut self, linear: u64, size: u8, access: Access) -> Result<Place, Stop>;
    /// Loads.
    ///
    /// # Errors
    ///
    /// A device ends the VM.
    fn read(&mut self, place: Place) -> Result<u64, Stop>;
    /// Stores the low bytes of `value`.
    ///
    /// # Errors
    ///
    /// A device ends the VM.
    fn write(&mut self, place: Place, value: u64) -> Result<(), Stop>;
    /// Stores `new` where `old` was read, or says `false` because memory has changed: in one step
    /// where it is RAM and aligned.
    ///
    /// # Errors
    ///
    /// A device ends the VM.
    fn replace(&mut self, place: Place, old: u64, new: u64) -> Result<bool, Stop>;
    /// IN.
    ///
    /// # Errors
    ///
    /// This access was not asked for.
    fn input(&mut self, port: u16, size: u8) -> Result<u32, Stop>;
    /// OUT.
    ///
    /// # Errors
    ///
    /// This access was not asked for.
    fn output(&mut self, port: u16, size: u8, value: u32) -> Result<(), Stop>;
}

/// Where up to 8 bytes of linear memory are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address of the first byte.
    pub first: u64,
    /// The address of the first byte on the second page.
    pub second: u64,
    /// How many bytes are on the first page.
    pub split: u8,
    /// How many bytes there are.
    pub size: u8,
}

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

/// How often a locked access is tried.
const TRIES: u32 = 64;

impl Unit<'_> {
    fn part(&self, operand: u32) -> Result<Part, Stop> {
        Part::of(self.instruction.op_register(operand)).ok_or(Stop::Unsupported)
    }

    #[inline(never)]
    fn read_part(&mut self, part: Part) -> u64 {
        part.get(self.machine.register(part.number))
    }

    #[inline(never)]
    fn write_part(&mut self, part: Part, value: u64) {
        let old = self.machine.register(part.number);
        self.machine.set_register(part.number, part.set(old, value));
    }

    /// The value of an operand.
    #[inline(never)]
    fn get(&mut self, operand: u32) -> Result<u64, Stop> {
        match self.instruction.op_kind(operand) {
            OpKind::Register => {
                let part = self.part(operand)?;
                Ok(self.read_part(part))
            }
            OpKind::Memory => {
                let place = self.operand(Access::READ)?;
                self.machine.read(place)
            }
            _ => {
                let immediate = self.instruction.try_immediate(operand);
                immediate.map(|value| value & ones(self.size)).map_err(|_| Stop::Unsupported)
            }
        }
    }

    #[inline(never)]
    fn put(&mut self, operand: u32, value: u64) -> Result<(), Stop> {
        if self.instruction.op_kind(operand) == OpKind::Memory {
            let place = self.operand(Access::WRITE)?;
            return self.machine.write(place, value);
        }
        let part = self.part(operand)?;
        self.write_part(part, value);
        Ok(())
    }

    /// Makes of operand 0 what `new` makes of it, sets the flags that it gives, and returns what was
    /// there.
    fn modify(&mut self, new: &dyn Fn(u64) -> (u64, u64)) -> Result<u64, Stop> {
        if self.instruction.op0_kind() == OpKind::Memory {
            let place = self.operand(Access::WRITE)?;
            return self.modify_at(place, new);
        }
        let part = self.part(0)?;
        let old = self.read_part(part);
        let (value, flags) = new(old);
        self.write_part(part, value);
        self.machine.set_flags(flags);
        Ok(old)
    }

    fn modify_at(&mut self, place: Place, new: &dyn Fn(u64) -> (u64, u64)) -> Result<u64, Stop> {
        for _ in 0..TRIES {
            let old = self.machine.read(place)?;
            let (value, flags) = new(old);
            if self.locked {
                if !self.machine.replace(place, old, value)? {
                    continue;
                }
            } else {
                self.machine.write(place, value)?;
            }
            self.machine.set_flags(flags);
            return Ok(old);
        }
        Err(Stop::Again)
    }

    /// BT, BTS, BTR, BTC. An offset in a register reaches beyond the operand in memory.
    fn bit(&mut self, op: Bit) -> Result<(), Stop> {
        let mut offset = self.get(1)?;
        let bits = u32::from(self.size).wrapping_mul(8);
        let in_memory = self.instruction.op0_kind() == OpKind::Memory;
        let place = if in_memory {
            let mut beyond = 0;
            if self.instruction.op1_kind() == OpKind::Register {
                let operands = signed(offset, self.size) as i64 >> bits.trailing_zeros();
                beyond = (operands as u64).wrapping_mul(self.size.into());
            }
            let access = if op == Bit::Test { Access::READ } else { Access::WRITE };
            Some(self.operand_beyond(beyond, access)?)
        } else {
            None
        };
        offset &= u64::from(bits).wrapping_sub(1);
        let mask = 1u64.wrapping_shl(offset as u32);
        let flags = self.machine.flags() & !flag::CF;
        let new = |old: u64| {
            let value = match op {
                Bit::Test => old,
                Bit::Set => old | mask,
                Bit::Reset => old & !mask,
                Bit::Complement => old ^ mask,
            };
            (value, flags | u64::from(old & mask != 0))
        };
        match (place, op) {
            (Some(place), Bit::Test) => {
                let value = self.machine.read(place)?;
                self.machine.set_flags(new(value).1);
            }
            (Some(place), _) => {
                self.modify_at(place, &new)?;
            }
            (None, _) => {
                self.modify(&new)?;
            }
        }
        Ok(())
    }

    fn compare_exchange(&mut self) -> Result<(), Stop> {
        let size = self.size;
        let accumulator = Part::low(Gpr::Rax as u8, size);
        let expected = self.read_part(accumulator);
        let (source, flags) = (self.get(1)?, self.machine.flags());
        let old = self.modify(&|old| {
            // What is not equal is written back.
            let value = if old == expected { source } else { old };
            (value, alu(Alu::Cmp, expected, old, flags, size).1)
        })?;
        if old != expected {
            self.write_part(accumulator, old);
        }
        Ok(())
    }

    fn compare_exchange_8(&mut self) -> Result<(), Stop> {
        let mut pair = |high: Gpr, low: Gpr| {
            let [high, low] = [high, low].map(|r| self.machine.register(r as u8));
            high << 32 | low & 0xffff_ffff
        };
        let expected = pair(Gpr::Rdx, Gpr::Rax);
        let source = pair(Gpr::Rcx, Gpr::Rbx);
        let flags = self.machine.flags() & !flag::ZF;
        let old = self.modify(&|old| {
            if old == expected { (source, flags | flag::ZF) } else { (old, flags) }
        })?;
        if old != expected {
            self.machine.set_register(Gpr::Rax as u8, old & 0xffff_ffff);
            self.machine.set_register(Gpr::Rdx as u8, old >> 32);
        }
        Ok(())
    }

    /// The stack pointer, as wide as the stack's addresses are.
    fn stack_pointer(&mut self) -> Part {
        let width = match self.machine.mode() {
            Mode::Code64 => 8,
            _ if self.machine.segment(segment::SS).rights & segment::BIG != 0 => 4,
            _ => 2,
        };
        Part::low(Gpr::Rsp as u8, width)
    }

    fn push(&mut self) -> Result<(), Stop> {
        let value = self.get(0)?;
        let pointer = self.stack_pointer();
        let top = self.read_part(pointer).wrapping_sub(self.size.into()) & ones(pointer.width);
        let linear = self.linear(segment::SS, top, self.size, Access::WRITE)?;
        let place = self.machine.place(linear, self.size, Access::WRITE)?;
        self.machine.write(place, value)?;
        self.write_part(pointer, top);
        Ok(())
    }

    fn pop(&mut self) -> Result<(), Stop> {
        let pointer = self.stack_pointer();
        let top = self.read_part(pointer);
        let linear = self.linear(segment::SS, top, self.size, Access::READ)?;
        let place = self.machine.place(linear, self.size, Access::READ)?;
        // The destination's address is that with the new stack pointer.
        let before = self.machine.register(Gpr::Rsp as u8);
        self.write_part(pointer, top.wrapping_add(self.size.into()));
        let result = if self.instruction.op0_kind() == OpKind::Memory {
            self.operand(Access::WRITE)
                .and_then(|to| self.machine.read(place).and_then(|v| self.machine.write(to, v)))
        } else {
            self.machine.read(place).and_then(|value| self.put(0, value))
        };
        if result.is_err() {
            self.machine.set_register(Gpr::Rsp as u8, before);
        }
        result
    }

    /// The operand in memory.
    fn operand(&mut self, access: Access) -> Result<Place, Stop> {
        self.operand_beyond(0, access)
    }

    /// The same, so many bytes further on.
    #[inline(never)]
    fn operand_beyond(&mut self, bytes: u64, access: Access) -> Result<Place, Stop> {
        let offset =
            address::offset(self.instruction, bytes, &mut |number| self.machine.register(number));
        let segment =
            segment::number(self.instruction.memory_segment()).ok_or(Stop::Unsupported)?;
        let linear = self.linear(segment, offset, self.size, access)?;
        self.machine.place(linear, self.size, access)
    }
}
