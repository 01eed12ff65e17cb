//! What a step is, from seed and number: the same at each run.
//!
//! Even a wild step does none of these:
//!
//! - it does not load the task register,
//! - it sends no INIT to itself, of which the only CPU of a PC does not wake up,
//! - it writes no port that ends the machine,
//! - it does not leave protected mode or long mode by MOV CR0, behind which neither exception nor NMI
//!   would find its handler,
//! - it loads no CR3 but that of tables in the arena, where no entry is present: an exception that is
//!   delivered by way of tables where there is no RAM ends the VM under AMD-V,
//! - where no page table confines it, its addresses have 16 bits, and LGDT and LIDT are left out: what
//!   an exception or an unusual instruction does where there is no RAM ends the VM.

use super::forms::{FORMS, Harm, Needs};
use super::modes::{MODES, Mode};
use crate::ports::ends;
use crate::random::Random;
use crate::trip::tables::segment;
use crate::trip::{ARENA, MAPPED, Start};

/// A step.
pub struct Step {
    /// Its mode.
    pub mode: &'static Mode,
    /// What it starts with.
    pub start: Start,
    /// What is executed.
    pub bytes: [u8; 15],
    /// Where in the arena.
    pub offset: u64,
    /// DR0 to DR3, and DR7.
    pub breakpoints: Option<([u64; 4], u32)>,
    /// It may have changed MSRs.
    pub writes_msrs: bool,
    /// It may have changed what devices do.
    pub writes_ports: bool,
    /// It may wait for an interrupt: the timer comes soon.
    pub halts: bool,
}

/// How steps are chosen.
#[derive(Clone, Copy)]
pub struct Choice {
    /// The seed.
    pub seed: u64,
    /// Steps that can take control away or end the VM are among them.
    pub wild: bool,
    /// Bits of CR4 that this CPU takes.
    pub cr4: u32,
}

const TF: u64 = 1 << 8;
const IF: u64 = 1 << 9;
const DF: u64 = 1 << 10;
const IOPL: u64 = 3 << 12;
/// CF, PF, AF, ZF, SF, DF, OF.
const ARITHMETIC: u64 = 0xcd5;
/// NT, RF, AC, VIF, VIP, ID.
const RARE: u64 = 1 << 14 | 1 << 16 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21;

/// Values at which something begins or ends.
const EDGES: &[u64] = &[
    0,
    1,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0x8000,
    0xffff,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0x7fff_ffff_ffff,
    0x8000_0000_0000,
    0xffff_7fff_ffff_ffff,
    0xffff_8000_0000_0000,
    u64::MAX,
    // The local APIC, an address at which there is nothing, and the last before 4 GiB.
    0xfee0_0000,
    0xfee0_0030,
    0xfee0_0300,
    0xd000_0000,
    0xffff_fff8,
];

/// MSRs that a step may write wherever it is: they are set again.
const MSRS_TO_WRITE: &[u32] = &[
    0x174,
    0x175,
    0x176,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0100,
    0xc000_0101,
    0xc000_0102,
    0xc000_0103,
];
/// Ranges in which MSRs are.
const MSR_RANGES: &[(u32, u32)] = &[
    (0, 0x2000),
    (0, 0x400),
    (0x800, 0x40),
    (0x4000_0000, 0x200),
    (0xc000_0080, 0x10),
    (0xc000_0100, 8),
    (0xc001_0000, 0x200),
];
/// The x2APIC's interrupt command register: an INIT to itself is the end of a machine with one CPU.
const COMMAND: u32 = 0x830;

/// Ports of devices that a step may use wherever it is: POST codes, and nobody's.
const PORTS: &[u16] = &[0x80, 0xed, 0x2f8, 0x1234, 0x5000];
/// Those of a PC's devices: interrupt controllers, timer, keyboard, clock.
const DEVICES: &[u16] =
    &[0x20, 0x21, 0x40, 0x41, 0x42, 0x43, 0x60, 0x61, 0x70, 0x71, 0xa0, 0xa1, 0x4d0, 0x4d1];
/// The UART's scratch register. QEMU 7.2 fails itself at an access of more bytes there.
const SCRATCH: u16 = 0x3ff;

