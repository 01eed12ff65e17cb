//! What is tried: an instruction, where its operands are, and what it starts with.

use guest_kernel::println;

use super::Random;
use super::encode::{self, Made, Setting};
use super::stage::{PAGE, Stage, Taken};
use super::table::{Form, Operands, Special};
use crate::steps::modes::Mode;
use crate::trip::tables::segment::{OTHER_OWN, OWN};
use crate::trip::{ARENA, Start};

/// What else there is to a trial.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing.
    Plain,
    /// One of two pages is not as it should be.
    Faults,
    /// The segment ends within the page.
    Limits,
}

/// What is at the page beside the one that is tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Neighbour {
    /// RAM.
    Ram,
    /// RAM that cannot be written.
    ReadOnly,
    /// Nothing: a page fault.
    Absent,
    /// An address that is no RAM and nobody's.
    Nobody,
}

/// A segment of a trial's own: access rights and limit.
#[derive(Clone, Copy, Debug)]
pub struct Own {
    pub access: u8,
    pub limit: u32,
    /// It has the scratch page, or the other page.
    pub on_window: bool,
}

/// A trial.
pub struct Trial {
    pub mode: &'static Mode,
    pub form: &'static Form,
    pub made: Made,
    pub start: Start,
    pub setting: Setting,
    pub neighbour: Neighbour,
    /// The page that is tried is the second of the two.
    pub second: bool,
    /// Segments DS and ES, if they are not the arena's.
    pub own: Option<[Own; 2]>,
}

/// Where the instruction is in the arena.
const CODE: u64 = 0x100;
/// Where the two pages are in the arena.
pub const WINDOW: u64 = 0x1000;
/// Where the page is in a segment of a trial's own: the last of 64 KiB.
pub const LAST: u64 = 0xf000;

const DF: u64 = 1 << 10;
const TF: u64 = 1 << 8;
const IOPL: u64 = 3 << 12;
const STATUS: u64 = 0x8d5;
const RF: u64 = 1 << 16;
const WP: u32 = 1 << 16;
/// A port that keeps what is written: the UART's scratch register. Wider accesses go to nobody's.
pub const PORT: u16 = 0x3ff;
const NOBODYS_PORT: u16 = 0x1234;

/// The trial, if the form exists there. The memory that it needs is put on the stage.
pub fn make(
    kind: Kind,
    mode: &'static Mode,
    form: &'static Form,
    stage: &mut Stage,
    random: &mut Random,
) -> Option<Trial> {
    let string = matches!(form.operands, Operands::String(..));
    let own = mode.is_unconfined() || kind == Kind::Limits;
    let mut start = mode.start(CODE);
    start.flags |= random.next() & STATUS;
    if random.once_in(4) {
        start.flags |= TF;
    }
    if string && random.once_in(2) {
        start.flags |= DF;
    }
    if form.special == Special::Port && (mode.level == 3 || random.once_in(2)) {
        start.flags |= IOPL;
    }
    start.cr0 |= if random.once_in(2) { WP } else { 0 };
    let any_stack = mode.is_safe_stack() && !own;
    let second = !own && random.once_in(3);
    let neighbour = match (kind, own) {
        (_, true) => Neighbour::Ram,
        (Kind::Faults, _) => *random.of(&[Neighbour::Absent, Neighbour::ReadOnly]),
        _ => *random.of(&[Neighbour::Ram, Neighbour::Ram, Neighbour::Nobody]),
    };
    let base = ARENA.start - mode.base + WINDOW;
    let [target, other] = if own {
        [(); 2].map(|()| LAST + within(kind, string, start.flags & DF != 0, random))
    } else {
        let down = start.flags & DF != 0;
        [(); 2].map(|()| base + across(kind, string, down, second, random))
    };
    let setting = Setting {
        bits: mode.bits,
        ip: start.ip,
        target,
        other,
        any_stack,
        low: own || mode.base != 0,
    };
    let mut registers = [(); 16].map(|()| random.next());
    if mode.bits != 64 {
        registers.iter_mut().for_each(|register| *register &= 0xffff_ffff);
    }
    registers[4] = start.registers[4];
    if mode.base == 0 {
        registers[4] += ARENA.start;
    }
    if form.operands == Operands::Stack || form.special == Special::Stack && random.once_in(3) {
        if !any_stack && form.operands == Operands::Stack {
            return None;
        }
        if any_stack {
            registers[4] = target;
        }
    }
    let mut made = encode::make(form, &setting, registers, random)?;
    if form.special == Special::Port {
        let port = if made.size == 1 { PORT } else { NOBODYS_PORT };
        made.registers[2] = made.registers[2] & !0xffff | u64::from(port);
    }
    let segments = own.then(|| segments(kind, mode, string, random));
    let mut trial = Trial { mode, form, made, start, setting, neighbour, second, own: segments };
    if let Some([ds, es]) = &trial.own {
        let level = u16::from(mode.level);
        let selector = |own: &Own| if own.access == 0 { 0 } else { level };
        let ds_selector = OWN | selector(ds);
        trial.start.data = [
            if es.access == 0 { 0 } else { OTHER_OWN | level },
            ds_selector,
            ds_selector,
            ds_selector,
        ];
        trial.start.unreal = trial.start.way == crate::trip::Way::Real;
        trial.start.cr0 |= WP;
    }
    let memory = stage.set(&trial, random);
    encode::prepare(form, &mut trial.made, memory, random);
    if mode.bits != 64 {
        trial.made.registers.iter_mut().for_each(|register| *register &= 0xffff_ffff);
    }
    trial.start.registers = trial.made.registers;
    if mode.bits != 64 {
        trial.start.registers[8..].fill(0);
    }
    Some(trial)
}

