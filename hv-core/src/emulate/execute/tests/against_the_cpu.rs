//! Random instructions, registers and memory, given to the CPU and to the engine.

use iced_x86::{Decoder, DecoderOptions, OpKind, Register};

use super::super::native::{CODE, DATA, DATA_SIZE, Native, State};
use super::super::table::Op;
use super::*;

/// Numbers that are the same at each run.
struct Random(u64, Vec<u8>);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed, (0..DATA_SIZE).map(|at| (at * at / 7) as u8).collect())
    }

    fn next(&mut self) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }

    /// Values at the edges are as frequent as others.
    fn value(&mut self) -> u64 {
        match self.below(4) {
            0 => self.of(&[0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0x7fff_ffff, 0x8000_0000]),
            1 => u64::MAX.wrapping_sub(self.below(3)) >> self.of(&[0, 1, 32, 48, 56]),
            _ => self.next(),
        }
    }
}

/// The flags that both must agree on. Undefined ones differ from CPU to CPU, and are compared where the
/// CPUs known do the same: the carries of logic are 0.
const COMPARED: u64 = flag::STATUS | flag::DF;

/// Opcodes with ModRM, and the values of its middle field that are executed; `None`: all of them.
const FORMS: &[(&[u8], Option<&[u8]>)] = &[
    (&[0x00], None),
    (&[0x01], None),
    (&[0x02], None),
    (&[0x03], None),
    (&[0x08], None),
    (&[0x09], None),
    (&[0x0a], None),
    (&[0x0b], None),
    (&[0x10], None),
    (&[0x11], None),
    (&[0x12], None),
    (&[0x13], None),
    (&[0x18], None),
    (&[0x19], None),
    (&[0x1a], None),
    (&[0x1b], None),
    (&[0x20], None),
    (&[0x21], None),
    (&[0x22], None),
    (&[0x23], None),
    (&[0x28], None),
    (&[0x29], None),
    (&[0x2a], None),
    (&[0x2b], None),
    (&[0x30], None),
    (&[0x31], None),
    (&[0x32], None),
    (&[0x33], None),
    (&[0x38], None),
    (&[0x39], None),
    (&[0x3a], None),
    (&[0x3b], None),
    (&[0x63], None),
    (&[0x80], None),
    (&[0x81], None),
    (&[0x83], None),
    (&[0x84], None),
    (&[0x85], None),
    (&[0x86], None),
    (&[0x87], None),
    (&[0x88], None),
    (&[0x89], None),
    (&[0x8a], None),
    (&[0x8b], None),
    (&[0x8f], Some(&[0])),
    (&[0xc6], Some(&[0])),
    (&[0xc7], Some(&[0])),
    (&[0xf6], Some(&[0, 1, 2, 3])),
    (&[0xf7], Some(&[0, 1, 2, 3])),
    (&[0xfe], Some(&[0, 1])),
    (&[0xff], Some(&[0, 1, 6])),
    (&[0x0f, 0xa3], None),
    (&[0x0f, 0xab], None),
    (&[0x0f, 0xb3], None),
    (&[0x0f, 0xbb], None),
    (&[0x0f, 0xba], Some(&[4, 5, 6, 7])),
    (&[0x0f, 0xb0], None),
    (&[0x0f, 0xb1], None),
    (&[0x0f, 0xb6], None),
    (&[0x0f, 0xb7], None),
    (&[0x0f, 0xbe], None),
    (&[0x0f, 0xbf], None),
    (&[0x0f, 0xc0], None),
    (&[0x0f, 0xc1], None),
    (&[0x0f, 0xc3], None),
    (&[0x0f, 0xc7], Some(&[1])),
    (&[0x0f, 0x38, 0xf0], None),
    (&[0x0f, 0x38, 0xf1], None),
];

const STRINGS: &[u8] = &[0xa4, 0xa5, 0xa6, 0xa7, 0xaa, 0xab, 0xac, 0xad, 0xae, 0xaf];
const MOVES: &[u8] = &[0xa0, 0xa1, 0xa2, 0xa3];

fn prefixes(random: &mut Random, code: &mut Vec<u8>, repeats: bool) {
    let mut maybe = |byte: u8, of: u64| {
        if random.below(of) == 0 {
            code.push(byte);
        }
    };
    maybe(0x66, 4);
    maybe(0x67, 4);
    maybe(0xf0, 4);
    maybe(0x2e, 16);
    if repeats {
        maybe(0xf3, 2);
        maybe(0xf2, 3);
    }
    match random.below(3) {
        0 => code.push(0x48 | random.below(8) as u8),
        1 => code.push(0x40 | random.below(8) as u8),
        _ => {}
    }
}