/// The selectors of a trip's tables, and some that are none.
const SELECTORS: &[u16] = &[
    0,
    3,
    segment::CODE_32,
    segment::DATA,
    segment::CODE_64,
    segment::LOW_DATA_16,
    segment::TASK_32,
    segment::USER_DATA,
    segment::USER_CODE_32,
    segment::USER_CODE_64,
    segment::ARENA_DATA_16,
    segment::USER_ARENA_DATA_16,
    segment::USER_ARENA_CODE_16,
    segment::ABSENT,
    0x100,
    0xfff8,
];

/// The step of this number.
pub fn step(choice: Choice, number: u64) -> Step {
    let mut random = Random::new(choice.seed, number);
    let mode = random.of(MODES);
    let offset = match random.below(8) {
        0 => MAPPED - 1 - random.below(16),
        1 => 0xff8 + random.below(8),
        _ => random.below(MAPPED - 16),
    };
    let mut step = Step {
        mode,
        start: mode.start(offset),
        bytes: [0xcc; 15],
        offset,
        breakpoints: None,
        writes_msrs: false,
        writes_ports: false,
        halts: false,
    };
    registers(&mut step, &mut random);
    flags(&mut step, &mut random, choice.wild);
    control(&mut step, &mut random, choice.cr4);
    if mode.level == 0 && !choice.wild || random.below(3) != 0 {
        form(&mut step, &mut random, choice.wild);
    } else {
        noise(&mut step, &mut random);
    }
    // One that a step enables itself is at 0, for the same reason as in `breakpoints`.
    let moves = step.bytes.windows(2).any(|bytes| bytes == [0x0f, 0x23]);
    // QEMU 7.2 crashes where a VM is reset with one on data enabled.
    if random.once_in(8) && !moves && !choice.wild {
        breakpoints(&mut step, &mut random);
    }
    spare_task_register(&mut step.bytes);
    step
}

/// Makes LLDT of LTR: QEMU 7.2 takes a null selector there, and ends itself when the next event asks for a
/// stack of the task that is then none.
fn spare_task_register(bytes: &mut [u8; 15]) {
    const LTR: u8 = 3 << 3;
    const REG: u8 = 7 << 3;
    for at in 0..bytes.len() - 2 {
        if bytes[at..at + 2] == [0x0f, 0x00] && bytes[at + 2] & REG == LTR {
            bytes[at + 2] ^= 1 << 3;
        }
    }
}

/// A value that is an address more often than not.
fn value(mode: &Mode, random: &mut Random) -> u64 {
    let value = match random.below(4) {
        0 => random.next(),
        1 => *random.of(EDGES),
        2 => ARENA.start - mode.base + random.below(MAPPED),
        _ => random.below(256),
    };
    if mode.bits == 64 { value } else { value & 0xffff_ffff }
}

fn registers(step: &mut Step, random: &mut Random) {
    let stack = step.start.registers[4];
    for register in &mut step.start.registers {
        *register = value(step.mode, random);
        if step.mode.is_unconfined() {
            // QEMU's emulation knows no limits of segments, so the addresses are kept small.
            *register &= MAPPED - 1;
        }
    }
    if !step.mode.is_safe_stack() {
        step.start.registers[4] = stack;
    } else if step.mode.is_virtual {
        step.start.registers[4] &= 0xffff;
    }
    for segment in &mut step.start.data {
        if step.mode.is_virtual && random.once_in(2) {
            *segment = random.next() as u16;
        }
    }
}

fn flags(step: &mut Step, random: &mut Random, wild: bool) {
    let flags = &mut step.start.flags;
    *flags |= random.next() & ARITHMETIC;
    if step.mode.is_unconfined() {
        *flags &= !DF;
    }
    if random.once_in(4) {
        *flags |= random.next() & RARE;
    }
    if !random.once_in(8) {
        *flags |= TF;
    }
    // Where nothing else can end a loop the timer does.
    if step.mode.level == 3 || random.once_in(8) {
        *flags |= IF;
    }
    *flags |= random.next() & IOPL;
    if step.mode.level == 3 && !step.mode.is_virtual && !wild && *flags & IOPL == IOPL {
        *flags &= !IOPL;
    }
}

