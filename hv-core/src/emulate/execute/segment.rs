//! Segments: what they allow, and how their registers are loaded (SDM vol. 3, Protected-Mode Memory
//! Management; SDM vol. 2, MOV).

use iced_x86::Register;

use super::{Done, Stop, Unit};
use crate::mem::paging::Access;
use crate::vm::Event;
use crate::vm::hardware::{Mode, Segment};

/// SS.
pub const SS: u8 = 2;
/// DS.
pub const DS: u8 = 3;
const LDTR: u8 = 6;

const ACCESSED: u32 = 1 << 0;
/// Of code: readable. Of data: writable.
const READ_WRITE: u32 = 1 << 1;
/// Of code: conforming. Of data: the limit is the lower end.
const CONFORMING: u32 = 1 << 2;
const CODE: u32 = 1 << 3;
const CODE_OR_DATA: u32 = 1 << 4;
const PRESENT: u32 = 1 << 7;
/// 32-bit stack pointer; the upper end of a segment that expands down is 4 GiB.
pub const BIG: u32 = 1 << 14;
const GRANULARITY: u32 = 1 << 15;
const UNUSABLE: u32 = 1 << 16;
/// Present, writable, accessed data.
const REAL: u32 = 0x93;

/// #GP.
pub const fn protection(code: u32) -> Event {
    Event::exception(13, code)
}

/// The number of a segment register.
pub fn number(register: Register) -> Option<u8> {
    let is = (Register::ES..=Register::GS).contains(&register);
    if is { (register as u8).checked_sub(Register::ES as u8) } else { None }
}

const fn dpl(rights: u32) -> u8 {
    (rights >> 5) as u8 & 3
}

/// Whether the type of a segment allows the access.
pub fn allows(rights: u32, access: Access) -> bool {
    rights & UNUSABLE == 0
        && match (rights & CODE != 0, access.writes()) {
            (true, true) => false,
            (true, false) | (false, true) => rights & READ_WRITE != 0,
            (false, false) => true,
        }
}

/// Whether the bytes from `offset` up to that and `last` are in the segment.
pub fn contains(segment: &Segment, offset: u64, last: u64) -> bool {
    let end = offset.wrapping_add(last);
    let limit = u64::from(segment.limit);
    if segment.rights & (CODE | CONFORMING) == CONFORMING {
        let top = if segment.rights & BIG != 0 { 0xffff_ffff } else { 0xffff };
        offset > limit && end <= top
    } else {
        end <= limit
    }
}

impl Unit<'_> {
    /// MOV to the segment register that is operand 0.
    pub(super) fn load_segment(&mut self, selector: u16) -> Result<Done, Stop> {
        let number = number(self.instruction.op0_register()).ok_or(Stop::Unsupported)?;
        let segment = if !self.machine.protected() {
            // The limit and the rights stay.
            let old = self.machine.segment(number);
            let rights = if old.rights & UNUSABLE != 0 { REAL } else { old.rights };
            Segment { selector, base: u64::from(selector) << 4, rights, limit: old.limit }
        } else if selector & !3 == 0 {
            self.null(number, selector)?
        } else {
            self.descriptor(number, selector)?
        };
        self.machine.set_segment(number, &segment);
        Ok(if number == SS { Done::Shadowed } else { Done::Complete })
    }

    fn null(&mut self, number: u8, selector: u16) -> Result<Segment, Stop> {
        let privilege = self.machine.privilege();
        let long = self.machine.mode() == Mode::Code64;
        if number == SS && !(long && privilege < 3 && selector == privilege.into()) {
            return Err(Stop::Fault(protection(0)));
        }
        // The CPL stays readable as the DPL of SS.
        let rights = UNUSABLE | if number == SS { u32::from(privilege) << 5 } else { 0 };
        Ok(Segment { selector, base: 0, limit: 0, rights })
    }

    fn descriptor(&mut self, number: u8, selector: u16) -> Result<Segment, Stop> {
        const LOCAL: u16 = 1 << 2;
        let refuse = |vector| Stop::Fault(Event::exception(vector, u32::from(selector & !3)));
        let (base, limit) = if selector & LOCAL == 0 {
            self.machine.gdt()
        } else {
            let local = self.machine.segment(LDTR);
            let limit = if local.rights & UNUSABLE == 0 { local.limit } else { 0 };
            (local.base, limit)
        };
        if u32::from(selector | 7) > limit {
            return Err(refuse(13));
        }
        let mut linear = base.wrapping_add(u64::from(selector & !7));
        if self.machine.mode() != Mode::Code64 {
            linear &= 0xffff_ffff;
        }
        let place = self.machine.place(linear, 8, Access::IMPLICIT)?;
        let descriptor = self.machine.read(place)?;
        let mut rights = (descriptor >> 40) as u32 & 0xf0ff;
        let (cpl, rpl) = (self.machine.privilege(), selector as u8 & 3);
        let kind = rights & (CODE_OR_DATA | CODE | READ_WRITE | CONFORMING);
        let legal = if number == SS {
            kind & !CONFORMING == CODE_OR_DATA | READ_WRITE && rpl == cpl && dpl(rights) == cpl
        } else {
            kind & CODE_OR_DATA != 0
                && (kind & CODE == 0 || kind & READ_WRITE != 0)
                && (kind & (CODE | CONFORMING) == CODE | CONFORMING || cpl.max(rpl) <= dpl(rights))
        };
        if !legal {
            return Err(refuse(13));
        }
        if rights & PRESENT == 0 {
            return Err(refuse(if number == SS { 12 } else { 11 }));
        }
        if rights & ACCESSED == 0 {
            rights |= ACCESSED;
            let place = self.machine.place(linear, 8, Access::IMPLICIT_WRITE)?;
            if !self.machine.replace(place, descriptor, descriptor | 1 << 40)? {
                return Err(Stop::Again);
            }
        }
        let limit = (descriptor & 0xffff | descriptor >> 32 & 0xf_0000) as u32;
        let limit = if rights & GRANULARITY != 0 { limit << 12 | 0xfff } else { limit };
        let base = descriptor >> 16 & 0xff_ffff | descriptor >> 32 & 0xff00_0000;
        Ok(Segment { selector, base, limit, rights })
    }
}
