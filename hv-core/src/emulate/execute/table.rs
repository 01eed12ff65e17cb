//! Which instructions are executed: ranges of the decoder's codes, in its order.

use iced_x86::Code;

use Op::*;

/// What an instruction does. Operand 0 is where a result goes, where there is one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// To operand 0 from operand 1.
    Move,
    /// The same from fewer bits, the others 0.
    ZeroExtend,
    /// The same from fewer bits, the others copies of the sign.
    SignExtend,
    /// The same with the bytes in the other order.
    SwapBytes,
    /// Both operands and the flags.
    Alu(Alu),
    /// [`Op::Alu`] by the place in the range: the operation is the number of its group.
    AluGroup,
    /// Operand 0 and the flags.
    Unary(Unary),
    /// One bit of operand 0, by operand 1.
    Bit(Bit),
    /// Both operands, each to the other's place; always locked in memory.
    Exchange,
    /// [`Op::Exchange`], then an addition.
    ExchangeAdd,
    /// Operand 1 to operand 0 if that is the accumulator's.
    CompareExchange,
    /// The same of ECX:EBX and EDX:EAX.
    CompareExchange8,
    /// Operand 0 to the stack.
    Push,
    /// Operand 0 from the stack.
    Pop,
    /// From a segment register.
    StoreSegment,
    /// To a segment register.
    LoadSegment,
    /// A string instruction.
    String(String),
}

/// Arithmetic with two operands, by the numbers that the opcodes use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Alu {
    Add,
    Or,
    Adc,
    Sbb,
    And,
    Sub,
    Xor,
    /// SUB without its result.
    Cmp,
    /// AND without its result.
    Test,
}

impl Alu {
    /// In the order of the numbers.
    const ALL: [Alu; 8] =
        [Alu::Add, Alu::Or, Alu::Adc, Alu::Sbb, Alu::And, Alu::Sub, Alu::Xor, Alu::Cmp];
}

/// Arithmetic with one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Unary {
    Inc,
    Dec,
    Not,
    Neg,
}

/// What becomes of a bit that is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Bit {
    Test,
    Set,
    Reset,
    Complement,
}

/// String instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum String {
    Movs,
    Cmps,
    Stos,
    Lods,
    Scas,
    Ins,
    Outs,
}

impl String {
    /// Whether it reads at RSI.
    pub const fn has_source(self) -> bool {
        matches!(self, String::Movs | String::Cmps | String::Lods | String::Outs)
    }

    /// Whether it uses memory at RDI.
    pub const fn has_target(self) -> bool {
        !matches!(self, String::Lods | String::Outs)
    }

    /// Whether it only reads there.
    pub const fn compares(self) -> bool {
        matches!(self, String::Cmps | String::Scas)
    }
}

/// So many codes from `first` on. Their operands' sizes in memory follow each other from `1 << start`
/// on, and start again after as many as there are sizes.
struct Range {
    first: u16,
    count: u8,
    start: u8,
    sizes: u8,
    op: Op,
}

const fn range(first: Code, count: u8, (start, sizes): (u8, u8), op: Op) -> Range {
    Range { first: first as u16, count, start, sizes, op }
}

/// 1, 2, 4, 8 bytes.
const ANY: (u8, u8) = (0, 4);
const BYTE: (u8, u8) = (0, 1);
const WORD: (u8, u8) = (1, 1);
/// 2, 4, 8 bytes.
const WIDE: (u8, u8) = (1, 3);
/// 1, 2, 4 bytes.
const PORT: (u8, u8) = (0, 3);
/// 4, 8 bytes.
const LARGE: (u8, u8) = (2, 2);
const QUAD: (u8, u8) = (3, 1);

