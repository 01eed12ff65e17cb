use std::vec::Vec;

use super::*;
use crate::vm::testing::{Fake, HostCpu, Setup, TSC_HZ, vcpu};

const RDPID: u32 = 1 << 22;

fn ask(v: &mut Vcpu, h: &mut Fake, leaf: u32, subleaf: u32) -> [u32; 4] {
    for (register, value) in [(Gpr::Rax, leaf), (Gpr::Rcx, subleaf)] {
        // Only the lower halves count.
        v.registers.set(register, 0xffff_ffff_0000_0000 | u64::from(value));
    }
    assert_eq!(cpuid(v, h), Outcome::Advance);
    [Gpr::Rax, Gpr::Rbx, Gpr::Rcx, Gpr::Rdx].map(|register| {
        let value = v.registers.get(register);
        assert_eq!(value >> 32, 0, "the upper halves are cleared");
        value as u32
    })
}

fn entries(v: &Vcpu) -> Vec<CpuidEntry> {
    v.info.cpuid[..v.info.cpuid_entries as usize].to_vec()
}

#[test]
fn what_is_not_virtualized_is_not_there() {
    let (mut v, mut h) = vcpu();
    let [_, _, ecx, edx] = ask(&mut v, &mut h, 1, 0);
    // DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, SDBG, PDCM, DCA, OSXSAVE.
    for bit in [2, 3, 4, 5, 6, 7, 8, 11, 15, 18, 27] {
        assert_eq!(ecx >> bit & 1, 0, "leaf 1 ECX bit {bit}");
    }
    // x2APIC, TSC deadline, XSAVE, hypervisor.
    for bit in [0, 21, 24, 26, 31] {
        assert_eq!(ecx >> bit & 1, 1, "leaf 1 ECX bit {bit}");
    }
    assert_eq!(edx >> 12 & 1, 1, "MTRR");
    // MCE, MCA, DS, ACPI, HTT, TM, PBE.
    for bit in [7, 14, 21, 22, 28, 29, 31] {
        assert_eq!(edx >> bit & 1, 0, "leaf 1 EDX bit {bit}");
    }
    let [highest, ebx, ecx, edx] = ask(&mut v, &mut h, 7, 0);
    assert_eq!((highest, edx, ebx & 2), (0, 0, 2), "TSC_ADJUST is emulated");
    for bit in [2, 4, 11, 12, 14, 15, 25] {
        assert_eq!(ebx >> bit & 1, 0, "leaf 7 EBX bit {bit}");
    }
    // OSPKE, WAITPKG, CET, TME, LA57, key locker, bus locks, ENQCMD, SGX, PKS.
    for bit in [4, 5, 7, 13, 16, 23, 24, 29, 30, 31] {
        assert_eq!(ecx >> bit & 1, 0, "leaf 7 ECX bit {bit}");
    }
    assert_eq!(ask(&mut v, &mut h, 7, 1), [0; 4]);
    assert_eq!(ask(&mut v, &mut h, 0x8000_0001, 0)[2] & 1 << 2, 0, "SVM");
    for leaf in [3, 5, 8, 9, 0xa, 0xc, 0xe, 0x14] {
        assert_eq!(ask(&mut v, &mut h, leaf, 0), [0; 4], "leaf {leaf:#x}");
    }
}

#[test]
fn features_that_the_vm_does_without_are_not_shown() {
    let mut v = Setup { features: Features::empty(), ..Setup::default() }.vcpu();
    let (mut full, mut h) = vcpu();
    for (leaf, subleaf, register, bit) in
        [(7, 0, 1, 1 << 10), (7, 0, 2, RDPID), (0xd, 1, 0, 1 << 3), (0x8000_0001, 0, 3, 1 << 27)]
    {
        assert_eq!(ask(&mut full, &mut h, leaf, subleaf)[register] & bit, bit, "{leaf:#x}");
        assert_eq!(ask(&mut v, &mut h, leaf, subleaf)[register] & bit, 0, "{leaf:#x}");
    }
}

