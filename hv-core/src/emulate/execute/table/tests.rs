use super::*;
use iced_x86::Instruction;

fn executed() -> impl Iterator<Item = (Code, Op, u8)> {
    Code::values().filter_map(|code| find(code).map(|(op, size)| (code, op, size)))
}

#[test]
fn ranges_are_in_order_and_apart() {
    for pair in TABLE.windows(2) {
        assert!(pair[0].first + u16::from(pair[0].count) <= pair[1].first, "{:?}", pair[1].op);
    }
}

#[test]
fn sizes_are_those_of_the_decoder() {
    for (code, op, size) in executed() {
        let mut instruction = Instruction::default();
        instruction.set_code(code);
        let memory = instruction.memory_size().size();
        // Without an operand in memory there is nothing to compare with.
        assert!(memory == 0 || memory == usize::from(size), "{code:?}: {op:?} {size}");
    }
}

/// The decoder's name of an instruction begins with that of its operation.
#[test]
fn operations_are_those_of_the_decoders_names() {
    for (code, op, _) in executed() {
        let name = std::format!("{code:?}").to_lowercase();
        let op_name = std::format!("{op:?}").to_lowercase();
        let inner = op_name.trim_end_matches(')').rsplit('(').next().unwrap();
        let expected: &[&str] = match op {
            Move => &["mov_", "movnti_"],
            ZeroExtend => &["movzx_"],
            SignExtend => &["movsx_", "movsxd_"],
            SwapBytes => &["movbe_"],
            Bit(Bit::Test) => &["bt_"],
            Bit(Bit::Set) => &["bts_"],
            Bit(Bit::Reset) => &["btr_"],
            Bit(Bit::Complement) => &["btc_"],
            Exchange => &["xchg_"],
            ExchangeAdd => &["xadd_"],
            CompareExchange => &["cmpxchg_"],
            CompareExchange8 => &["cmpxchg8b_"],
            StoreSegment | LoadSegment => &["mov_"],
            Alu(_) | Unary(_) | Push | Pop | String(_) => &[inner],
            AluGroup => panic!("{code:?}"),
        };
        assert!(expected.iter().any(|e| name.starts_with(e)), "{name} is {op_name}");
        assert_eq!(name.contains("sreg"), matches!(op, StoreSegment | LoadSegment), "{name}");
    }
}

#[test]
fn every_form_of_these_instructions_is_executed() {
    let missing: std::vec::Vec<_> = Code::values()
        .filter(|&code| find(code).is_none())
        .map(|code| std::format!("{code:?}"))
        .filter(|name| {
            let (mnemonic, operands) = name.split_once('_').unwrap_or((name, ""));
            let mnemonics = [
                "Mov",
                "Movzx",
                "Movsx",
                "Movsxd",
                "Movbe",
                "Movnti",
                "Add",
                "Or",
                "Adc",
                "Sbb",
                "And",
                "Sub",
                "Xor",
                "Cmp",
                "Test",
                "Inc",
                "Dec",
                "Neg",
                "Not",
                "Bt",
                "Bts",
                "Btr",
                "Btc",
                "Xchg",
                "Cmpxchg",
                "Cmpxchg8b",
                "Xadd",
                "Push",
                "Pop",
                "Movsb",
                "Movsw",
                "Movsd",
                "Movsq",
                "Cmpsb",
                "Cmpsw",
                "Cmpsd",
                "Cmpsq",
                "Stosb",
                "Stosw",
                "Stosd",
                "Stosq",
                "Lodsb",
                "Lodsw",
                "Lodsd",
                "Lodsq",
                "Scasb",
                "Scasw",
                "Scasd",
                "Scasq",
                "Insb",
                "Insw",
                "Insd",
                "Outsb",
                "Outsw",
                "Outsd",
            ];
            let memory = operands.split('_').any(|operand| {
                operand.starts_with("rm") || operand.contains('m') && !operand.contains("imm")
            });
            mnemonics.contains(&mnemonic) && memory && !operands.contains("xmm")
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}
