//! What EXITINFO1, EXITINFO2 and EXITINTINFO say, as pure functions of their values.

use super::exit_code::code;
use crate::vm::exit::{CrAccess, Exit, NestedFault, PortAccess};
use crate::vm::{Event, EventKind};

/// An access to a port, by EXITINFO1 (APM vol. 2, IOIO Intercept Information).
pub fn port(info: u64) -> PortAccess {
    PortAccess {
        port: (info >> 16) as u16,
        size: (info >> 4) as u8 & 7,
        input: info & 1 != 0,
        string: info & 1 << 2 != 0,
        repeated: info & 1 << 3 != 0,
    }
}

/// A nested page fault at `gpa`, by its error code (APM vol. 2, Nested versus Guest Page Faults).
pub fn nested(error: u64, gpa: u64) -> Exit {
    const WRITE: u64 = 1 << 1;
    const RESERVED: u64 = 1 << 3;
    const FETCH: u64 = 1 << 4;
    const WALK: u64 = 1 << 33;
    if error & RESERVED != 0 {
        return Exit::NestedMisconfig { gpa };
    }
    let (write, fetch) = (error & WRITE != 0, error & FETCH != 0);
    let access = u8::from(!write && !fetch) | u8::from(write) << 1 | u8::from(fetch) << 2;
    Exit::NestedFault(NestedFault { gpa, access, walk: error & WALK != 0 })
}

/// The instruction that an exit code stands for, past its prefixes, where it has no operand: what a CPU
/// that does not say where instructions end has to look for. `write` is bit 0 of EXITINFO1.
pub fn opcode(exit_code: u64, write: bool) -> Option<&'static [u8]> {
    Some(match exit_code {
        code::CPUID => &[0x0f, 0xa2],
        code::MSR if write => &[0x0f, 0x30],
        code::MSR => &[0x0f, 0x32],
        code::RDTSC => &[0x0f, 0x31],
        code::RDPMC => &[0x0f, 0x33],
        code::RDTSCP => &[0x0f, 0x01, 0xf9],
        code::PAUSE => &[0x90],
        code::HLT => &[0xf4],
        code::ICEBP => &[0xf1],
        code::INVD => &[0x0f, 0x08],
        code::WBINVD => &[0x0f, 0x09],
        code::XSETBV => &[0x0f, 0x01, 0xd1],
        code::VMMCALL => &[0x0f, 0x01, 0xd9],
        _ => return None,
    })
}

/// The operands of an instruction as decode assists leave them in EXITINFO1; `None` if they do not
/// for this one: CLTS, LMSW and SMSW (APM vol. 2, Decode Assists).
pub fn assisted(exit_code: u64, info: u64) -> Option<Exit> {
    const MOV_CR: u64 = 1 << 63;
    let (gpr, number) = (info as u8 & 0xf, exit_code as u8 & 0xf);
    Some(match exit_code {
        code::INVLPG => Exit::Invlpg { linear: Some(info) },
        code::DR_READ..code::DR_WRITE => Exit::Dr { number, gpr, read: true },
        code::DR_WRITE..code::EXCEPTION => Exit::Dr { number, gpr, read: false },
        _ if info & MOV_CR == 0 => return None,
        code::CR_READ..code::CR_WRITE => Exit::Cr(CrAccess::Read { cr: number, gpr }),
        code::CR_WRITE..code::DR_READ => Exit::Cr(CrAccess::Write { cr: number, gpr }),
        code::CR0_SEL_WRITE => Exit::Cr(CrAccess::Write { cr: 0, gpr }),
        _ => return None,
    })
}

