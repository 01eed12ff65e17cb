//! Addresses: the effective one of an operand, and the linear one that its segment allows.

use iced_x86::{CodeSize, Instruction, Register};

use super::segment::{self, SS};
use super::{Stop, Unit};
use crate::emulate::decode::{Part, ones};
use crate::mem::paging::Access;
use crate::vm::Event;
use crate::vm::hardware::Mode;

/// The offset in its segment of an instruction's operand in memory, and so many bytes further on.
#[inline(never)]
pub fn offset(i: &Instruction, bytes: u64, register: &mut dyn FnMut(u8) -> u64) -> u64 {
    let (base, index) = (i.memory_base(), i.memory_index());
    let width = width(base).or_else(|| width(index)).unwrap_or_else(|| {
        match (i.memory_displ_size(), i.code_size()) {
            (8, _) | (0 | 1, CodeSize::Code64) => 8,
            (4, _) | (0 | 1, CodeSize::Code32) => 4,
            _ => 2,
        }
    });
    let mut value = |of: Register| Part::of(of).map_or(0, |part| register(part.number));
    // The displacement is that from address 0, whatever it was relative to.
    let scaled = value(index).wrapping_mul(i.memory_index_scale().into());
    let sum = i.memory_displacement64().wrapping_add(value(base)).wrapping_add(scaled);
    sum.wrapping_add(bytes) & ones(width)
}

impl Unit<'_> {
    /// The segment register of the operand in memory that is not always in ES. 64-bit code knows no
    /// overrides but those of FS and GS: elsewhere the base register decides.
    pub(super) fn operand_segment(&self) -> Result<u8, Stop> {
        use Register::{EBP, ESP, RBP, RSP};
        let named = segment::number(self.instruction.memory_segment()).ok_or(Stop::Unsupported)?;
        if self.machine.mode() != Mode::Code64 || named > segment::DS {
            return Ok(named);
        }
        let stack = matches!(self.instruction.memory_base(), RSP | RBP | ESP | EBP);
        Ok(if stack { SS } else { segment::DS })
    }

    /// The linear address of so many bytes at an offset in a segment.
    ///
    /// # Errors
    ///
    /// #GP, #SS or #AC (SDM vol. 3, Limit Checking; Type Checking; Alignment Check Exception).
    #[inline(never)]
    pub(super) fn linear(
        &mut self,
        number: u8,
        offset: u64,
        size: u8,
        access: Access,
    ) -> Result<u64, Stop> {
        const STACK_FAULT: Event = Event::exception(12, 0);
        let last = u64::from(size).wrapping_sub(1);
        let (linear, allowed) = if self.machine.mode() == Mode::Code64 {
            let base = if number > segment::DS { self.machine.segment(number).base } else { 0 };
            let linear = base.wrapping_add(offset);
            (linear, canonical(linear) && canonical(linear.wrapping_add(last)))
        } else {
            let segment = self.machine.segment(number);
            let typed = !self.machine.protected() || segment::allows(segment.rights, access);
            let inside = segment::contains(&segment, offset, last);
            (segment.base.wrapping_add(offset) & 0xffff_ffff, typed && inside)
        };
        if !allowed {
            return Err(Stop::Fault(if number == SS {
                STACK_FAULT
            } else {
                segment::protection(0)
            }));
        }
        if linear & last != 0 && self.alignment_counts() {
            return Err(Stop::Fault(Event::exception(17, 0)));
        }
        Ok(linear)
    }

    #[cold]
    fn alignment_counts(&mut self) -> bool {
        const AC: u64 = 1 << 18;
        self.machine.flags() & AC != 0
            && self.machine.privilege() == 3
            && self.machine.checks_alignment()
    }
}

/// The width in bytes of addresses that are made of this register.
fn width(register: Register) -> Option<u8> {
    match register {
        Register::None => None,
        Register::RIP => Some(8),
        Register::EIP => Some(4),
        _ => Part::of(register).map(|part| part.width),
    }
}

/// Whether bits 63:47 are the same.
fn canonical(linear: u64) -> bool {
    linear as i64 >> 47 == 0 || linear as i64 >> 47 == -1
}