#[test]
fn a_vm_without_the_abi_sees_no_hypervisor() {
    let mut v = Setup { options: Options::empty(), ..Setup::default() }.vcpu();
    let mut h = Fake::new();
    assert_eq!(ask(&mut v, &mut h, 1, 0)[2] >> 31, 0, "the host's own is not passed on");
    assert_ne!(ask(&mut v, &mut h, 0x4000_0000, 0)[1], 0x6172_6150);
    assert!(entries(&v).iter().all(|e| e.leaf >> 28 != 4));
}

#[test]
fn composed_bits_follow_the_vcpu() {
    let (mut v, mut h) = vcpu();
    h.set(Kept::Cr4, 1 << 18 | 1 << 22);
    assert_eq!(ask(&mut v, &mut h, 1, 0)[2] >> 27 & 1, 1, "OSXSAVE");
    assert_eq!(ask(&mut v, &mut h, 7, 0)[2] >> 4 & 1, 1, "OSPKE");
    for (xcr0, standard, compacted) in [
        (1, 576, 576),
        (3, 576, 576),
        (7, 832, 832),
        // 832, then the opmasks unaligned, the others to multiples of 64.
        (0xe7, 2688, 2432),
        (0x203, 2696, 584),
        (0x2e7, 2696, 2440),
    ] {
        v.xcr0 = xcr0;
        assert_eq!(ask(&mut v, &mut h, 0xd, 0)[1], standard, "{xcr0:#x}");
        assert_eq!(ask(&mut v, &mut h, 0xd, 1)[1], compacted, "{xcr0:#x}");
    }
    assert_eq!(ask(&mut v, &mut h, 1, 0)[3] >> 9 & 1, 1);
    let base = v.apic.base();
    let _ = v.apic.write_base(base & !(1 << 11));
    assert_eq!(ask(&mut v, &mut h, 1, 0)[3] >> 9 & 1, 0, "a disabled APIC is not there");
}

#[test]
fn state_that_xcr0_refuses_is_not_offered() {
    let (mut v, mut h) = vcpu();
    let [low, _, _, high] = ask(&mut v, &mut h, 0xd, 0);
    let may = v.xcr0_may;
    assert_eq!(u64::from(high) << 32 | u64::from(low), may);
    for component in (2..63).filter(|&i| may >> i & 1 == 0) {
        assert_eq!(ask(&mut v, &mut h, 0xd, component), [0; 4], "{component}");
    }
}

#[test]
fn supervisor_state_is_not_offered() {
    let (mut v, mut h) = vcpu();
    let [_, _, ecx, edx] = ask(&mut v, &mut h, 0xd, 1);
    assert_eq!((ecx, edx), (0, 0), "XSS has no bits");
    assert_eq!(ask(&mut v, &mut h, 0xd, 11), [0; 4]);
    assert_eq!(ask(&mut v, &mut h, 0xd, 2), [256, 576, 0, 0]);
}