/// The event whose delivery the exit interrupted and that must be injected again, by EXITINTINFO. One
/// that an instruction raises comes by itself when that runs again.
pub fn interrupted(info: u64) -> Option<Event> {
    const BREAKPOINT: u8 = 3;
    const OVERFLOW: u8 = 4;
    let event = Event::decode(info as u32, || (info >> 32) as u32, || 0)?;
    let by_instruction = event.kind == EventKind::SoftwareInterrupt
        || matches!(
            (event.kind, event.vector),
            (EventKind::HardwareException, BREAKPOINT | OVERFLOW)
        );
    (!by_instruction).then_some(event)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::super::exit_code::neutral;
    use super::*;
    use crate::emulate::msr::{CpuFacts, MsrState};
    use crate::vm::exit::Outcome;
    use crate::vm::handle::handle;
    use crate::vm::testing::vcpu;

    /// On a CPU that does not save the next RIP, a handler that goes on behind the instruction needs it.
    #[test]
    fn what_is_completed_can_be_measured() {
        let by_operands = [code::CR0_SEL_WRITE, code::INVLPG, code::IOIO, code::INVPCID];
        let completed = |exit_code: &u64| {
            let (mut v, mut h) = vcpu();
            v.msrs = MsrState::start(CpuFacts::new(true, 0));
            let outcome = handle(&mut v, &mut h, Exit::plain(neutral(*exit_code)));
            matches!(outcome, Outcome::Advance | Outcome::AdvanceAndLeave(_))
        };
        let (measured, unmeasured): (Vec<u64>, Vec<u64>) = (code::INTR..code::NPF)
            .filter(|exit_code| !by_operands.contains(exit_code))
            .filter(completed)
            .partition(|&exit_code| opcode(exit_code, false).is_some());
        assert_eq!(unmeasured, [], "a stale end would be taken for theirs");
        assert!([code::RDPMC, code::RDTSC, code::PAUSE].iter().all(|c| measured.contains(c)));
    }

    #[test]
    fn ports_are_laid_out_as_the_manual_says() {
        let out = PortAccess { port: 0x3f8, size: 1, input: false, string: false, repeated: false };
        assert_eq!(port(0x03f8_0110), out);
        let ins = PortAccess { port: 0x1f0, size: 2, input: true, string: true, repeated: true };
        assert_eq!(port(0x01f0_012d), ins);
        assert_eq!(port(0xcfc_0240).size, 4);
    }

    #[test]
    fn a_nested_fault_is_a_read_a_write_or_a_fetch() {
        let access = |error| match nested(error, 0x5000) {
            Exit::NestedFault(NestedFault { gpa: 0x5000, access, walk: false }) => access,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            [access(0x1_0000_0004), access(0x1_0000_0006), access(0x1_0000_0014)],
            [1, 2, 4]
        );
        assert_eq!(nested(0x1_0000_000d, 7), Exit::NestedMisconfig { gpa: 7 });
    }

    #[test]
    fn decode_assists_name_registers_and_addresses() {
        let mov = 1 << 63 | 11;
        assert_eq!(assisted(0x03, mov), Some(Exit::Cr(CrAccess::Read { cr: 3, gpr: 11 })));
        assert_eq!(assisted(0x14, mov), Some(Exit::Cr(CrAccess::Write { cr: 4, gpr: 11 })));
        assert_eq!(assisted(0x65, mov), Some(Exit::Cr(CrAccess::Write { cr: 0, gpr: 11 })));
        assert_eq!(assisted(0x10, 11), None, "CLTS or LMSW");
        assert_eq!(assisted(0x27, 2), Some(Exit::Dr { number: 7, gpr: 2, read: true }));
        assert_eq!(assisted(0x36, 2), Some(Exit::Dr { number: 6, gpr: 2, read: false }));
        let linear = 0xffff_8000_0000_1000;
        assert_eq!(assisted(0x79, linear), Some(Exit::Invlpg { linear: Some(linear) }));
        assert_eq!(assisted(0x72, mov), None, "CPUID has no operands");
    }

    #[test]
    fn what_no_instruction_repeats_is_injected_again() {
        assert_eq!(interrupted(0x8000_0030), Some(Event::interrupt(0x30)));
        assert_eq!(interrupted(0x8000_0202), Some(Event::nmi()));
        assert_eq!(interrupted(0x7_8000_0b0e), Some(Event::exception(14, 7)));
        assert_eq!(interrupted(0x7_0000_0b0e), None, "not valid, whatever is left in it");
        for software in [0x8000_0480, 0x8000_0303, 0x8000_0304] {
            assert_eq!(interrupted(software), None, "{software:#x}");
        }
    }
}