fn control(step: &mut Step, random: &mut Random, cr4: u32) {
    const MP_EM_TS_AM: u64 = 1 << 1 | 1 << 2 | 1 << 3 | 1 << 18;
    const ET_NE_WP: u32 = 1 << 4 | 1 << 5 | 1 << 16;
    step.start.cr0 = ET_NE_WP;
    if random.once_in(4) {
        step.start.cr0 |= (random.next() & MP_EM_TS_AM) as u32;
    }
    if random.once_in(4) {
        step.start.cr4 = random.next() as u32 & cr4;
    }
}

/// Any bytes. Behind one that may switch the single step off, nothing else is executed.
fn noise(step: &mut Step, random: &mut Random) {
    /// POPF, IRET, and the second bytes of SYSCALL, SYSRET, SYSENTER and SYSEXIT.
    const LAST: &[u8] = &[0x9d, 0xcf, 0x05, 0x07, 0x34, 0x35];
    const ADDRESS_SIZE: u8 = 0x67;
    const WRMSR: [u8; 2] = [0x0f, 0x30];
    if step.start.flags & TF == 0 && step.mode.level == 0 {
        step.start.flags |= TF;
    }
    for byte in &mut step.bytes {
        *byte = random.next() as u8;
        if step.mode.is_unconfined() && *byte == ADDRESS_SIZE {
            *byte ^= 1;
        }
        if step.mode.level == 0 && LAST.contains(byte) {
            break;
        }
    }
    if step.mode.is_unconfined() {
        step.start.ss = step.mode.stack_16();
        if step.mode.bits == 32 {
            step.bytes[0] = ADDRESS_SIZE;
        }
    }
    step.writes_msrs = step.bytes.windows(2).any(|bytes| bytes == WRMSR);
}

/// Of the forms that may reset the machine, one in so many is taken.
const RESETS_ARE_SLOW: u64 = 4;

fn form(step: &mut Step, random: &mut Random, wild: bool) {
    let may = |harm: Harm| match harm {
        Harm::None => true,
        Harm::Stack => step.mode.is_safe_stack(),
        Harm::Control | Harm::Tables => step.mode.level == 3,
    };
    let never = |harm: Harm| harm == Harm::Tables && step.mode.is_unconfined();
    let form = loop {
        let form = random.of(FORMS);
        if may(form.harm) || wild && !never(form.harm) && random.once_in(RESETS_ARE_SLOW) {
            break form;
        }
    };
    let mut bytes = Bytes { step: &mut step.bytes, at: 0 };
    if random.once_in(16) && form.needs != Needs::Selector {
        // The shadow of MOV SS, and of STI.
        step.start.registers[0] = step.start.ss.into();
        random.of(&[&[0x8e, 0xd0][..], &[0xfb]]).iter().for_each(|&b| bytes.push(b));
    }
    if random.once_in(4) {
        const PREFIXES: &[u8] = &[0x66, 0x67, 0xf2, 0xf3, 0xf0, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0x65];
        (0..=random.below(2)).for_each(|_| bytes.push(*random.of(PREFIXES)));
    }
    if step.mode.bits == 64 && random.once_in(4) {
        bytes.push(0x40 | random.next() as u8 & 15);
    }
    const MOV_TO_CR: &[u16] = &[0x0f, 0x22];
    let stepped = step.start.flags & TF != 0;
    let stays = !step.mode.is_safe_stack();
    let small = step.mode.is_unconfined();
    let mut cr = 0;
    for &pattern in form.bytes {
        let mut any = random.next() as u8;
        // What a 16-bit stack leaves of RSP is not what the step says.
        if form.bytes.starts_with(MOV_TO_CR) && any & 7 == 4 {
            any ^= 1;
        }
        if stays {
            any = without_stack_pointer(any);
        }
        cr = any >> 3 & 7;
        bytes.push(match pattern {
            0..=0xff => pattern as u8,
            // Without a single step the instruction's end must be known.
            0x100 if !stepped || small => any & 0x3b,
            0x101 if stays => without_stack_pointer(any | 0xc0),
            0x101 => any | 0xc0,
            0x110.. if stepped && !small => any & 0xc7 | (pattern as u8 & 7) << 3,
            0x110.. => any & 3 | (pattern as u8 & 7) << 3,
            _ => any,
        });
    }
    if stepped && !small && form.bytes.iter().any(|&p| p == 0x100 || p >= 0x110) {
        (0..5).for_each(|_| bytes.push(random.next() as u8));
    }
    let registers = &mut step.start.registers;
    match form.needs {
        Needs::Nothing => {}
        Needs::Msr => registers[1] = msr(random).into(),
        Needs::MsrToWrite => {
            let number = if wild { msr(random) } else { *random.of(MSRS_TO_WRITE) };
            registers[1] = number.into();
            if number == COMMAND {
                registers[0] &= !0x700;
            }
            step.writes_msrs = true;
        }
        Needs::Port => {
            let port = match random.below(4) {
                0 | 1 if wild => random.next() as u16,
                2 if wild => *random.of(DEVICES),
                _ => *random.of(PORTS),
            };
            step.writes_ports = wild;
            registers[2] = if ends(port) || port == SCRATCH { 0x80 } else { port.into() };
        }
        // Hardware ends HLT by the single step behind it, QEMU 7.2 does not.
        Needs::End if wild && random.once_in(4) => {}
        Needs::End => {
            step.start.flags |= IF;
            step.halts = step.mode.level == 0;
        }
        Needs::Selector => registers[0] = u64::from(*random.of(SELECTORS)),
    }
    if form.bytes.starts_with(MOV_TO_CR) && !step.mode.is_real() {
        const PE: u64 = 1 << 0;
        const PG: u64 = 1 << 31;
        let kept = if step.mode.is_long() { PE | PG } else { PE };
        let spared = if stays { 4 } else { usize::MAX };
        let others = registers.iter_mut().enumerate().filter(|&(i, _)| i != spared);
        others.for_each(|(_, register)| *register |= kept);
    }
    if form.bytes.starts_with(MOV_TO_CR) && cr == 3 && step.mode.level == 0 {
        let spared = if stays { 4 } else { usize::MAX };
        let others = registers.iter_mut().enumerate().filter(|&(i, _)| i != spared);
        others.for_each(|(_, register)| *register = ARENA.start);
    }
    // What would be a hypercall has a number that nobody has.
    if step.mode.bits == 64 && form.bytes.starts_with(&[0x0f, 0x01]) {
        registers[0] |= 1 << 63;
    }
}

