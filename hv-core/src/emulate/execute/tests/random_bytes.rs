use proptest::prelude::*;

use super::*;
use crate::emulate::decode::DecodeError;

/// Bytes that make many instructions out of few.
const LIKELY: &[u8] = &[
    0x66, 0x67, 0x2e, 0x36, 0x64, 0x65, 0xf0, 0xf2, 0xf3, 0x48, 0x41, 0x0f, 0xa4, 0xa5, 0xa7, 0xab,
    0xaf, 0x6c, 0x6f, 0x80, 0x81, 0x83, 0x87, 0x88, 0x8b, 0x8e, 0x8f, 0xb1, 0xba, 0xc1, 0xc7, 0xf7,
    0xff,
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30_000))]

    /// Whatever is executed ends within its budget, and either does something or changes nothing.
    #[test]
    fn any_bytes_in_any_mode_come_to_an_end(
        start in prop::collection::vec(prop::sample::select(LIKELY), 0..5),
        tail in prop::collection::vec(any::<u8>(), 10..15),
        mode in prop::sample::select(&[Mode::Code16, Mode::Code32, Mode::Code64][..]),
        registers in prop::array::uniform16(prop_oneof![any::<u64>(), AT..AT + 0x2000, 0u64..40]),
        flags: u64,
        rights in prop::sample::select(&[0xc093u32, 0xc091, 0xc097, 0xc09b, 0x93, 1 << 16][..]),
        limit in prop_oneof![Just(u32::MAX), 0u32..0x8000],
        protected: bool,
        privilege in 0u8..4,
        budget in 1u32..20,
    ) {
        let bytes = [start, tail].concat();
        let instruction = match decode(&bytes, mode, 0x1000) {
            Ok(instruction) => instruction,
            Err(DecodeError::NeedBytes) => {
                prop_assert!(bytes.len() < 15);
                return Ok(());
            }
            Err(DecodeError::Invalid) => return Ok(()),
        };
        let mut machine = plain(mode);
        (machine.registers, machine.flags, machine.privilege) = (registers, flags, privilege);
        (machine.protected, machine.gdt, machine.alignment) = (protected, (AT, 0x1fff), true);
        for segment in &mut machine.segments {
            (segment.rights, segment.limit) = (rights, limit);
        }
        let before = machine.all();
        let result = execute(&mut machine, &instruction, budget);
        let accesses: u32 = machine.counts.iter().sum();
        prop_assert!(accesses <= 2 * budget + 4, "{} accesses", accesses);
        let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
        match result {
            Err(Stop::Unsupported) => {
                prop_assert!(find(instruction.code()).is_none());
                prop_assert_eq!(machine.all(), before);
            }
            Err(Stop::Fault(event)) => {
                prop_assert!(matches!(event.vector, 11..=14 | 17));
                prop_assert!(repeats || machine.all() == before);
            }
            Ok(Done::Again) => prop_assert!(repeats),
            Ok(Done::Shadowed) => prop_assert_eq!(machine.loaded.len(), 1),
            Ok(Done::Complete) => {}
            Err(Stop::End | Stop::Again) => prop_assert!(false, "{result:?}"),
        }
        prop_assert_eq!((machine.flags ^ flags) & !flag::STATUS, 0);
    }
}
