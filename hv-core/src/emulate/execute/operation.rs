//! Instructions that are more than one operation on their operands.

use iced_x86::OpKind;

use super::arithmetic::{alu, flag};
use super::table::{Alu, Bit};
use super::{Stop, Unit, segment};
use crate::emulate::decode::{Part, ones, signed};
use crate::mem::paging::Access;
use crate::vm::Gpr;
use crate::vm::hardware::Mode;

impl Unit<'_> {
    /// BT, BTS, BTR, BTC. An offset in a register reaches beyond the operand in memory.
    pub(super) fn bit(&mut self, op: Bit) -> Result<(), Stop> {
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

    pub(super) fn compare_exchange(&mut self) -> Result<(), Stop> {
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

    pub(super) fn compare_exchange_8(&mut self) -> Result<(), Stop> {
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
    pub(super) fn stack_pointer(&mut self) -> Part {
        let width = match self.machine.mode() {
            Mode::Code64 => 8,
            _ if self.machine.segment(segment::SS).rights & segment::BIG != 0 => 4,
            _ => 2,
        };
        Part::low(Gpr::Rsp as u8, width)
    }

    pub(super) fn push(&mut self) -> Result<(), Stop> {
        let value = self.get(0)?;
        let pointer = self.stack_pointer();
        let top = self.read_part(pointer).wrapping_sub(self.size.into()) & ones(pointer.width);
        let linear = self.linear(segment::SS, top, self.size, Access::WRITE)?;
        let place = self.machine.place(linear, self.size, Access::WRITE)?;
        self.machine.write(place, value)?;
        self.write_part(pointer, top);
        Ok(())
    }

    pub(super) fn pop(&mut self) -> Result<(), Stop> {
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
}