/// A ModR/M byte that does not name the stack pointer.
const fn without_stack_pointer(modrm: u8) -> u8 {
    const REG: u8 = 7 << 3;
    const RM: u8 = 7;
    let modrm = if modrm & REG == 4 << 3 { modrm ^ 1 << 3 } else { modrm };
    if modrm >= 0xc0 && modrm & RM == 4 { modrm ^ 1 } else { modrm }
}

fn msr(random: &mut Random) -> u32 {
    let &(first, count) = random.of(MSR_RANGES);
    first + random.below(count.into()) as u32
}

/// Breakpoints on data of the arena, and in 64-bit mode on the instruction. QEMU 7.2 compares those on
/// instructions with the offset in the segment after it has found them by the address, and fails
/// itself where the two differ.
fn breakpoints(step: &mut Step, random: &mut Random) {
    /// The lower bit of each condition: it is set in all but those on instructions and ports.
    const DATA: u32 = 0x1111_0000;
    const FIRST: u32 = 0xf_0000;
    let mut address = [(); 4].map(|()| match random.below(4) {
        0 => ARENA.start + step.offset,
        1 => ARENA.start + step.offset + random.below(8),
        _ => ARENA.start + random.below(MAPPED),
    });
    if !step.mode.is_safe_stack() {
        // QEMU 7.2 fails itself where the delivery of an exception meets one: not in the stack's page.
        address = address.map(|address| address.min(ARENA.start + MAPPED - 0x1800));
    }
    // Local and global enables, any conditions and lengths; the detection of MOV DR is off.
    let mut control = random.next() as u32 & 0xffff_03ff | 0x400 | DATA;
    if step.mode.bits == 64 && random.once_in(4) {
        address[0] = ARENA.start + step.offset;
        control &= !FIRST;
    }
    step.breakpoints = Some((address, control));
}

/// Bytes of an instruction, cut off behind the longest.
struct Bytes<'a> {
    step: &'a mut [u8; 15],
    at: usize,
}

impl Bytes<'_> {
    fn push(&mut self, byte: u8) {
        if let Some(place) = self.step.get_mut(self.at) {
            *place = byte;
            self.at += 1;
        }
    }
}
