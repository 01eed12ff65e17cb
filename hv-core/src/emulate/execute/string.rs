//! String instructions, repeated or not.

use iced_x86::{Instruction, OpKind};

use super::arithmetic::{alu, flag};
use super::table::{Alu, String};
use super::{Done, Place, Stop, Unit};
use crate::emulate::decode::{Part, ones};
use crate::mem::paging::Access;
use crate::vm::Gpr;

/// ES, where the destination of a string instruction always is.
const ES: u8 = 0;

/// The width in bytes of the index registers.
fn address_width(instruction: &Instruction) -> Option<u8> {
    (0..2).find_map(|operand| match instruction.op_kind(operand) {
        OpKind::MemorySegSI | OpKind::MemoryESDI => Some(2),
        OpKind::MemorySegESI | OpKind::MemoryESEDI => Some(4),
        OpKind::MemorySegRSI | OpKind::MemoryESRDI => Some(8),
        _ => None,
    })
}

impl Unit<'_> {
    pub(super) fn string(&mut self, op: String, budget: u32) -> Result<Done, Stop> {
        let width = address_width(self.instruction).ok_or(Stop::Unsupported)?;
        let [counter, source, target] =
            [Gpr::Rcx, Gpr::Rsi, Gpr::Rdi].map(|register| Part::low(register as u8, width));
        let (equal, unequal) =
            (self.instruction.has_rep_prefix(), self.instruction.has_repne_prefix());
        let repeated = equal || unequal;
        let compares = op.compares();
        let before = self.machine.flags();
        // A single step traps behind each iteration.
        let budget = if before & flag::TF != 0 { 1 } else { budget };
        let size = u64::from(self.size);
        let step = if before & flag::DF != 0 { size.wrapping_neg() } else { size };
        let mut left = if repeated { self.read_part(counter) } else { 1 };
        let mut flags = before;
        if left == 0 {
            return Ok(Done::Complete);
        }
        let mut done = Done::Again;
        for _ in 0..budget {
            flags = self.iteration(op, [source, target], flags)?;
            if op.has_source() {
                self.advance(source, step);
            }
            if op.has_target() {
                self.advance(target, step);
            }
            left = left.wrapping_sub(1);
            if repeated {
                self.write_part(counter, left);
            }
            let ends = compares && if flags & flag::ZF != 0 { unequal } else { equal };
            if left == 0 || ends {
                done = Done::Complete;
                break;
            }
        }
        // A fault leaves the flags as they were before the first iteration.
        if compares {
            self.machine.set_flags(flags);
        }
        Ok(done)
    }

    #[inline(never)]
    fn advance(&mut self, index: Part, step: u64) {
        let next = self.read_part(index).wrapping_add(step);
        self.write_part(index, next);
    }

    #[inline(never)]
    fn at(&mut self, number: u8, index: Part, access: Access) -> Result<Place, Stop> {
        let offset = self.read_part(index) & ones(index.width);
        let linear = self.linear(number, offset, self.size, access)?;
        self.machine.place(linear, self.size, access)
    }

    /// One iteration but for the registers that count; the flags that it gives.
    fn iteration(
        &mut self,
        op: String,
        [source, target]: [Part; 2],
        flags: u64,
    ) -> Result<u64, Stop> {
        let accumulator = Part::low(Gpr::Rax as u8, self.size);
        let from = if op.has_source() {
            Some(self.at(self.operand_segment()?, source, Access::READ)?)
        } else {
            None
        };
        let to = if op.has_target() {
            let access = if op.compares() { Access::READ } else { Access::WRITE };
            Some(self.at(ES, target, access)?)
        } else {
            None
        };
        let port = self.machine.register(Gpr::Rdx as u8) as u16;
        let value = match (from, op) {
            (Some(from), _) => self.machine.read(from)?,
            (None, String::Ins) => self.machine.input(port, self.size)?.into(),
            (None, _) => self.read_part(accumulator),
        };
        match (to, op) {
            (Some(to), String::Cmps | String::Scas) => {
                let other = self.machine.read(to)?;
                return Ok(alu(Alu::Cmp, value, other, flags, self.size).1);
            }
            (Some(to), _) => self.machine.write(to, value)?,
            (None, String::Outs) => self.machine.output(port, self.size, value as u32)?,
            (None, _) => self.write_part(accumulator, value),
        }
        Ok(flags)
    }
}