/// The middle of the data, with room for bit offsets and repetitions.
fn target(random: &mut Random) -> u64 {
    DATA + 0x400 + random.below(DATA_SIZE as u64 - 0x800)
}

fn state(random: &mut Random) -> State {
    State {
        registers: core::array::from_fn(|_| random.value()),
        flags: random.next() & COMPARED,
        data: random.1.clone(),
    }
}

/// The instruction at the start of `code`, if it is one that is executed.
fn legal(code: &[u8]) -> Option<(iced_x86::Instruction, Op)> {
    let instruction = decode(code, Mode::Code64, CODE).ok()?;
    let (op, _) = find(instruction.code())?;
    Some((instruction, op))
}

/// Has the operand in memory lie at `at`, by way of its base, index or displacement; `false` if it
/// cannot.
fn aim(random: &mut Random, code: &mut [u8], state: &mut State, at: u64) -> bool {
    let mut decoder = Decoder::with_ip(64, code, CODE, DecoderOptions::NONE);
    let instruction = decoder.decode();
    let number = |register| Part::of(register).map(|part| usize::from(part.number));
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    // POP has moved the stack pointer by then.
    let at = match find(instruction.code()) {
        Some((Op::Pop, size)) if number(base) == Some(4) => at - u64::from(size),
        _ => at,
    };
    match (number(base), number(index)) {
        (Some(base), index) => {
            if index == Some(base) {
                return false;
            }
            if let Some(index) = index {
                state.registers[index] = random.next() & 0xfff;
            }
            let index = index.map_or(0, |index| state.registers[index]);
            let rest = index.wrapping_mul(instruction.memory_index_scale().into());
            let rest = rest.wrapping_add(instruction.memory_displacement64());
            state.registers[base] = at.wrapping_sub(rest);
        }
        (None, Some(_)) if base == Register::None => return false,
        _ => {
            let offsets = decoder.get_constant_offsets(&instruction);
            let (from, size) = (offsets.displacement_offset(), offsets.displacement_size());
            if size < 4 {
                return false;
            }
            let relative = matches!(base, Register::RIP | Register::EIP);
            let value = if relative { at.wrapping_sub(instruction.next_ip()) } else { at };
            code[from..from + size].copy_from_slice(&value.to_le_bytes()[..size]);
        }
    }
    let from = (at - DATA) as usize;
    state.data[from..from + 8].copy_from_slice(&random.value().to_le_bytes());
    true
}

/// The CPU and the engine on the same state.
fn compare(native: &Native, code: &[u8], state: &State) {
    let instruction = decode(code, Mode::Code64, CODE).unwrap();
    let code = &code[..instruction.len()];
    let what = std::format!(
        "{:?} {code:x?} with {:x?} and {:x}",
        instruction.code(),
        state.registers,
        state.flags
    );
    let mut machine = Plain::new(Mode::Code64, DATA, state.data.clone());
    (machine.registers, machine.flags) = (state.registers, state.flags);
    assert_eq!(execute(&mut machine, &instruction, u32::MAX), Ok(Done::Complete), "{what}");
    let real = native.run(code, state);
    for number in 0..16 {
        let (is, should) = (machine.registers[number], real.registers[number]);
        assert!(is == should, "{what}: register {number} is {is:#x} instead of {should:#x}");
    }
    let (is, should) = (machine.flags & COMPARED, real.flags & COMPARED);
    assert!(is == should, "{what}: the flags are {is:#x} instead of {should:#x}");
    if machine.memory != real.data {
        let at = (0..DATA_SIZE).find(|&at| machine.memory[at] != real.data[at]).unwrap();
        let (is, should) = (machine.memory[at], real.data[at]);
        panic!("{what}: the byte at {at:#x} is {is:#x} instead of {should:#x}");
    }
}

const CASES: usize = 3000;

