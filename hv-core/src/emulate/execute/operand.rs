//! Operands: registers, memory and immediates.

use iced_x86::OpKind;

use super::address::offset;
use super::{Place, Stop, Unit};
use crate::emulate::decode::{Part, ones};
use crate::mem::paging::Access;

/// How often a locked access is tried.
const TRIES: u32 = 64;

impl Unit<'_> {
    pub(super) fn part(&self, operand: u32) -> Result<Part, Stop> {
        Part::of(self.instruction.op_register(operand)).ok_or(Stop::Unsupported)
    }

    #[inline(never)]
    pub(super) fn read_part(&mut self, part: Part) -> u64 {
        part.get(self.machine.register(part.number))
    }

    #[inline(never)]
    pub(super) fn write_part(&mut self, part: Part, value: u64) {
        let old = self.machine.register(part.number);
        self.machine.set_register(part.number, part.set(old, value));
    }

    /// The value of an operand.
    #[inline(never)]
    pub(super) fn get(&mut self, operand: u32) -> Result<u64, Stop> {
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
    pub(super) fn put(&mut self, operand: u32, value: u64) -> Result<(), Stop> {
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
    pub(super) fn modify(&mut self, new: &dyn Fn(u64) -> (u64, u64)) -> Result<u64, Stop> {
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

    pub(super) fn modify_at(
        &mut self,
        place: Place,
        new: &dyn Fn(u64) -> (u64, u64),
    ) -> Result<u64, Stop> {
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

    /// The operand in memory.
    pub(super) fn operand(&mut self, access: Access) -> Result<Place, Stop> {
        self.operand_beyond(0, access)
    }

    /// The same, so many bytes further on.
    #[inline(never)]
    pub(super) fn operand_beyond(&mut self, bytes: u64, access: Access) -> Result<Place, Stop> {
        let offset = offset(self.instruction, bytes, &mut |number| self.machine.register(number));
        let segment = self.operand_segment()?;
        let linear = self.linear(segment, offset, self.size, access)?;
        self.machine.place(linear, self.size, access)
    }
}
