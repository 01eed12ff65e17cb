//! Single steps and breakpoints where instructions exit: an emulated instruction traps as a native one.

use core::arch::asm;

use guest_kernel::println;

use super::{ARENA_CODE_16, ARENA_DATA_16, CODE_64, DATA, FLAT, ended, hold, piece};
use crate::cases::{Verdict, Wrong};
use crate::trip::{self, ARENA, End, Paging, Start, Way};

const DB: u8 = 1;
const TF: u64 = 1 << 8;
/// Of DR6: the first breakpoint, and the single step.
const B0: u64 = 1 << 0;
const BS: u64 = 1 << 14;
const DR7: u64 = 0x400;

const FLAT_64: Start = Start {
    way: Way::Long,
    cs: CODE_64,
    ss: DATA,
    data: [DATA; 4],
    ip: ARENA.start,
    ..Start::REAL
};
const MODES: &[(&str, Start)] = &[
    ("64-bit", FLAT_64),
    ("compatibility", Start { way: Way::Long, ..FLAT }),
    ("protected", FLAT),
    ("paged", Start { paging: Paging::TwoLevels, ..FLAT }),
    ("pae", Start { paging: Paging::Pae, ..FLAT }),
    ("16-bit", Start { cs: ARENA_CODE_16, ss: ARENA_DATA_16, data: [ARENA_DATA_16; 4], ..FLAT }),
    ("real", Start::REAL),
];
/// CPUID, IN and OUT by immediate and by DX, RDMSR and WRMSR of FS.BASE, RDTSC, WBINVD, moves from and
/// to CR4 and CR3 that change nothing.
const INSTRUCTIONS: &[&[u8]] = &[
    &[0x0f, 0xa2],
    &[0xe4, 0x80],
    &[0xe6, 0x80],
    &[0xed],
    &[0xee],
    &[0x0f, 0x32],
    &[0x0f, 0x30],
    &[0x0f, 0x31],
    &[0x0f, 0x09],
    &[0x0f, 0x20, 0xe0],
    &[0x0f, 0x20, 0xc0],
];

/// Goes with these debug registers, and returns DR6 too.
fn go(start: &Start, address: u64, control: u64) -> (End, u64) {
    let dr6: u64;
    // SAFETY: the breakpoints are on the arena and on ports that the kernel does not use meanwhile.
    unsafe {
        asm!("mov dr6, {}", "mov dr0, {}", "mov dr7, {}", in(reg) 0xffff_0ff0u64, in(reg) address,
            in(reg) control);
    }
    let end = trip::go(start);
    // SAFETY: they are off, as they were.
    unsafe { asm!("mov {}, dr6", "mov dr7, {}", out(reg) dr6, in(reg) DR7) };
    (end, dr6)
}

fn prepare(code: &[u8]) {
    trip::prepare();
    trip::place(code, 0);
}

fn step(name: &str, start: Start, code: &[u8]) -> Verdict {
    prepare(code);
    let mut start = Start { flags: start.flags | TF, ..start };
    // RCX and RDX: FS.BASE, and a port that nobody has.
    start.registers[1] = 0xc000_0100;
    start.registers[2] = if code[0] == 0x0f { 0 } else { 0x80 };
    let (end, dr6) = go(&start, 0, DR7);
    let behind = end.vector == DB && end.ip == start.ip + code.len() as u64;
    let verdict = hold(&end, behind, "the single step does not trap behind the instruction")
        .and_then(|()| hold(&end, dr6 & BS != 0, "DR6.BS is not set"))
        .and_then(|()| hold(&end, end.flags & TF != 0, "the trap flag is lost"));
    verdict.inspect_err(|_| println!("@hostile {code:x?} in mode {name}, DR6 {dr6:#x}:"))
}

/// A single step over an instruction that exits traps behind it, in every mode.
pub fn steps() -> Verdict {
    MODES.iter().try_for_each(|(name, start)| {
        INSTRUCTIONS.iter().try_for_each(|code| step(name, *start, code))
    })
}

/// A single step ends HLT, interrupts enabled or not.
pub fn step_over_hlt() -> Verdict {
    MODES.iter().try_for_each(|(name, start)| step(name, *start, &[0xf4]))
}

/// The data breakpoint of a MOV SS comes behind the instruction that follows it, if that exits too
/// (SDM vol. 3, Debug Exceptions and the loading of SS).
pub fn pending_breakpoint() -> Verdict {
    /// Enabled, reads and writes, two bytes.
    const TWO_BYTES: u64 = DR7 | 1 | 3 << 16 | 1 << 18;
    const AT: u64 = 0x100;
    // MOV SS, m16 and CPUID.
    const BEHIND: u64 = 8;
    for flags in [2, TF | 2] {
        prepare(piece::MOV_SS_CPUID.bytes());
        trip::put(&FLAT.ss.to_le_bytes(), AT);
        let (end, dr6) = go(&Start { flags, ..FLAT }, ARENA.start + AT, TWO_BYTES);
        ended(&end, DB)?;
        hold(&end, end.ip == BEHIND, "the exception is not behind the instruction after MOV SS")?;
        hold(&end, dr6 & B0 != 0, "DR6.B0 is not set")?;
        hold(&end, (dr6 & BS != 0) == (flags & TF != 0), "DR6.BS is wrong")?;
    }
    Ok(())
}

/// A breakpoint on a port, with CR4.DE.
pub fn port_breakpoint() -> Verdict {
    const DE: u32 = 1 << 3;
    const ONE_BYTE: u64 = DR7 | 1 | 2 << 16;
    prepare(&[0xe4, 0x80, 0x90]);
    let (end, dr6) = go(&Start { cr4: DE, ..FLAT_64 }, 0x80, ONE_BYTE);
    if end.vector != DB {
        return Err(Wrong::Other("the breakpoint did not come"));
    }
    hold(&end, end.ip == FLAT_64.ip + 2 && dr6 & B0 != 0, "at another place, or not in DR6")
}
