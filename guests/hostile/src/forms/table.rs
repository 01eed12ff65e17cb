//! The forms, as data.

/// Where the operand in memory is, and what else there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operands {
    /// ModR/M: memory and a register.
    Register,
    /// ModR/M: memory, and an extension of the opcode.
    Extension(u8),
    /// ModR/M: memory and a segment register.
    Segment,
    /// The address alone.
    Offset,
    /// At SI, at DI.
    String(bool, bool),
    /// A register in the opcode; memory is the stack.
    Stack,
}

/// How large the operand in memory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    Byte,
    Word,
    /// 16, 32 or 64 bits, by prefixes.
    Wide,
    /// The same, and 64 bits in 64-bit code without prefix.
    Stack,
    /// 16 or 32 bits.
    Port,
    /// 32 or 64 bits.
    Large,
    Quad,
}

/// What follows the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Immediate {
    None,
    Byte,
    /// As wide as the operand, at most 32 bits.
    Wide,
}

/// What an operand has to be to mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    None,
    /// The register counts bits from the operand in memory.
    BitOffset,
    /// The accumulator is compared.
    Compare,
    /// EDX:EAX is compared.
    Compare8,
    /// A port in DX.
    Port,
    /// Memory holds a selector.
    Selector,
    /// The stack is used beside the operand.
    Stack,
}

/// A form.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// The opcode.
    pub opcode: &'static [u8],
    pub operands: Operands,
    pub size: Size,
    pub immediate: Immediate,
    pub special: Special,
    /// It may be locked.
    pub lock: bool,
    /// Flags that the manual leaves undefined.
    pub undefined: u64,
    /// It exists in 64-bit code, in other code.
    pub exists: [bool; 2],
}

use Immediate::{Byte as Ib, Wide as Iz};
use Operands::{Extension, Offset, Register, Segment};
use Size::{Byte, Large, Port, Quad, Wide, Word};

const AF: u64 = 1 << 4;
/// OF, SF, AF, PF: what is undefined after BT and its like.
const OTHERS: u64 = 0x894;

const fn form(opcode: &'static [u8], operands: Operands, size: Size) -> Form {
    Form {
        opcode,
        operands,
        size,
        immediate: Immediate::None,
        special: Special::None,
        lock: false,
        undefined: 0,
        exists: [true; 2],
    }
}

impl Form {
    const fn immediate(self, immediate: Immediate) -> Form {
        Form { immediate, ..self }
    }
    const fn lock(self, lock: bool) -> Form {
        Form { lock, ..self }
    }
    const fn undefined(self, undefined: u64) -> Form {
        Form { undefined, ..self }
    }
    const fn special(self, special: Special) -> Form {
        Form { special, ..self }
    }
    const fn exists(self, long: bool, other: bool) -> Form {
        Form { exists: [long, other], ..self }
    }
}

const fn string(opcode: &'static [u8], source: bool, target: bool, size: Size) -> Form {
    form(opcode, Operands::String(source, target), size)
}

const fn bits(opcode: &'static [u8], lock: bool) -> Form {
    form(opcode, Register, Wide).special(Special::BitOffset).undefined(OTHERS).lock(lock)
}

const fn bit(extension: u8) -> Form {
    form(&[0x0f, 0xba], Extension(extension), Wide)
        .immediate(Ib)
        .undefined(OTHERS)
        .lock(extension > 4)
}

/// One of ADD, OR, ADC, SBB, AND, SUB, XOR, CMP.
macro_rules! arithmetic {
    ($number:literal, $undefined:expr) => {
        [
            form(&[8 * $number], Register, Byte).lock($number < 7).undefined($undefined),
            form(&[8 * $number + 1], Register, Wide).lock($number < 7).undefined($undefined),
            form(&[8 * $number + 2], Register, Byte).undefined($undefined),
            form(&[8 * $number + 3], Register, Wide).undefined($undefined),
            form(&[0x80], Extension($number), Byte)
                .immediate(Ib)
                .lock($number < 7)
                .undefined($undefined),
            form(&[0x81], Extension($number), Wide)
                .immediate(Iz)
                .lock($number < 7)
                .undefined($undefined),
            form(&[0x82], Extension($number), Byte)
                .immediate(Ib)
                .undefined($undefined)
                .exists(false, true),
            form(&[0x83], Extension($number), Wide)
                .immediate(Ib)
                .lock($number < 7)
                .undefined($undefined),
        ]
    };
}

