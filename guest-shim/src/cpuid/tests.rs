use super::*;

const MATTERS: u32 = CPUID_SUBLEAF_MATTERS;

fn entry(leaf: u32, subleaf: u32, flags: u32, [eax, ebx, ecx, edx]: [u32; 4]) -> CpuidEntry {
    CpuidEntry { leaf, subleaf, flags, reserved: 0, eax, ebx, ecx, edx }
}

/// AVX at 576 (256 bytes), PKRU at 2688 (8 bytes), and CET_U, supervisor, 16 bytes, aligned.
fn mirror() -> [CpuidEntry; 8] {
    [
        entry(1, 0, 0, [0x306c3, 0, OSXSAVE | 1, 0]),
        entry(7, 0, MATTERS, [0, 0x20, 0, 0]),
        entry(7, 1, MATTERS, [9, 0, OSPKE, 0]),
        entry(0xd, 0, MATTERS, [7, 4096, 4096, 0]),
        entry(0xd, 1, MATTERS, [0xf, 4096, 0, 0]),
        entry(0xd, 2, MATTERS, [256, 576, 0, 0]),
        entry(0xd, 9, MATTERS, [8, 2688, 0, 0]),
        entry(0xd, 11, MATTERS, [16, 0, 1 | ALIGNED, 0]),
    ]
}

fn ask(leaf: u32, subleaf: u32, state: State) -> Option<CpuidResult> {
    let mirror = mirror();
    let find = |leaf, subleaf| find(|index| mirror.get(index).copied(), leaf, subleaf);
    compose(find(leaf, subleaf)?, state, find)
}

const RESET: State = State { cr4: 0, xcr0: 1, xss: 0 };

#[test]
fn osxsave_and_ospke_follow_cr4() {
    let with = |flag: Cr4Flags| State { cr4: flag.bits(), ..RESET };
    assert_eq!(ask(1, 0, RESET).unwrap().ecx, 1);
    assert_eq!(ask(1, 0, with(Cr4Flags::OSXSAVE)).unwrap().ecx, OSXSAVE | 1);
    assert_eq!(ask(7, 0, RESET).unwrap().ecx, 0);
    assert_eq!(ask(7, 0, with(Cr4Flags::PROTECTION_KEY_USER)).unwrap().ecx, OSPKE);
    assert_eq!(ask(7, 1, RESET).unwrap().ecx, OSPKE, "another sub-leaf means something else");
}

#[test]
fn a_leaf_without_subleaves_answers_all_of_them() {
    assert_eq!(ask(1, 77, RESET).unwrap().eax, 0x306c3);
    assert!(ask(7, 2, RESET).is_none());
    assert!(ask(2, 0, RESET).is_none());
}

#[test]
fn the_standard_size_ends_with_the_last_enabled_component() {
    let size = |xcr0| ask(0xd, 0, State { xcr0, ..RESET }).map(|answer| answer.ebx);
    assert_eq!(size(0b1), Some(576));
    assert_eq!(size(0b11), Some(576));
    assert_eq!(size(0b111), Some(832));
    assert_eq!(size(1 << 9 | 0b111), Some(2696));
    assert_eq!(size(1 << 9 | 0b11), Some(2696), "the standard format leaves the gap");
    assert_eq!(size(1 << 5 | 0b11), None, "the mirror does not know component 5");
}

#[test]
fn the_compacted_size_packs_and_aligns() {
    let size = |xcr0, xss| ask(0xd, 1, State { xcr0, xss, ..RESET }).map(|answer| answer.ebx);
    assert_eq!(size(0b11, 0), Some(576));
    assert_eq!(size(1 << 9 | 0b111, 0), Some(576 + 256 + 8));
    assert_eq!(size(1 << 9 | 0b111, 1 << 11), Some(896 + 16), "840 is rounded up to 896");
}

#[test]
fn sizes_of_components_are_not_touched() {
    assert_eq!(ask(0xd, 2, RESET).unwrap().ebx, 576);
}
