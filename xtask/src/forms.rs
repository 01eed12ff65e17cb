//! The forms that the hostile guest tries: each is what its table says, and none is left out.

use std::collections::BTreeSet;

use hv_core::emulate::decode::decode;
use hv_core::emulate::execute;
use hv_core::vm::hardware::Mode;
use iced_x86::{Code, OpKind};

// What only the guest needs of them is not used here.
#[allow(dead_code)]
#[path = "../../guests/hostile/src/forms/encode.rs"]
mod encode;
#[allow(dead_code)]
#[path = "../../guests/hostile/src/random.rs"]
mod random;
#[allow(dead_code)]
#[path = "../../guests/hostile/src/forms/table.rs"]
mod table;

use encode::{Setting, make};
use random::Random;
use table::{FORMS, Operands, SWAPS};

const MODES: [(u8, Mode); 3] = [(16, Mode::Code16), (32, Mode::Code32), (64, Mode::Code64)];

#[test]
fn every_instruction_that_is_emulated_is_tried_where_it_is_to_be() {
    let mut tried = BTreeSet::new();
    for (form, round) in FORMS
        .iter()
        .copied()
        .flatten()
        .chain(SWAPS)
        .flat_map(|form| (0..3000).map(move |round| (form, round)))
    {
        let mut random = Random::new(7, round);
        let (bits, mode) = MODES[round as usize % 3];
        let registers = [(); 16].map(|()| random.next());
        let setting = Setting {
            bits,
            ip: 0x100,
            target: 0x1234,
            other: 0x1678,
            any_stack: round % 2 == 0,
            low: true,
        };
        let Some(made) = make(form, &setting, registers, &mut random) else { continue };
        let bytes = made.bytes();
        let instruction =
            decode(bytes, mode, setting.ip).unwrap_or_else(|e| panic!("{bytes:x?} {e:?}"));
        assert_eq!(instruction.len(), bytes.len(), "{bytes:x?}");
        let code = instruction.code();
        let (_, size) = execute::find(code).unwrap_or_else(|| panic!("{bytes:x?} is {code:?}"));
        assert_eq!(size, made.size, "{bytes:x?} is {code:?}");
        tried.insert(code as u16);
        let in_memory = instruction.op_kinds().any(|kind| kind == OpKind::Memory);
        assert_eq!(
            in_memory,
            !matches!(form.operands, Operands::String(..) | Operands::Stack),
            "{bytes:x?}"
        );
        if in_memory {
            // An offset in bits is beyond the operand by so many of them.
            let beyond = (form.special == table::Special::BitOffset).then(|| {
                let part = hv_core::emulate::decode::Part::of(instruction.op1_register()).unwrap();
                let count = part.get(made.registers[usize::from(part.number)]);
                let count = hv_core::emulate::decode::signed(count, size) as i64;
                count.div_euclid(i64::from(size) * 8) * i64::from(size)
            });
            let mut value = |number: u8| made.registers[usize::from(number)];
            let at = execute::offset(&instruction, beyond.unwrap_or(0) as u64, &mut value);
            assert_eq!(at, setting.target, "{bytes:x?}");
        }
    }
    // Those of the accumulator and an immediate stand among the others, and reach no memory.
    let in_registers = |code: Code| {
        let name = format!("{code:?}");
        ["_AL_imm", "_AX_imm", "_EAX_imm", "_RAX_imm"].iter().any(|end| name.contains(end))
    };
    let missing: Vec<Code> = Code::values()
        .filter(|&code| execute::find(code).is_some() && !in_registers(code))
        .filter(|&code| !tried.contains(&(code as u16)))
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