/// All of them but [`SWAPS`].
pub const FORMS: &[&[Form]] = &[
    &arithmetic!(0, 0),
    &arithmetic!(1, AF),
    &arithmetic!(2, 0),
    &arithmetic!(3, 0),
    &arithmetic!(4, AF),
    &arithmetic!(5, 0),
    &arithmetic!(6, AF),
    &arithmetic!(7, 0),
    // TEST, XCHG, MOV, MOVSXD, MOVNTI, MOVZX, MOVSX.
    &[
        form(&[0x84], Register, Byte).undefined(AF),
        form(&[0x85], Register, Wide).undefined(AF),
        form(&[0xf6], Extension(0), Byte).immediate(Ib).undefined(AF),
        form(&[0xf6], Extension(1), Byte).immediate(Ib).undefined(AF),
        form(&[0xf7], Extension(0), Wide).immediate(Iz).undefined(AF),
        form(&[0xf7], Extension(1), Wide).immediate(Iz).undefined(AF),
        form(&[0x86], Register, Byte).lock(true),
        form(&[0x87], Register, Wide).lock(true),
        form(&[0x88], Register, Byte),
        form(&[0x89], Register, Wide),
        form(&[0x8a], Register, Byte),
        form(&[0x8b], Register, Wide),
        form(&[0xc6], Extension(0), Byte).immediate(Ib),
        form(&[0xc7], Extension(0), Wide).immediate(Iz),
        form(&[0xa0], Offset, Byte),
        form(&[0xa1], Offset, Wide),
        form(&[0xa2], Offset, Byte),
        form(&[0xa3], Offset, Wide),
        form(&[0x8c], Segment, Word),
        form(&[0x8e], Segment, Word).special(Special::Selector),
        form(&[0x63], Register, Wide).exists(true, false),
        form(&[0x0f, 0xc3], Register, Large),
        form(&[0x0f, 0xb6], Register, Byte),
        form(&[0x0f, 0xb7], Register, Word),
        form(&[0x0f, 0xbe], Register, Byte),
        form(&[0x0f, 0xbf], Register, Word),
    ],
    // NOT, NEG, INC, DEC, BT and its like, CMPXCHG, XADD.
    &[
        form(&[0xf6], Extension(2), Byte).lock(true),
        form(&[0xf7], Extension(2), Wide).lock(true),
        form(&[0xf6], Extension(3), Byte).lock(true),
        form(&[0xf7], Extension(3), Wide).lock(true),
        form(&[0xfe], Extension(0), Byte).lock(true),
        form(&[0xff], Extension(0), Wide).lock(true),
        form(&[0xfe], Extension(1), Byte).lock(true),
        form(&[0xff], Extension(1), Wide).lock(true),
        bits(&[0x0f, 0xa3], false),
        bits(&[0x0f, 0xab], true),
        bits(&[0x0f, 0xb3], true),
        bits(&[0x0f, 0xbb], true),
        bit(4),
        bit(5),
        bit(6),
        bit(7),
        form(&[0x0f, 0xb0], Register, Byte).special(Special::Compare).lock(true),
        form(&[0x0f, 0xb1], Register, Wide).special(Special::Compare).lock(true),
        form(&[0x0f, 0xc7], Extension(1), Quad).special(Special::Compare8).lock(true),
        form(&[0x0f, 0xc0], Register, Byte).lock(true),
        form(&[0x0f, 0xc1], Register, Wide).lock(true),
    ],
    // PUSH and POP.
    &[
        form(&[0xff], Extension(6), Size::Stack).special(Special::Stack),
        form(&[0x8f], Extension(0), Size::Stack).special(Special::Stack),
        form(&[0x50], Operands::Stack, Size::Stack),
        form(&[0x58], Operands::Stack, Size::Stack),
    ],
    STRINGS,
    PORTS,
];

/// MOVBE.
pub const SWAPS: &[Form] =
    &[form(&[0x0f, 0x38, 0xf0], Register, Wide), form(&[0x0f, 0x38, 0xf1], Register, Wide)];

/// MOVS, CMPS, STOS, LODS, SCAS.
pub const STRINGS: &[Form] = &[
    string(&[0xa4], true, true, Byte),
    string(&[0xa5], true, true, Wide),
    string(&[0xa6], true, true, Byte),
    string(&[0xa7], true, true, Wide),
    string(&[0xaa], false, true, Byte),
    string(&[0xab], false, true, Wide),
    string(&[0xac], true, false, Byte),
    string(&[0xad], true, false, Wide),
    string(&[0xae], false, true, Byte),
    string(&[0xaf], false, true, Wide),
];

/// INS, OUTS.
pub const PORTS: &[Form] = &[
    string(&[0x6c], false, true, Byte).special(Special::Port),
    string(&[0x6d], false, true, Port).special(Special::Port),
    string(&[0x6e], true, false, Byte).special(Special::Port),
    string(&[0x6f], true, false, Port).special(Special::Port),
];
