//! Modes besides the kernel's: each behaves as on hardware, whoever runs us.
//!
//! Each case makes a trip with a few instructions and looks at what they left.

use core::arch::x86_64::__cpuid;

use guest_kernel::println;

use super::{Action, Case, Expected, Verdict, Wrong};
use crate::trip::tables::segment::*;
use crate::trip::{self, ARENA, End, Paging, Start, VM, Way, tables};

mod debug;
mod pieces;

use pieces as piece;

const fn any(name: &'static str, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Survives, needs_pv: false, action: Action::Run(run) }
}

const fn ends(name: &'static str, expected: Expected, run: fn() -> Verdict) -> Case {
    Case { expected, ..any(name, run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    any("mode-real", real),
    any("mode-unreal", unreal),
    any("mode-limits", limits),
    any("mode-protected", protected),
    any("mode-two-levels", || paged(Paging::TwoLevels)),
    any("mode-pae", || paged(Paging::Pae)),
    any("mode-pae-pointers", pae_pointers),
    any("mode-virtual", virtual_8086),
    any("mode-virtual-vme", virtual_extensions),
    any("mode-transitions", transitions),
    any("double-fault", double_fault),
    any("step-exits", debug::steps),
    // QEMU 7.2 halts for good.
    Case { needs_pv: true, ..any("step-hlt", debug::step_over_hlt) },
    any("pending-breakpoint", debug::pending_breakpoint),
    // An IN or OUT that exits meets no breakpoint: the hypervisor does not look.
    ends("port-breakpoint", Expected::Depends, debug::port_breakpoint),
    ends("triple-fault-real", Expected::TripleFault, || triple_fault(Start::default())),
    ends("triple-fault-protected", Expected::TripleFault, || triple_fault(FLAT)),
    // QEMU 7.2 switches tasks without asking the hypervisor.
    ends("task-gate", Expected::Depends, task_gate),
    ends("task-call", Expected::Depends, task_call),
];

const BP: u8 = 3;
const UD: u8 = 6;
const DF: u8 = 8;
const GP: u8 = 13;
const PF: u8 = 14;
const IF: u64 = 1 << 9;
const IOPL_3: u64 = 3 << 12;
const VIF: u64 = 1 << 19;
const VIP: u64 = 1 << 20;

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RBX: usize = 3;
const RSP: usize = 4;
const RSI: usize = 6;

/// 32-bit code in protected mode, without paging.
const FLAT: Start = Start {
    way: Way::Protected,
    cs: ARENA_CODE_32,
    ss: ARENA_DATA_32,
    data: [ARENA_DATA_32; 4],
    ..Start::REAL
};

fn go(piece: &'static piece::Piece, start: Start) -> End {
    trip::prepare();
    trip::place(piece.bytes(), 0);
    trip::go(&start)
}

/// Holds what was found against what must be.
fn hold(end: &End, is: bool, why: &'static str) -> Verdict {
    if is {
        return Ok(());
    }
    println!("@hostile {end:x?}");
    Err(Wrong::Other(why))
}

fn ended(end: &End, vector: u8) -> Verdict {
    hold(end, end.vector == vector, "another exception")
}

/// Addresses are sixteen times the segment and the offset; interrupts go by the vectors at 0, far
/// calls come back, prefixes make operands and addresses larger.
fn real() -> Verdict {
    trip::prepare();
    let arena = (ARENA.start >> 4) as u16;
    trip::place(piece::REAL.bytes(), 0);
    tables::set_real_vector(0x21, arena, piece::HANDLER);
    let end = trip::go(&Start { flags: IF | 2, ..Start::default() });
    ended(&end, BP)?;
    hold(&end, end.registers[RBX] == 0x1234, "a segment is not sixteen bytes")?;
    hold(
        &end,
        end.registers[RCX] == 0x5678_0003,
        "the interrupt's handler did not run with IF off",
    )?;
    hold(&end, end.registers[RDX] == 0x8765_4321, "an operand of 32 bits is wrong")?;
    hold(&end, end.registers[RSI] == 0x77, "the far call did not come back")?;
    hold(&end, end.registers[RSP] == 0x3f00 && end.flags & IF != 0, "the stack or IF is wrong")?;
    hold(&end, end.data == [0x2101, 0x2100, arena, arena], "a segment register is wrong")?;
    hold(&end, end.cs == arena && end.cr0 & 1 == 0, "it is not real mode")
}

/// A segment keeps the limit that it got in protected mode.
fn unreal() -> Verdict {
    let end = go(&piece::UNREAL, Start::default());
    ended(&end, BP)?;
    // SAFETY: the image is there.
    let first = unsafe { (0x10_0000 as *const u32).read_volatile() };
    hold(&end, end.cr0 & 1 == 0, "it is not real mode")?;
    hold(&end, end.registers[RAX] as u32 == first, "what is above 1 MiB was not read")
}

/// Limits are checked in every mode.
fn limits() -> Verdict {
    let beyond = |start: Start, piece: &'static piece::Piece| {
        let mut start = start;
        start.registers[RSI] = 0x1_0000;
        let end = go(piece, start);
        ended(&end, GP)?;
        hold(&end, end.ip == 0 && end.error.unwrap_or(0) == 0, "at another place")
    };
    beyond(Start::default(), &piece::LOAD_16)?;
    beyond(Start::protected(ARENA_CODE_16, ARENA_DATA_16), &piece::LOAD_16)?;
    beyond(FLAT, &piece::LOAD_32)?;
    beyond(Start::virtual_8086(Paging::Pae), &piece::LOAD_16)?;
    beyond(Start { way: Way::Long, ..FLAT }, &piece::LOAD_32)
}

/// 16 and 32 bits: stacks, far calls between both, interrupts by gates and back.
fn protected() -> Verdict {
    for (code, paging) in [
        (ARENA_CODE_16, Paging::Off),
        (ARENA_CODE_16, Paging::Pae),
        (ARENA_CODE_16, Paging::TwoLevels),
    ] {
        trip::prepare();
        trip::place(piece::PROTECTED.bytes(), 0);
        tables::set_gate(0x80, ARENA_CODE_32, piece::HANDLER);
        let end = trip::go(&Start { paging, ..Start::protected(code, ARENA_DATA_16) });
        ended(&end, BP)?;
        hold(&end, end.registers[RAX] == 0x1111_2222, "32-bit code did not run")?;
        hold(&end, end.registers[RCX] == 0x42, "the gate's handler did not run")?;
        hold(&end, end.registers[RBX] as u16 == 0x3efe, "a push of 16 bits took more or less")?;
        hold(&end, end.registers[RSP] as u16 == 0x3f00, "the stack pointer is wrong")?;
        hold(&end, end.cs == code, "it did not come back")?;
    }
    Ok(())
}

/// The page-directory pointers of PAE paging have no bit that says accessed.
fn pae_pointers() -> Verdict {
    trip::prepare();
    trip::place(&[0xcc], 0);
    let before = tables::pae_pointer();
    let end = trip::go(&Start { paging: Paging::Pae, ..FLAT });
    ended(&end, BP)?;
    hold(&end, tables::pae_pointer() == before, "a pointer was changed")
}

/// Page faults tell address and reason; accesses leave their marks in the tables.
fn paged(paging: Paging) -> Verdict {
    const ACCESSED: u64 = 1 << 5;
    const DIRTY: u64 = 1 << 6;
    const WRITABLE: u64 = 2;
    const USER: u64 = 4;
    const PAGE: u64 = ARENA.start + 0x1000;
    let user = Start {
        cs: USER_ARENA_CODE_32,
        ss: USER_ARENA_DATA_32,
        data: [USER_ARENA_DATA_32; 4],
        paging,
        ..FLAT
    };
    let write = |start: Start, offset: u64, change: fn(u64) -> u64| {
        trip::prepare();
        let entry = tables::page_entry(paging, PAGE);
        tables::set_page_entry(paging, PAGE, change(entry));
        trip::place(piece::STORE_32.bytes(), 0);
        let mut start = start;
        start.registers[RSI] = offset;
        trip::go(&start)
    };
    let end = write(user, 0x1010, |entry| entry);
    ended(&end, UD)?;
    let marks = tables::page_entry(paging, PAGE) & (ACCESSED | DIRTY);
    hold(&end, marks == ACCESSED | DIRTY, "the page is not marked as accessed and dirty")?;
    let marks = tables::page_entry(paging, ARENA.start) & (ACCESSED | DIRTY);
    hold(&end, marks == ACCESSED, "the code's page is not marked as accessed alone")?;
    // Present, write and user, as bits 0, 1 and 2.
    let supervisor = Start { paging, cr0: 0x1_0030, ..FLAT };
    for (start, change, error) in [
        (user, (|_| 0) as fn(u64) -> u64, 6),
        (user, |entry| entry & !WRITABLE, 7),
        (user, |entry| entry & !USER, 7),
        (supervisor, |_| 0, 2),
        (supervisor, |entry| entry & !WRITABLE, 3),
    ] {
        let end = write(start, 0x1010, change);
        ended(&end, PF)?;
        hold(&end, end.error == Some(error), "another error code")?;
        hold(&end, end.cr2 == PAGE + 0x10 && end.ip == 0, "another address")?;
    }
    // Without WP the supervisor may write.
    let end = write(Start { cr0: 0x30, ..supervisor }, 0x1010, |entry| entry & !WRITABLE);
    ended(&end, UD)
}

/// What IOPL forbids in virtual-8086 mode, and what it does where it may.
fn virtual_8086() -> Verdict {
    for paging in [Paging::Off, Paging::Pae, Paging::TwoLevels] {
        for (bytes, forbidden) in piece::IOPL_SENSITIVE {
            let start = Start::virtual_8086(paging);
            trip::prepare();
            trip::place(bytes, 0);
            let end = trip::go(&Start { flags: start.flags | IF, ..start });
            let is = end.vector == GP && end.error == Some(0) && end.ip == 0;
            hold(&end, is == *forbidden, "what IOPL 0 forbids is wrong")?;
        }
        let start = Start::virtual_8086(paging);
        let end = go(&piece::VIRTUAL, Start { flags: start.flags | IOPL_3 | IF, ..start });
        ended(&end, UD)?;
        hold(&end, end.registers[RAX] & IF == 0, "CLI with IOPL 3 did not clear IF")?;
        hold(&end, end.registers[RCX] & IF != 0, "STI with IOPL 3 did not set IF")?;
        hold(&end, end.registers[RDX] & IOPL_3 == IOPL_3, "POPF changed IOPL")?;
        hold(&end, end.flags & VM != 0 && end.cs == (ARENA.start >> 4) as u16, "it was left")?;
    }
    Ok(())
}

/// With CR4.VME and IOPL 0, CLI and STI change VIF, and INT n is redirected.
fn virtual_extensions() -> Verdict {
    const VME: u32 = 1;
    if __cpuid(1).edx & 1 << 1 == 0 {
        return Ok(());
    }
    let start = Start { cr4: VME, ..Start::virtual_8086(Paging::TwoLevels) };
    let on = Start { flags: start.flags | IF | VIF, ..start };
    let end = go(&piece::VIRTUAL, on);
    ended(&end, UD)?;
    // PUSHF shows VIF in the place of IF, and IOPL as 3.
    hold(&end, end.registers[RAX] & IF == 0, "CLI did not clear VIF")?;
    hold(&end, end.registers[RAX] & IOPL_3 == IOPL_3, "PUSHF does not show IOPL as 3")?;
    hold(&end, end.registers[RCX] & IF != 0, "STI did not set VIF")?;
    hold(&end, end.flags & IF != 0 && end.flags & IOPL_3 == 0, "IF or IOPL were changed")?;
    // STI with an interrupt that waits.
    let end = go(&piece::STI, Start { flags: start.flags | IF | VIP, ..start });
    ended(&end, GP)?;
    hold(&end, end.ip == 0 && end.error == Some(0), "at another place")?;
    trip::prepare();
    trip::place(piece::VIRTUAL_INT.bytes(), 0);
    tables::set_real_vector(0x21, on.cs, piece::HANDLER);
    tables::redirect(0x21);
    let end = trip::go(&on);
    ended(&end, UD)?;
    hold(&end, end.registers[RCX] == 0x42, "the interrupt was not redirected")?;
    hold(&end, end.registers[RDX] & IF == 0, "VIF was not cleared in the handler")?;
    hold(&end, end.flags & VIF != 0, "VIF was not restored by IRET")
}

/// One piece of code that goes through all modes and comes back.
fn transitions() -> Verdict {
    for _ in 0..16 {
        let end = go(&piece::TRANSITIONS, Start::default());
        ended(&end, BP)?;
        hold(&end, end.registers[RBX] == 0x7f, "a mode was left out")?;
        hold(&end, end.cr0 & 0x8000_0001 == 0, "it is not real mode")?;
    }
    Ok(())
}

/// An exception in the delivery of another is a double fault, by the table of the manual (SDM vol. 3,
/// Interrupt 8—Double Fault Exception).
fn double_fault() -> Verdict {
    for paging in [Paging::Off, Paging::Pae] {
        trip::prepare();
        trip::place(piece::PROTECTION.bytes(), 0);
        tables::set_task_gate(GP, false);
        let end = trip::go(&Start { paging, ..FLAT });
        ended(&end, DF)?;
        hold(&end, end.error == Some(0), "another error code")?;
    }
    // Software interrupts are benign: the second exception comes as it is.
    trip::prepare();
    trip::place(piece::INT_80.bytes(), 0);
    tables::set_task_gate(0x80, false);
    let end = trip::go(&FLAT);
    ended(&end, 11)?;
    hold(&end, end.error == Some(0x80 * 8 + 2) && end.ip == 0, "another error code or place")
}

/// Without any gate.
fn triple_fault(start: Start) -> Verdict {
    let end = go(if start.way == Way::Real { &piece::TRIPLE_16 } else { &piece::TRIPLE_32 }, start);
    hold(&end, false, "the guest goes on")
}

fn task_gate() -> Verdict {
    trip::prepare();
    trip::place(piece::INT_80.bytes(), 0);
    tables::set_task_gate(0x80, true);
    let end = trip::go(&FLAT);
    hold(&end, false, "the task was switched")
}

fn task_call() -> Verdict {
    let end = go(&piece::TASK_CALL, FLAT);
    hold(&end, false, "the task was switched")
}