#[test]
fn every_form_with_a_memory_operand_does_what_the_cpu_does() {
    let native = Native::get();
    let random = &mut Random::new(1);
    let mut seen = std::collections::BTreeMap::new();
    for &(opcode, fields) in FORMS {
        if opcode[..] == [0x0f, 0x38, 0xf0] && !std::is_x86_feature_detected!("movbe") {
            continue;
        }
        let mut done = 0;
        while done < CASES {
            let mut code = Vec::new();
            prefixes(random, &mut code, false);
            code.extend(opcode);
            let field = random.of(fields.unwrap_or(&[0, 1, 2, 3, 4, 5, 6, 7]));
            code.push((random.below(3) as u8) << 6 | field << 3 | random.below(8) as u8);
            code.extend((0..14).map(|_| random.value() as u8));
            let Some((instruction, op)) = legal(&code) else { continue };
            let mut state = state(random);
            // The stack, and what a stack pointer as an operand leaves of it.
            state.registers[4] = target(random);
            let at = target(random);
            if !aim(random, &mut code, &mut state, at) {
                continue;
            }
            if let (Op::Bit(_), OpKind::Register) = (op, instruction.op1_kind()) {
                let offset = usize::from(Part::of(instruction.op1_register()).unwrap().number);
                let address = [instruction.memory_base(), instruction.memory_index()];
                if address
                    .iter()
                    .any(|&r| Part::of(r).is_some_and(|p| usize::from(p.number) == offset))
                {
                    continue;
                }
                let far = (random.below(4000) as i64 - 2000) as u64;
                let upper = ones(Part::of(instruction.op1_register()).unwrap().width);
                state.registers[offset] = far & upper | state.registers[offset] & !upper;
            }
            if op == Op::CompareExchange && random.below(2) == 0 {
                // Equal.
                let from = (at - DATA) as usize;
                let value = u64::from_le_bytes(state.data[from..from + 8].try_into().unwrap());
                state.registers[0] = value;
                if !aim(random, &mut code, &mut state, at) {
                    continue;
                }
            }
            if op == Op::CompareExchange8 && random.below(2) == 0 {
                let pair =
                    (state.registers[2] << 32 | state.registers[0] & 0xffff_ffff).to_le_bytes();
                let from = (at - DATA) as usize;
                state.data[from..from + 8].copy_from_slice(&pair);
            }
            let by_stack = matches!(instruction.memory_base(), Register::RSP | Register::ESP);
            if matches!(op, Op::Push | Op::Pop) && !by_stack {
                state.registers[4] = target(random);
            }
            let top = state.registers[4].wrapping_sub(DATA + 16);
            if matches!(op, Op::Push | Op::Pop) && top > DATA_SIZE as u64 - 32 {
                continue;
            }
            compare(&native, &code, &state);
            *seen.entry(std::format!("{:?}", instruction.code())).or_insert(0) += 1;
            done += 1;
        }
    }
    assert!(seen.len() > 150, "{} forms", seen.len());
}

#[test]
fn moves_with_absolute_addresses_do_what_the_cpu_does() {
    let native = Native::get();
    let random = &mut Random::new(2);
    for &opcode in MOVES {
        for _ in 0..CASES {
            let mut code = Vec::new();
            prefixes(random, &mut code, false);
            code.push(opcode);
            code.extend([0; 8]);
            if legal(&code).is_none() {
                continue;
            }
            let mut state = state(random);
            let at = target(random);
            assert!(aim(random, &mut code, &mut state, at));
            compare(&native, &code, &state);
        }
    }
}

#[test]
fn string_instructions_do_what_the_cpu_does() {
    let native = Native::get();
    let random = &mut Random::new(3);
    for &opcode in STRINGS {
        for _ in 0..CASES {
            let mut code = Vec::new();
            prefixes(random, &mut code, true);
            code.push(opcode);
            if legal(&code).is_none() {
                continue;
            }
            let mut state = state(random);
            // A few iterations, with rubbish above what the address size uses.
            let narrow = code.contains(&0x67);
            let upper = if narrow { random.next() << 32 } else { 0 };
            // Whether nothing to do clears rubbish differs from CPU to CPU.
            let count = random.below(20);
            let upper = if count == 0 { 0 } else { upper };
            state.registers[1] = count | upper;
            state.registers[6] = target(random) | upper;
            let near = state.registers[6].wrapping_add(random.below(9)).wrapping_sub(4);
            let apart = target(random) | upper;
            state.registers[7] = random.of(&[apart, near]);
            // Runs of equal bytes.
            if random.below(2) == 0 {
                state.data.fill(0x5a);
                state.registers[0] = 0x5a5a_5a5a_5a5a_5a5a;
                let odd = random.below(DATA_SIZE as u64) as usize;
                state.data[odd] = 1;
                let at = (state.registers[6] & 0xffff_ffff).wrapping_sub(DATA) as usize;
                state.data[at.wrapping_add(random.below(16) as usize)] = 2;
            }
            compare(&native, &code, &state);
        }
    }
}
