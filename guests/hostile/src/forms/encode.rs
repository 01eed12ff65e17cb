//! A form as bytes, with random prefixes, registers and ways to address an operand that is where it is to
//! be, and what the registers have to hold for that.

use super::Random;
use super::table::{Form, Immediate, Operands, Size, Special};

/// Where an instruction is executed, and on what.
#[derive(Clone, Copy)]
pub struct Setting {
    /// Of the code.
    pub bits: u8,
    /// Its offset in its segment.
    pub ip: u64,
    /// The offset of the operand, and of that at SI.
    pub target: u64,
    /// The offset of that at DI.
    pub other: u64,
    /// SS has the operand too, and the stack pointer may be anything.
    pub any_stack: bool,
    /// The offsets have at most 16 bits.
    pub low: bool,
}

/// An instruction.
pub struct Made {
    bytes: [u8; 15],
    length: usize,
    /// The general registers.
    pub registers: [u64; 16],
    /// Registers that make the address.
    used: u16,
    /// Bytes of the operand in memory.
    pub size: u8,
    /// Bytes of addresses.
    pub address: u8,
}

const RAX: usize = 0;
const RCX: usize = 1;
const RDX: usize = 2;
const RSP: usize = 4;
const RSI: usize = 6;
const RDI: usize = 7;

const OPERAND_SIZE: u8 = 0x66;
const ADDRESS_SIZE: u8 = 0x67;
const LOCK: u8 = 0xf0;

const fn ones(bytes: u8) -> u64 {
    u64::MAX >> (64 - 8 * bytes as u32)
}

/// The instruction, if the form exists there. `registers` are those that it does not need.
pub fn make(
    form: &Form,
    setting: &Setting,
    registers: [u64; 16],
    random: &mut Random,
) -> Option<Made> {
    let long = setting.bits == 64;
    if !form.exists[usize::from(!long)] {
        return None;
    }
    let mut made = Made {
        bytes: [0xcc; 15],
        length: 0,
        registers,
        used: 0,
        size: 0,
        address: setting.bits / 8,
    };
    let narrow = !matches!(form.size, Size::Large | Size::Quad) && random.once_in(3);
    if narrow {
        made.push(OPERAND_SIZE);
    }
    // A 16-bit address does not reach everything.
    if (setting.bits != 32 || setting.low) && random.once_in(4) {
        made.push(ADDRESS_SIZE);
        made.address = if setting.bits == 32 { 2 } else { 4 };
    }
    let string = matches!(form.operands, Operands::String(..));
    if random.once_in(4) {
        // DS, FS, GS, and ES where it is the same.
        let segments = if string { &[0x3e, 0x64, 0x65][..] } else { &[0x3e, 0x64, 0x65, 0x26] };
        made.push(*random.of(segments));
    } else if !setting.any_stack && !string && setting.bits != 64 {
        // (E)BP as a base would mean the stack.
        made.push(0x3e);
    }
    if form.lock && random.once_in(3) {
        made.push(LOCK);
    }
    if string && !random.once_in(4) {
        made.push(if random.once_in(3) { 0xf2 } else { 0xf3 });
    }
    let wide = long && form.size != Size::Quad && random.once_in(3);
    made.size = match (form.size, setting.bits) {
        (Size::Byte, _) => 1,
        (Size::Word, _) => 2,
        (Size::Quad, _) => 8,
        (Size::Wide | Size::Large, 64) if wide => {
            if form.opcode == [0x63] {
                4
            } else {
                8
            }
        }
        (Size::Stack, 64) => {
            if narrow && !wide {
                2
            } else {
                8
            }
        }
        (Size::Large, _) => 4,
        (Size::Port, 64) if wide => 4,
        (_, 16) => {
            if narrow {
                4
            } else {
                2
            }
        }
        _ => {
            if narrow {
                2
            } else {
                4
            }
        }
    };
    let rex = if wide { 0x48 } else { 0x40 };
    match form.operands {
        Operands::String(..) => {
            if wide {
                made.push(rex);
            }
            made.opcode(form);
            let garbage = random.next() & !ones(made.address);
            made.registers[RSI] = setting.target | garbage;
            made.registers[RDI] = setting.other | garbage;
        }
        Operands::Offset => {
            if wide {
                made.push(rex);
            }
            made.opcode(form);
            made.number(setting.target, made.address);
        }
        Operands::Stack => {
            let register = made.register(setting, false, random);
            let rex = rex | register >> 3;
            if rex != 0x40 {
                made.push(rex);
            }
            made.push(form.opcode[0] | register & 7);
        }
        _ => made.modrm(form, setting, rex, random),
    }
    match form.immediate {
        Immediate::None => {}
        Immediate::Byte => made.number(random.next(), 1),
        Immediate::Wide => made.number(random.next(), made.size.min(4)),
    }
    made.patch_relative(setting);
    (made.length <= 15).then_some(made)
}