const TABLE: &[Range] = &[
    range(Code::Add_rm8_r8, 12, ANY, Alu(Alu::Add)),
    range(Code::Or_rm8_r8, 12, ANY, Alu(Alu::Or)),
    range(Code::Adc_rm8_r8, 12, ANY, Alu(Alu::Adc)),
    range(Code::Sbb_rm8_r8, 12, ANY, Alu(Alu::Sbb)),
    range(Code::And_rm8_r8, 12, ANY, Alu(Alu::And)),
    range(Code::Sub_rm8_r8, 12, ANY, Alu(Alu::Sub)),
    range(Code::Xor_rm8_r8, 12, ANY, Alu(Alu::Xor)),
    range(Code::Cmp_rm8_r8, 12, ANY, Alu(Alu::Cmp)),
    range(Code::Push_r16, 3, WIDE, Push),
    range(Code::Pop_r16, 3, WIDE, Pop),
    range(Code::Movsxd_r16_rm16, 1, WORD, SignExtend),
    range(Code::Movsxd_r32_rm32, 2, (2, 1), SignExtend),
    range(Code::Insb_m8_DX, 3, PORT, String(String::Ins)),
    range(Code::Outsb_DX_m8, 3, PORT, String(String::Outs)),
    range(Code::Add_rm8_imm8, 8, BYTE, AluGroup),
    range(Code::Add_rm16_imm16, 24, WIDE, AluGroup),
    range(Code::Add_rm8_imm8_82, 8, BYTE, AluGroup),
    range(Code::Add_rm16_imm8, 24, WIDE, AluGroup),
    range(Code::Test_rm8_r8, 4, ANY, Alu(Alu::Test)),
    range(Code::Xchg_rm8_r8, 4, ANY, Exchange),
    range(Code::Mov_rm8_r8, 8, ANY, Move),
    range(Code::Mov_rm16_Sreg, 3, WORD, StoreSegment),
    range(Code::Mov_Sreg_rm16, 3, WORD, LoadSegment),
    range(Code::Pop_rm16, 3, WIDE, Pop),
    range(Code::Mov_AL_moffs8, 8, ANY, Move),
    range(Code::Movsb_m8_m8, 4, ANY, String(String::Movs)),
    range(Code::Cmpsb_m8_m8, 4, ANY, String(String::Cmps)),
    range(Code::Stosb_m8_AL, 4, ANY, String(String::Stos)),
    range(Code::Lodsb_AL_m8, 4, ANY, String(String::Lods)),
    range(Code::Scasb_AL_m8, 4, ANY, String(String::Scas)),
    range(Code::Mov_rm8_imm8, 1, BYTE, Move),
    range(Code::Mov_rm16_imm16, 3, WIDE, Move),
    range(Code::Test_rm8_imm8, 2, BYTE, Alu(Alu::Test)),
    range(Code::Not_rm8, 1, BYTE, Unary(Unary::Not)),
    range(Code::Neg_rm8, 1, BYTE, Unary(Unary::Neg)),
    range(Code::Test_rm16_imm16, 6, WIDE, Alu(Alu::Test)),
    range(Code::Not_rm16, 3, WIDE, Unary(Unary::Not)),
    range(Code::Neg_rm16, 3, WIDE, Unary(Unary::Neg)),
    range(Code::Inc_rm8, 1, BYTE, Unary(Unary::Inc)),
    range(Code::Dec_rm8, 1, BYTE, Unary(Unary::Dec)),
    range(Code::Inc_rm16, 3, WIDE, Unary(Unary::Inc)),
    range(Code::Dec_rm16, 3, WIDE, Unary(Unary::Dec)),
    range(Code::Push_rm16, 3, WIDE, Push),
    range(Code::Bt_rm16_r16, 3, WIDE, Bit(Bit::Test)),
    range(Code::Bts_rm16_r16, 3, WIDE, Bit(Bit::Set)),
    range(Code::Cmpxchg_rm8_r8, 4, ANY, CompareExchange),
    range(Code::Btr_rm16_r16, 3, WIDE, Bit(Bit::Reset)),
    range(Code::Movzx_r16_rm8, 3, BYTE, ZeroExtend),
    range(Code::Movzx_r16_rm16, 3, WORD, ZeroExtend),
    range(Code::Bt_rm16_imm8, 3, WIDE, Bit(Bit::Test)),
    range(Code::Bts_rm16_imm8, 3, WIDE, Bit(Bit::Set)),
    range(Code::Btr_rm16_imm8, 3, WIDE, Bit(Bit::Reset)),
    range(Code::Btc_rm16_imm8, 3, WIDE, Bit(Bit::Complement)),
    range(Code::Btc_rm16_r16, 3, WIDE, Bit(Bit::Complement)),
    range(Code::Movsx_r16_rm8, 3, BYTE, SignExtend),
    range(Code::Movsx_r16_rm16, 3, WORD, SignExtend),
    range(Code::Xadd_rm8_r8, 4, ANY, ExchangeAdd),
    range(Code::Movnti_m32_r32, 2, LARGE, Move),
    range(Code::Cmpxchg8b_m64, 1, QUAD, CompareExchange8),
    range(Code::Movbe_r16_m16, 3, WIDE, SwapBytes),
    range(Code::Movbe_m16_r16, 3, WIDE, SwapBytes),
];

/// What the instruction with this code does, and how many bytes its operand in memory has; `None` if
/// it is not one of these.
pub fn find(code: Code) -> Option<(Op, u8)> {
    let code = code as u16;
    let next = TABLE.partition_point(|range| range.first <= code);
    let range = TABLE.get(next.checked_sub(1)?)?;
    let at = code.wrapping_sub(range.first) as u8;
    if code.wrapping_sub(range.first) >= range.count.into() {
        return None;
    }
    let size = 1 << (range.start.wrapping_add(at.checked_rem(range.sizes)?) & 3);
    let op = match range.op {
        AluGroup => Alu(*Alu::ALL.get(usize::from(at.checked_div(range.sizes)?))?),
        op => op,
    };
    Some((op, size))
}

#[cfg(test)]
mod tests;
