use super::*;

const PRESENT: u32 = HYPERVISOR_PRESENT;

fn registers(eax: u32, signature: &[u8; 12]) -> CpuidResult {
    let word = |i: usize| u32::from_le_bytes(signature[i..i + 4].try_into().unwrap());
    CpuidResult { eax, ebx: word(0), ecx: word(4), edx: word(8) }
}

const ZERO: CpuidResult = CpuidResult { eax: 0, ebx: 0, ecx: 0, edx: 0 };

/// A machine on which `signatures` stand at their bases, each with `last` as highest leaf.
fn machine<'a>(
    signatures: &'a [(u32, &'a [u8; 12], u32)],
) -> impl Fn(u32, u32) -> CpuidResult + use<'a> {
    move |leaf, _| {
        let here = signatures.iter().find(|(base, ..)| *base == leaf);
        match (leaf, here) {
            (1, _) => CpuidResult { ecx: PRESENT, ..ZERO },
            (_, Some((base, signature, last))) => registers(base + last, signature),
            _ => ZERO,
        }
    }
}

#[test]
fn bare_metal_is_not_searched() {
    let cpuid = |leaf, _| {
        assert_eq!(leaf, 1, "an Intel CPU answers undefined leaves with its highest one");
        ZERO
    };
    assert_eq!(detect(cpuid), Found::BareMetal);
}

#[test]
fn other_hypervisors_are_recognised_and_left_alone() {
    for &(signature, expected) in SIGNATURES {
        let leaves = [(0x4000_0000, signature, 1)];
        assert_eq!(detect(machine(&leaves)), Found::Other(expected));
    }
    let strange = [(0x4000_0000, b"nobody-knows", 1)];
    assert_eq!(
        detect(machine(&strange)),
        Found::Other(Other::Unknown(*b"nobody-knows")),
        "unknown"
    );
    assert_eq!(
        std::format!("{}", Found::Other(Other::Unknown(*b"ab\0\0\0\0\0\0\0\0\0\xff"))),
        "hypervisor \"ab\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\x00\\xff\""
    );
}

#[test]
fn our_leaves_are_found_behind_anothers_and_at_the_last_base() {
    for base in [0x4000_0000, 0x4000_0100, 0x4000_ff00] {
        let signatures = [(base, pv_abi::cpuid::SIGNATURE, 5), (0x4000_0000, b"Microsoft Hv", 1)];
        let Found::Paravane(paravane) = detect(machine(&signatures)) else {
            panic!("not found at {base:#x}")
        };
        assert_eq!(paravane.base, base);
    }
    let beyond = [(0x4001_0000, pv_abi::cpuid::SIGNATURE, 5)];
    assert!(matches!(detect(machine(&beyond)), Found::Other(_)));
}

#[test]
fn a_signature_without_the_leaves_does_not_count() {
    let short = [(0x4000_0000, pv_abi::cpuid::SIGNATURE, 4)];
    assert!(matches!(detect(machine(&short)), Found::Other(Other::Unknown(_))));
}

#[test]
fn the_leaves_are_read_into_their_fields() {
    let base = 0x4000_0100;
    let cpuid = |leaf: u32, subleaf: u32| match leaf {
        1 => CpuidResult { ecx: PRESENT, ..ZERO },
        0x4000_0100 => registers(base + 5, pv_abi::cpuid::SIGNATURE),
        0x4000_0101 => CpuidResult { eax: 1, ..ZERO },
        0x4000_0102 if subleaf == 0 => CpuidResult { eax: 0x7f, ebx: 1, ecx: 2, edx: 1 << 31 },
        0x4000_0103 if subleaf == 0 => CpuidResult { eax: 0b101, ..ZERO },
        0x4000_0104 => CpuidResult { eax: 1, ebx: 2, ecx: 4096, edx: 0 },
        0x4000_0105 => CpuidResult { eax: 0xd05e_0000, ebx: 1, ecx: 1_000_000_000, edx: 0 },
        _ => ZERO,
    };
    let Found::Paravane(p) = detect(cpuid) else { panic!("not found") };
    assert_eq!((p.base, p.version, p.vcpu, p.vcpus, p.console_max), (base, 1, 1, 2, 4096));
    assert_eq!((p.tsc_hz, p.apic_hz), (0x1_d05e_0000, 1_000_000_000));
    assert_eq!(p.recommendations, Recommendations::CPUID_MIRROR | Recommendations::TIMER);
    let expected = [0, 1, 2, 3, 4, 5, 6, 32, 65, 127];
    for extension in 0..200 {
        assert_eq!(p.has(extension), expected.contains(&extension), "extension {extension}");
    }
}