#[test]
fn leaves_beyond_the_end_answer_as_the_highest_basic_one() {
    for (max_basic, intel) in [(0x10, false), (0x16, false), (0x20, false), (0xd, true)] {
        let host = HostCpu { max_basic, max_extended: 0x8000_0008, intel };
        let mut v = Setup { host, ..Setup::default() }.vcpu();
        let mut h = Fake::new();
        let [highest, ..] = ask(&mut v, &mut h, 0, 0);
        assert_eq!(highest, if intel { 0x16 } else { max_basic.min(0x16) });
        let expected = ask(&mut v, &mut h, highest, 0);
        let extended = ask(&mut v, &mut h, 0x8000_0000, 0)[0];
        assert_eq!(extended, 0x8000_0008);
        for leaf in [
            highest + 1,
            0x17,
            0x1f,
            0x20,
            0x21,
            0x1000,
            0x3fff_ffff,
            0x5000_0000,
            extended + 1,
            0x8000_000f,
            0x8000_0010,
            0x9000_0000,
            u32::MAX,
        ] {
            assert_eq!(ask(&mut v, &mut h, leaf, 0), expected, "{leaf:#x}");
        }
    }
    // The highest may be one that is composed.
    let host = HostCpu { max_basic: 0xd, max_extended: 0x8000_0008, intel: false };
    let mut v = Setup { host, ..Setup::default() }.vcpu();
    let mut h = Fake::new();
    v.xcr0 = 7;
    for subleaf in 0..3 {
        let expected = ask(&mut v, &mut h, 0xd, subleaf);
        assert_eq!(ask(&mut v, &mut h, 0x1000, subleaf), expected);
    }
}

#[test]
fn the_hypervisor_is_found_as_the_specification_says() {
    let (mut v, mut h) = vcpu();
    let [highest, ebx, ecx, edx] = ask(&mut v, &mut h, 0x4000_0000, 0);
    assert_eq!(highest, 0x4000_0005);
    let signature: Vec<u8> = [ebx, ecx, edx].into_iter().flat_map(u32::to_le_bytes).collect();
    assert_eq!(signature, b"Paravane\0\0\0\0");
    assert_eq!(ask(&mut v, &mut h, 0x4000_0001, 0), [pv_abi::VERSION, 0, 0, 0]);
    assert_eq!(ask(&mut v, &mut h, 0x4000_0002, 0), [0x3ff, 0, 0, 0], "all ten extensions");
    assert_eq!(ask(&mut v, &mut h, 0x4000_0004, 0), [0, 1, 4096, 0]);
    assert_eq!(ask(&mut v, &mut h, 0x4000_0005, 0), [TSC_HZ as u32, 0, 25_000_000, 0]);
    for leaf in [0x4000_0006, 0x4000_000f, 0x4000_0100, 0x4000_ff00] {
        assert_eq!(ask(&mut v, &mut h, leaf, 0), [0; 4], "{leaf:#x}");
    }
    let name = ask(&mut v, &mut h, 0, 0);
    assert_eq!(name[1..], [0x756e_6547, 0x6c65_746e, 0x4965_6e69], "the vendor stays");
}

/// Sub-leaves beyond the last one that has a bit read as 0.
#[test]
fn bitmaps_end() {
    let (mut v, mut h) = vcpu();
    for leaf in [0x4000_0002, 0x4000_0003] {
        assert_eq!(ask(&mut v, &mut h, leaf, 1), [0; 4], "{leaf:#x}");
    }
}

#[test]
fn only_what_pays_is_recommended() {
    let mut h = Fake::new();
    let mut recommended = |policy, features| {
        let mut v = Setup { policy, features, ..Setup::default() }.vcpu();
        ask(&mut v, &mut h, 0x4000_0003, 0)
    };
    for policy in [Policy::TrapAll, Policy::HwAssist] {
        assert_eq!(recommended(policy, Features::all()), [0; 4]);
    }
    let eoi = Recommendations::EOI.bits();
    let with = recommended(Policy::Pv, Features::all() - Features::VIRTUAL_INTERRUPTS);
    assert_eq!((with[0] & eoi, with[1..].iter().sum::<u32>()), (eoi, 0));
    assert_eq!(recommended(Policy::Pv, Features::all())[0], with[0] & !eoi);
    assert_eq!(with[0] & Recommendations::TSC_EXITS.bits(), 0);
}

