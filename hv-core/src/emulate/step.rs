//! The instruction that exited, executed instead of the CPU: one that reached memory where there is no
//! RAM, INS and OUTS.

use iced_x86::Instruction;

use super::decode::{self, DecodeError, ones, signed};
use super::execute::{self, Done, Guest, Op, Stop};
use super::instruction;
use super::mmio::{device_read, device_write};
use super::recent::{Kind, Move};
use crate::host::report::Cause;
use crate::mem::frames::PAGE;
use crate::mem::paging::Access;
use crate::mem::walk::{Fetched, MAX_LENGTH};
use crate::vm::exit::{Ending, NestedFault, PortAccess};
use crate::vm::hardware::{Kept, Mode};
use crate::vm::{Hardware, Outcome, Vcpu};

#[cfg(test)]
mod tests;

/// Of [`NestedFault::access`].
const READ: u8 = 1 << 0;
/// Of [`NestedFault::access`].
const WRITE: u8 = 1 << 1;

/// Iterations of a repeated instruction before the guest may be interrupted.
const BUDGET: u32 = 64;

/// Executes the instruction that exited for an access where there is no RAM: its own, a walk of the page
/// tables, or its fetch.
#[inline(never)]
pub fn access(vcpu: &mut Vcpu, hardware: &mut impl Hardware, fault: NestedFault) -> Outcome {
    let (mode, rip) = (hardware.mode(), hardware.kept(Kept::Rip));
    let fetched = instruction::fetch_in(vcpu, hardware, mode, rip);
    if let Some(recent) = vcpu.recent.get(&fetched, mode, rip)
        && is_plain(vcpu, recent, fault)
    {
        return plain(vcpu, hardware, recent, fault.gpa);
    }
    any(vcpu, hardware, fault, &fetched, mode, rip)
}

/// The same where the instruction has to be decoded.
#[cold]
#[inline(never)]
fn any(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    fault: NestedFault,
    fetched: &Fetched,
    mode: Mode,
    rip: u64,
) -> Outcome {
    let gpa = fault.gpa;
    match decode::decode(fetched.as_slice(), mode, rip) {
        Ok(instruction) => {
            if let Some(found) = Move::of(&instruction) {
                vcpu.recent.put(fetched, mode, rip, found);
                if is_plain(vcpu, found, fault) {
                    return plain(vcpu, hardware, found, gpa);
                }
            }
            let guest = Guest::new(vcpu, hardware, mode, None);
            run(guest, &instruction).unwrap_or_else(|| unsupported(vcpu, fetched, gpa))
        }
        Err(DecodeError::NeedBytes) => fetch_on(vcpu, hardware, mode, rip, gpa),
        Err(DecodeError::Invalid) => unsupported(vcpu, fetched, gpa),
    }
}

/// INS and OUTS, for which the CPU has found that they may use the port.
#[cold]
#[inline(never)]
pub fn port_string(vcpu: &mut Vcpu, hardware: &mut impl Hardware, asked: PortAccess) -> Outcome {
    let (mode, rip) = (hardware.mode(), hardware.kept(Kept::Rip));
    let fetched = instruction::fetch_in(vcpu, hardware, mode, rip);
    let instruction = decode::decode(fetched.as_slice(), mode, rip);
    match instruction {
        Ok(instruction) if asks(&instruction) => {
            let guest = Guest::new(vcpu, hardware, mode, Some(asked));
            run(guest, &instruction).unwrap_or(Outcome::Resume)
        }
        Err(DecodeError::NeedBytes) => Outcome::Leave(vcpu.ends(
            Cause::Unsupported,
            0,
            "the instruction that exited cannot be fetched again",
        )),
        // It was another instruction when the CPU saw it.
        _ => Outcome::Resume,
    }
}

/// The instruction that exited cannot be read as the page tables are now: the CPU had it from a translation
/// that it had cached. It may lose that at any time, so the fetch faults as it would have without.
#[cold]
#[inline(never)]
pub fn fetch_again(vcpu: &mut Vcpu, hardware: &mut impl Hardware) -> Outcome {
    let (mode, rip) = (hardware.mode(), hardware.kept(Kept::Rip));
    let code = hardware.segment(1);
    for at in [0, MAX_LENGTH.wrapping_sub(1)] {
        let offset = rip.wrapping_add(at as u64);
        let linear = match mode {
            Mode::Code64 => offset,
            _ => code.base.wrapping_add(offset) & 0xffff_ffff,
        };
        let fetch = Guest::new(vcpu, hardware, mode, None).translate(linear, Access::FETCH);
        if let Err(Stop::Fault(event)) = fetch {
            return Outcome::Inject(event);
        }
    }
    Outcome::Leave(vcpu.ends(
        Cause::Unsupported,
        0,
        "the instruction that exited cannot be fetched again, or is not what the exit says",
    ))
}