/// An offset in a page from which nothing leaves it, unless limits are what is tried.
fn within(kind: Kind, string: bool, down: bool, random: &mut Random) -> u64 {
    match (kind, string) {
        (Kind::Limits, _) => 0x780 + random.below(0x100),
        // 133 iterations of 4 bytes, and 4 bytes behind.
        (_, true) if down => 0x400 + random.below(0xb00),
        (_, true) => 0x100 + random.below(0xb00),
        _ => 0x100 + random.below(0xe00),
    }
}

/// An offset in two pages, more often than not near the end of the first.
fn across(kind: Kind, string: bool, down: bool, second: bool, random: &mut Random) -> u64 {
    let near = random.once_in(3) || kind == Kind::Faults;
    match (string, near) {
        (true, true) if down => PAGE + random.below(0x40),
        (true, true) => PAGE - 1 - random.below(0x40),
        (true, false) => 0x480 + random.below(0x1000),
        (false, true) => PAGE - 8 + random.below(10),
        (false, false) => 0x100 + u64::from(second) * PAGE + random.below(0xe00),
    }
}

/// DS and ES of a trial's own.
fn segments(kind: Kind, mode: &Mode, string: bool, random: &mut Random) -> [Own; 2] {
    let level = mode.level << 5;
    let (data, read_only, down) = (0x93 | level, 0x91 | level, 0x97 | level);
    let whole = Own { access: data, limit: 0xffff, on_window: true };
    if kind != Kind::Limits {
        let on_window = *random.of(&[[true, true], [true, false], [false, true]]);
        let on_window = if string { on_window } else { [true; 2] };
        return on_window.map(|on_window| Own { on_window, ..whole });
    }
    let real = mode.is_unconfined() && mode.level == 0 && mode.bits == 16;
    let any = |random: &mut Random| match random.below(if real { 2 } else { 4 }) {
        0 => whole,
        1 => Own { limit: LAST as u32 + 0x7ff, ..whole },
        2 => Own { access: down, limit: LAST as u32 + 0x7ff, ..whole },
        _ => Own { limit: LAST as u32 + 0x7ff + random.below(0x40) as u32, ..whole },
    };
    let [ds, mut es] = [any(random), any(random)];
    if !real && random.once_in(8) {
        es.access = *random.of(&[0, read_only]);
    }
    [ds, es]
}

impl Trial {
    /// Says what it is.
    pub fn tell(&self, number: u64) {
        println!(
            "@hostile only={number} {} {:x?} at {:#x} and {:#x}, {:?} {} {:x?}",
            self.mode.name,
            self.made.bytes(),
            self.setting.target,
            self.setting.other,
            self.neighbour,
            if self.second { "before" } else { "behind" },
            self.own,
        );
        println!("    flags {:x} registers {:x?}", self.start.flags, self.start.registers);
    }
}

/// Whether both left the same registers: `a` as the CPU did it.
pub fn equal(trial: &Trial, a: &Taken, b: &Taken) -> bool {
    a.ends.iter().zip(&b.ends).all(|(a, b)| {
        let faulted = !matches!(a.vector, 1 | 3);
        let unknown = match (faulted, trial.form.operands) {
            (false, _) => trial.form.undefined,
            // Bochs 2.7 keeps the flags of the last iteration of CMPS or SCAS.
            (true, Operands::String(..)) => STATUS,
            (true, _) => 0,
        };
        // QEMU 7.2 does not push RF as 1 for a fault.
        let resume = if faulted && a.flags & RF == 0 { RF } else { 0 };
        let mask = |flags: u64| flags & !(unknown | resume);
        // QEMU 7.2 does not leave a repeated instruction with the single step behind its last iteration.
        let count = a.registers[1] & u64::MAX >> (64 - 8 * u32::from(trial.made.address));
        let stays = a.vector == 1 && a.ip == trial.start.ip && count == 0;
        let behind = trial.start.ip + trial.made.bytes().len() as u64;
        let ip = if stays && b.ip == behind { behind } else { a.ip };
        (a.vector, a.error, a.registers, ip, a.cs, a.ss, a.data)
            == (b.vector, b.error, b.registers, b.ip, b.cs, b.ss, b.data)
            && mask(a.flags) == mask(b.flags)
            && (a.vector != 14 || a.cr2 == b.cr2)
    }) && a.port == b.port
}