#[test]
fn the_mirror_answers_as_the_exit_does() {
    for max_basic in [0xd, 0x16] {
        let host = HostCpu { max_basic, max_extended: 0x8000_0008, intel: max_basic == 0x16 };
        let mut v = Setup { host, ..Setup::default() }.vcpu();
        let mut h = Fake::new();
        let all = entries(&v);
        assert!(all.len() > 20 && all.len() <= CPUID_ENTRIES);
        for entry in &all {
            let subleaves = if entry.flags == 0 { 0..3 } else { entry.subleaf..entry.subleaf + 1 };
            for subleaf in subleaves {
                let mut answer = ask(&mut v, &mut h, entry.leaf, subleaf);
                if entry.leaf == 0xd && entry.subleaf < 2 {
                    // The guest composes it.
                    answer[1] = entry.ebx;
                }
                let mirrored = [entry.eax, entry.ebx, entry.ecx, entry.edx];
                assert_eq!(mirrored, answer, "{:#x}.{subleaf:#x}", entry.leaf);
            }
            let same = all.iter().filter(|e| {
                e.leaf == entry.leaf
                    && (e.flags == 0 || entry.flags == 0 || e.subleaf == entry.subleaf)
            });
            assert_eq!(same.count(), 1, "two entries answer {:#x}", entry.leaf);
            assert_eq!(entry.reserved, 0);
        }
    }
}

#[test]
fn the_quick_way_answers_as_the_long_one() {
    let (mut v, mut h) = vcpu();
    let mut quick = 0;
    for leaf in (0..0x30).chain(0x4000_0000..0x4000_0010).chain(0x8000_0000..0x8000_0010) {
        for subleaf in [0, 1, 7] {
            let expected = ask(&mut v, &mut h, leaf, subleaf);
            v.registers.set(Gpr::Rax, leaf.into());
            v.registers.set(Gpr::Rcx, subleaf.into());
            let before = v.registers;
            if simple(&mut v) {
                quick += 1;
                let answer =
                    [Gpr::Rax, Gpr::Rbx, Gpr::Rcx, Gpr::Rdx].map(|r| v.registers.get(r) as u32);
                assert_eq!(answer, expected, "{leaf:#x}.{subleaf}");
            } else {
                assert_eq!(v.registers, before);
            }
        }
    }
    assert!(quick > 0);
}

/// Linux takes the frequency from leaf 15h if the vendor is Intel, and cannot calibrate where there is
/// no other timer.
#[test]
fn a_cpu_of_intel_has_the_frequency_whatever_its_age() {
    let host = HostCpu { max_basic: 0xd, max_extended: 0x8000_0008, intel: true };
    let mut v = Setup { host, ..Setup::default() }.vcpu();
    let mut h = Fake::new();
    let [denominator, numerator, crystal, _] = ask(&mut v, &mut h, 0x15, 0).map(u64::from);
    assert_eq!(crystal * numerator / denominator, TSC_HZ);
    assert_eq!(ask(&mut v, &mut h, 0x14, 0), [0; 4], "what such a CPU lacks stays away");
}

#[test]
fn topology_and_frequency_are_those_of_the_vm() {
    let (mut v, mut h) = vcpu();
    let [_, ebx, _, _] = ask(&mut v, &mut h, 1, 0);
    assert_eq!((ebx >> 24, ebx >> 16 & 0xff), (0, 1));
    assert_eq!(ask(&mut v, &mut h, 0xb, 0), [0, 1, 0x100, 0]);
    assert_eq!(ask(&mut v, &mut h, 0xb, 1), [0, 1, 0x201, 0]);
    let [denominator, numerator, crystal, _] = ask(&mut v, &mut h, 0x15, 0).map(u64::from);
    assert_eq!(crystal * numerator / denominator, TSC_HZ);
    assert_eq!(ask(&mut v, &mut h, 0x16, 0)[0], 1000);
    assert_eq!(ask(&mut v, &mut h, 6, 0), [4, 0, 0, 0], "ARAT");
    assert_eq!(ask(&mut v, &mut h, 4, 0)[0] >> 14, 0, "nothing is shared");
    assert_eq!(ask(&mut v, &mut h, 4, 3), [0; 4]);
}