fn asks(instruction: &Instruction) -> bool {
    use execute::String::{Ins, Outs};
    matches!(execute::find(instruction.code()), Some((Op::String(Ins | Outs), _)))
}

/// `None` if the instruction is not one of those that are known.
fn run<H: Hardware>(mut guest: Guest<'_, H>, instruction: &Instruction) -> Option<Outcome> {
    // At most MAX_LENGTH.
    let length = instruction.len() as u32;
    Some(match execute::execute(&mut guest, instruction, BUDGET) {
        Ok(Done::Complete) => Outcome::AdvanceBy(length),
        Ok(Done::Again) => Outcome::AdvanceBy(0),
        Ok(Done::Shadowed) => {
            guest.advance_into_shadow(length);
            Outcome::Resume
        }
        Err(Stop::Fault(event)) => Outcome::Inject(event),
        Err(Stop::End) => guest.end().map_or(Outcome::Resume, Outcome::Leave),
        Err(Stop::Again) => Outcome::Resume,
        Err(Stop::Unsupported) => return None,
    })
}

/// Whether the CPU has checked everything about a move, and says where it is: it is not one whose address
/// it may have cut, or that it may be the second page of.
#[inline(always)]
fn is_plain(vcpu: &Vcpu, Move { kind, size, .. }: Move, fault: NestedFault) -> bool {
    let NestedFault { gpa, access, walk } = fault;
    let done = if matches!(kind, Kind::Load(_) | Kind::LoadSigned(_)) { READ } else { WRITE };
    !walk
        && gpa & u64::from(size).wrapping_sub(1) == 0
        && gpa & PAGE.wrapping_sub(1) != 0
        && gpa >= vcpu.vm.memory.size()
        && access & done != 0
}

/// Does such a move.
#[inline(always)]
fn plain(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    Move { kind, size, length }: Move,
    gpa: u64,
) -> Outcome {
    match kind {
        Kind::Load(part) | Kind::LoadSigned(part) => {
            let mut value = device_read(vcpu, hardware, gpa, size) & ones(size);
            if matches!(kind, Kind::LoadSigned(_)) {
                value = signed(value, size);
            }
            let old = vcpu.gpr(hardware, part.number);
            vcpu.set_gpr(hardware, part.number, part.set(old, value));
        }
        Kind::Store(_) | Kind::StoreImmediate(_) => {
            let value = match kind {
                Kind::Store(part) => part.get(vcpu.gpr(hardware, part.number)),
                Kind::StoreImmediate(value) => value as u64 & ones(size),
                _ => 0,
            };
            if let Err(leave) = device_write(vcpu, hardware, gpa, size, value) {
                return Outcome::Leave(leave);
            }
        }
    }
    Outcome::AdvanceBy(length.into())
}

/// The instruction goes on behind what can be read without more ado: each of its bytes is fetched as
/// the CPU does it. Where there is no RAM they are ones.
#[cold]
#[inline(never)]
fn fetch_on(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    mode: Mode,
    rip: u64,
    gpa: u64,
) -> Outcome {
    let long = mode == Mode::Code64;
    let code = hardware.segment(1);
    let mut bytes = [0xff; MAX_LENGTH];
    for (length, at) in (1..).zip(0..MAX_LENGTH) {
        let offset = rip.wrapping_add(at as u64);
        let linear = if long { offset } else { code.base.wrapping_add(offset) & 0xffff_ffff };
        let mut guest = Guest::new(vcpu, hardware, mode, None);
        let translated = match guest.translate(linear, Access::FETCH) {
            Ok(gpa) => gpa,
            Err(Stop::Fault(event)) => return Outcome::Inject(event),
            Err(_) => return Outcome::Resume,
        };
        if let (Some(byte), Ok(value)) = (bytes.get_mut(at), vcpu.vm.memory.load(translated, 1)) {
            *byte = value as u8;
        }
        let so_far = bytes.get(..length).unwrap_or(&bytes);
        match decode::decode(so_far, mode, rip) {
            Ok(instruction) => {
                let guest = Guest::new(vcpu, hardware, mode, None);
                let outcome = run(guest, &instruction);
                let unknown = || unsupported(vcpu, &Fetched::by_cpu(so_far), gpa);
                return outcome.unwrap_or_else(unknown);
            }
            Err(DecodeError::NeedBytes) => {}
            Err(DecodeError::Invalid) => break,
        }
    }
    Outcome::UNDEFINED
}

#[cold]
fn unsupported(vcpu: &mut Vcpu, fetched: &Fetched, gpa: u64) -> Outcome {
    Outcome::Leave(vcpu.ends_at(Ending {
        cause: Cause::Unsupported,
        code: fetched.as_slice().iter().take(8).rfold(0, |code, &b| code << 8 | u64::from(b)),
        address: gpa,
        message: "an instruction that accesses memory where there is no RAM is not emulated (code: its bytes)",
    }))
}