impl Made {
    /// The instruction's bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length.min(15)]
    }

    /// Whether the address depends on this register.
    pub fn addresses_by(&self, register: usize) -> bool {
        self.used & 1 << register != 0
    }

    fn push(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
        }
        self.length += 1;
    }

    fn number(&mut self, value: u64, bytes: u8) {
        value.to_le_bytes().iter().take(bytes.into()).for_each(|&byte| self.push(byte));
    }

    fn opcode(&mut self, form: &Form) {
        form.opcode.iter().for_each(|&byte| self.push(byte));
    }

    /// A register that the operand may be in.
    fn register(&self, setting: &Setting, apart: bool, random: &mut Random) -> u8 {
        loop {
            let register = random.below(if setting.bits == 64 { 16 } else { 8 }) as u8;
            let stack = usize::from(register) == RSP && !setting.any_stack;
            let taken = apart && self.addresses_by(register.into());
            if !stack && !taken {
                return register;
            }
        }
    }

    fn modrm(&mut self, form: &Form, setting: &Setting, mut rex: u8, random: &mut Random) {
        let mut target = setting.target;
        let mut count = 0i64;
        if form.special == Special::BitOffset {
            // So many operands away.
            count = random.below(9) as i64 - 4;
            target = target.wrapping_sub((count * i64::from(self.size)) as u64);
        }
        let address = if self.address == 2 {
            self.address_16(target, setting, random)
        } else {
            self.address_32(target, setting, random)
        };
        let reg = match form.operands {
            Operands::Extension(extension) => extension,
            // ES, DS, FS, GS; SS where it cannot do harm. CS cannot be loaded.
            Operands::Segment if form.special == Special::Selector => {
                *random.of(if setting.any_stack { &[0, 3, 4, 5, 2][..] } else { &[0, 3, 4, 5] })
            }
            Operands::Segment => random.below(6) as u8,
            _ => self.register(setting, form.special == Special::BitOffset, random),
        };
        if form.special == Special::BitOffset {
            let bits = i64::from(self.size) * 8;
            let offset = (count * bits) as u64 + random.below(bits as u64);
            let whole = &mut self.registers[usize::from(reg)];
            *whole = *whole & !ones(self.size) | offset & ones(self.size);
        }
        rex |= address.rex | (reg >> 3) << 2;
        if setting.bits == 64 && (rex != 0x40 || random.once_in(4)) {
            self.push(rex);
        }
        self.opcode(form);
        self.push(address.modrm | (reg & 7) << 3);
        if let Some(sib) = address.sib {
            self.push(sib);
        }
        self.number(address.displacement, address.size);
    }

    /// The low bytes of a register, in an address.
    fn of(&self, register: u8) -> u64 {
        self.registers[usize::from(register)] & ones(self.address)
    }

    fn set(&mut self, register: u8, value: u64) {
        let (mask, whole) = (ones(self.address), &mut self.registers[usize::from(register)]);
        *whole = *whole & !mask | value & mask;
    }

    fn address_16(&mut self, target: u64, setting: &Setting, random: &mut Random) -> Address {
        const PARTS: [&[u8]; 8] = [&[3, 6], &[3, 7], &[5, 6], &[5, 7], &[6], &[7], &[5], &[3]];
        let (rm, mode) = (random.below(8) as u8, random.below(3) as u8);
        if mode == 0 && rm == 6 {
            return Address { modrm: 6, sib: None, rex: 0, displacement: target, size: 2 };
        }
        debug_assert!(setting.bits != 64);
        let parts = PARTS[usize::from(rm)];
        parts.iter().for_each(|&part| self.used |= 1 << part);
        let sum =
            |made: &Made| parts.iter().fold(0, |sum: u64, &part| sum.wrapping_add(made.of(part)));
        let displacement = match mode {
            0 => 0,
            1 => random.next() as i8 as u64,
            _ => target.wrapping_sub(sum(self)),
        };
        let left = target.wrapping_sub(sum(self)).wrapping_sub(displacement);
        self.set(parts[0], self.of(parts[0]).wrapping_add(left));
        Address { modrm: mode << 6 | rm, sib: None, rex: 0, displacement, size: mode }
    }

    fn address_32(&mut self, target: u64, setting: &Setting, random: &mut Random) -> Address {
        const NO_INDEX: u8 = 4;
        let any = |made: &Made, random: &mut Random| made.register(setting, false, random);
        let (mut displacement, mode) = match random.below(3) {
            0 => (0, 0),
            1 => (random.next() as i8 as u64, 1),
            _ => (random.next() as i32 as u64, 2),
        };
        let size = [0, 1, 4][usize::from(mode)];
        let bare = random.once_in(6);
        if bare && random.once_in(2) {
            // The displacement alone, from the next instruction in 64-bit code: see `patch_relative`.
            return Address { modrm: 5, sib: None, rex: 0, displacement: target, size: 4 };
        }
        if bare {
            // SIB without a base; the index is small, so that the displacement has 32 bits.
            let (index, scale) = (any(self, random), random.below(4) as u8);
            let scaled = if index == NO_INDEX {
                0
            } else {
                self.used |= 1 << index;
                self.set(index, random.below(0x1000));
                self.of(index) << scale
            };
            return Address {
                modrm: 4,
                sib: Some(scale << 6 | (index & 7) << 3 | 5),
                rex: (index >> 3) << 1,
                displacement: target.wrapping_sub(scaled),
                size: 4,
            };
        }
        let base = loop {
            let base = any(self, random);
            // Without displacement, RBP and R13 mean something else. The upper half of ESP is unknown where
            // the stack has 16 bits.
            let wrong =
                mode == 0 && base & 7 == 5 || setting.bits == 16 && usize::from(base) == RSP;
            if !wrong {
                break base;
            }
        };
        self.used |= 1 << base;
        if usize::from(base) == RSP {
            // It stays where a stack can be.
            displacement = displacement as i8 as u64;
        }
        if base & 7 != 4 && random.once_in(2) {
            self.set(base, target.wrapping_sub(displacement));
            return Address {
                modrm: mode << 6 | base & 7,
                sib: None,
                rex: base >> 3,
                displacement,
                size,
            };
        }
        let index = loop {
            let index = any(self, random);
            if usize::from(base) == RSP {
                break NO_INDEX;
            } else if index != base {
                break index;
            }
        };
        let scale = random.below(4) as u8;
        let mut left = target.wrapping_sub(displacement);
        if index != NO_INDEX {
            self.used |= 1 << index;
            left = left.wrapping_sub(self.of(index) << scale);
        }
        self.set(base, left);
        Address {
            modrm: mode << 6 | 4,
            sib: Some(scale << 6 | (index & 7) << 3 | base & 7),
            rex: base >> 3 | (index >> 3) << 1,
            displacement,
            size,
        }
    }

    /// In 64-bit code ModR/M with a displacement alone counts from the end of the instruction.
    fn patch_relative(&mut self, setting: &Setting) {
        if setting.bits != 64 || self.length > 15 {
            return;
        }
        let prefixes = |&&byte: &&u8| matches!(byte, 0x26 | 0x3e | 0x40..=0x4f | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
        let at = self.bytes().iter().take_while(prefixes).count();
        let opcode = match &self.bytes[at..] {
            [0x0f, 0x38, ..] => 3,
            [0x0f, ..] => 2,
            [0xa0..=0xaf | 0x50..=0x5f | 0x6c..=0x6f, ..] => return,
            _ => 1,
        };
        let modrm = at + opcode;
        if self.bytes[modrm] & 0xc7 != 5 {
            return;
        }
        let end = setting.ip + self.length as u64;
        let field = &mut self.bytes[modrm + 1..modrm + 5];
        let value = u32::from_le_bytes([field[0], field[1], field[2], field[3]]);
        field.copy_from_slice(&value.wrapping_sub(end as u32).to_le_bytes());
    }
}

/// An address as it is encoded.
struct Address {
    modrm: u8,
    sib: Option<u8>,
    rex: u8,
    displacement: u64,
    /// Bytes of the displacement.
    size: u8,
}

/// Sets what a form needs beside its address: `memory` is what is there.
pub fn prepare(form: &Form, made: &mut Made, memory: u64, random: &mut Random) {
    match form.special {
        Special::Compare if random.once_in(2) && !made.addresses_by(RAX) => {
            made.registers[RAX] = memory;
        }
        Special::Compare8
            if random.once_in(2) && !made.addresses_by(RAX) && !made.addresses_by(RDX) =>
        {
            made.registers[RAX] = memory & ones(4);
            made.registers[RDX] = memory >> 32;
        }
        _ => {}
    }
    if matches!(form.operands, Operands::String(..)) {
        let count = match random.below(8) {
            0 => 0,
            1 => 64 + random.below(70),
            _ => random.below(20),
        };
        let garbage = random.next() & !ones(made.address);
        made.registers[RCX] = count | garbage;
    }
}
