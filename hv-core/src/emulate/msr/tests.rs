use super::table::{On, Treatment};
use super::*;
use crate::vm::testing::{CR0_LONG, EFER_LONG, Fake, STARTED, Setup, vcpu, with_timer};
use crate::vm::vcpu::EVENTS;

fn write(v: &mut Vcpu, h: &mut Fake, msr: u32, value: u64) -> Outcome {
    // Only ECX, EDX and EAX count.
    v.registers.set(Gpr::Rcx, 0xffff_ffff_0000_0000 | u64::from(msr));
    v.registers.set(Gpr::Rax, 0xeeee_eeee_0000_0000 | value & 0xffff_ffff);
    v.registers.set(Gpr::Rdx, 0xdddd_dddd_0000_0000 | value >> 32);
    wrmsr(v, h)
}

#[track_caller]
fn accepted(v: &mut Vcpu, h: &mut Fake, msr: u32, value: u64) {
    assert_eq!(write(v, h, msr, value), Outcome::Advance, "{msr:#x} = {value:#x}");
}

/// A write that must raise #GP(0) and change nothing.
#[track_caller]
fn refused(v: &mut Vcpu, h: &mut Fake, msr: u32, value: u64) {
    let state = |v: &Vcpu, h: &Fake| {
        (h.kept, h.live.clone(), v.tsc_offset, v.msrs.misc_enable, v.msrs.tsc_adjust, v.apic.base())
    };
    let before = state(v, h);
    assert_eq!(write(v, h, msr, value), Outcome::PROTECTION, "{msr:#x} = {value:#x}");
    assert!(before == state(v, h), "{msr:#x} = {value:#x}");
}

fn read(v: &mut Vcpu, h: &mut Fake, msr: u32) -> Option<u64> {
    v.registers.set(Gpr::Rcx, msr.into());
    v.registers.set(Gpr::Rax, u64::MAX);
    v.registers.set(Gpr::Rdx, u64::MAX);
    match rdmsr(v, h) {
        Outcome::Advance => {
            let (rax, rdx) = (v.registers.get(Gpr::Rax), v.registers.get(Gpr::Rdx));
            assert_eq!((rax >> 32, rdx >> 32), (0, 0), "the upper halves are cleared");
            Some(rdx << 32 | rax)
        }
        outcome => {
            assert_eq!(outcome, Outcome::PROTECTION);
            assert_eq!(v.registers.get(Gpr::Rax), u64::MAX, "a fault changes nothing");
            None
        }
    }
}

#[test]
fn msrs_that_are_not_there_fault() {
    let (mut v, mut h) = vcpu();
    // Feature control, performance counters, machine check, VMX, SVM, x2APIC's end, holes.
    for msr in [
        0,
        0x3a,
        0xc1,
        0x179,
        0x210,
        0x400,
        0x480,
        0x491,
        0x9ff,
        0x4000_0000,
        0xc000_0105,
        0xc001_0114,
        0xc001_0117,
        u32::MAX,
    ] {
        assert_eq!(read(&mut v, &mut h, msr), None, "{msr:#x}");
        refused(&mut v, &mut h, msr, 0);
    }
}

#[test]
fn what_is_written_is_read_back() {
    let (mut v, mut h) = vcpu();
    let address = 0xffff_8000_1234_5678;
    for msr in [SYSENTER_ESP, SYSENTER_EIP, FS_BASE, GS_BASE, 0xc000_0082, 0xc000_0083, 0xc000_0102]
    {
        accepted(&mut v, &mut h, msr, address);
        assert_eq!(read(&mut v, &mut h, msr), Some(address), "{msr:#x}");
        for bad in [0x0000_8000_0000_0000, 0xffff_7fff_ffff_ffff, 1 << 63, 1 << 48] {
            refused(&mut v, &mut h, msr, bad);
        }
        accepted(&mut v, &mut h, msr, 0x7fff_ffff_ffff);
    }
    accepted(&mut v, &mut h, 0xc000_0081, u64::MAX);
    assert_eq!(read(&mut v, &mut h, 0xc000_0081), Some(u64::MAX), "STAR takes anything");
    for msr in [0xc000_0084, 0xc000_0103] {
        accepted(&mut v, &mut h, msr, 0xffff_ffff);
        assert_eq!(read(&mut v, &mut h, msr), Some(0xffff_ffff));
        refused(&mut v, &mut h, msr, 1 << 32);
    }
    let mut without = Setup { features: Features::empty(), ..Setup::default() }.vcpu();
    assert_eq!(read(&mut without, &mut h, 0xc000_0103), None, "TSC_AUX comes with RDTSCP");
    refused(&mut without, &mut h, 0xc000_0103, 0);
}

#[test]
fn efer_follows_its_rules() {
    let (mut v, mut h) = vcpu();
    assert_eq!(read(&mut v, &mut h, EFER), Some(EFER_LONG));
    refused(&mut v, &mut h, EFER, 0);
    for bit in [1, 2, 7, 9, 12, 13, 14, 15, 32, 63] {
        refused(&mut v, &mut h, EFER, EFER_LONG | 1 << bit);
    }
    accepted(&mut v, &mut h, EFER, 1 << 8 | EFER_NXE | EFER_SCE);
    assert_eq!(h.get(Kept::Efer), EFER_LONG | EFER_NXE | EFER_SCE, "LMA stays");
    v.no_execute = false;
    refused(&mut v, &mut h, EFER, EFER_LONG | EFER_NXE);
    accepted(&mut v, &mut h, EFER, EFER_LONG);
    h.set(Kept::Cr0, CR0_LONG & !CR0_PG);
    h.set(Kept::Efer, 0);
    accepted(&mut v, &mut h, EFER, EFER_LONG);
    assert_eq!(h.get(Kept::Efer), 1 << 8, "LMA does not come by itself");
    accepted(&mut v, &mut h, EFER, 0);
    h.set(Kept::Cr0, CR0_LONG);
    refused(&mut v, &mut h, EFER, 1 << 8);
}

#[test]
fn every_entry_of_pat_has_a_type() {
    let (mut v, mut h) = vcpu();
    accepted(&mut v, &mut h, PAT, 0x0007_0406_0105_0706);
    assert_eq!(read(&mut v, &mut h, PAT), Some(0x0007_0406_0105_0706));
    for entry in 0..8 {
        for kind in [2u64, 3, 8, 0x10, 0x86] {
            refused(&mut v, &mut h, PAT, kind << (8 * entry));
        }
    }
}

#[test]
fn the_rest_has_few_bits() {
    let (mut v, mut h) = vcpu();
    accepted(&mut v, &mut h, DEBUGCTL, 3);
    refused(&mut v, &mut h, DEBUGCTL, 1 << 6);
    let enable = read(&mut v, &mut h, MISC_ENABLE).unwrap();
    accepted(&mut v, &mut h, MISC_ENABLE, enable ^ 1);
    assert_eq!(read(&mut v, &mut h, MISC_ENABLE), Some(enable ^ 1));
    refused(&mut v, &mut h, MISC_ENABLE, enable ^ 1 << 22);
    accepted(&mut v, &mut h, XSS, 0);
    refused(&mut v, &mut h, XSS, 1 << 11);
    let mut without = Setup { features: Features::empty(), ..Setup::default() }.vcpu();
    assert_eq!(read(&mut without, &mut h, XSS), None);
    accepted(&mut v, &mut h, SYSENTER_CS, 1 << 32 | 0x10);
    assert_eq!(read(&mut v, &mut h, SYSENTER_CS), Some(0x10));
}

#[test]
fn tsc_and_its_adjustment_move_together() {
    let (mut v, mut h) = vcpu();
    h.pass(1000);
    assert_eq!(read(&mut v, &mut h, TSC), Some(1000), "the guest's TSC starts at 0");
    accepted(&mut v, &mut h, TSC, 5000);
    assert_eq!(read(&mut v, &mut h, TSC), Some(5000));
    assert_eq!(read(&mut v, &mut h, TSC_ADJUST), Some(4000));
    accepted(&mut v, &mut h, TSC_ADJUST, 100u64.wrapping_neg());
    assert_eq!(read(&mut v, &mut h, TSC), Some(900));
    assert_eq!(read(&mut v, &mut h, TSC_ADJUST), Some(100u64.wrapping_neg()));
    assert_eq!(h.tsc_offset, Some(v.tsc_offset), "the CPU knows");
    assert_eq!(v.tsc_offset, 0u64.wrapping_sub(STARTED).wrapping_sub(100));
}

#[test]
fn the_clock_goes_on_where_it_was_when_the_tsc_is_set() {
    let (mut v, mut h) = vcpu();
    h.pass(5_000_000);
    v.tell_clock(&h);
    let read = |v: &Vcpu, h: &Fake| {
        let clock = &v.info.clock;
        let ticks = v.now(h).checked_sub(clock.tsc_base).expect("no time is before the base");
        clock.ns_base + ((u128::from(ticks) * u128::from(clock.multiplier)) >> clock.shift) as u64
    };
    let first = read(&v, &h);
    assert_ne!(first, 0);
    for (msr, value) in [(TSC, 0), (TSC, 1 << 50), (TSC_ADJUST, 1000), (TSC, 7)] {
        let before = v.info.clock.sequence;
        accepted(&mut v, &mut h, msr, value);
        assert_eq!(read(&v, &h), first, "{msr:#x} = {value:#x}");
        assert_eq!(v.info.clock.sequence, before + 2, "its readers read again");
    }
}

#[test]
fn a_moved_tsc_moves_the_timer() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    accepted(&mut v, &mut h, apic::MSR_TSC_DEADLINE, 10_000);
    assert_eq!(read(&mut v, &mut h, apic::MSR_TSC_DEADLINE), Some(10_000));
    assert_eq!(v.timer_due(STARTED), Some(STARTED + 10_000));
    accepted(&mut v, &mut h, TSC, 4_000);
    assert_eq!((v.timer_due(STARTED), v.due), (Some(STARTED + 6_000), 0));
}

#[test]
fn apic_registers_are_msrs_in_x2apic_mode_only() {
    let (mut v, mut h) = vcpu();
    assert_eq!(read(&mut v, &mut h, 0x802), None);
    refused(&mut v, &mut h, 0x808, 0);
    let base = read(&mut v, &mut h, apic::MSR_APIC_BASE).unwrap();
    assert_eq!(base, 0xfee0_0900);
    for bad in [base | 1, base | 1 << 9, base | 1 << 40, base & !(1 << 11) | 1 << 10] {
        refused(&mut v, &mut h, apic::MSR_APIC_BASE, bad);
    }
    accepted(&mut v, &mut h, apic::MSR_APIC_BASE, base | 1 << 10);
    assert_eq!((h.apic_mode, v.due), (Some(true), 0));
    refused(&mut v, &mut h, apic::MSR_APIC_BASE, base);
    accepted(&mut v, &mut h, 0x808, 0x20);
    assert_eq!(read(&mut v, &mut h, 0x808), Some(0x20));
    for bad in [0x802, 0x80a, 0x80e, 0x8ff] {
        refused(&mut v, &mut h, bad, 0);
    }
    assert_eq!(read(&mut v, &mut h, 0x80b), None, "EOI can only be written");
    accepted(&mut v, &mut h, apic::MSR_APIC_BASE, base & !(1 << 11));
    assert_eq!(h.apic_mode, Some(false));
    refused(&mut v, &mut h, apic::MSR_APIC_BASE, base | 1 << 10);
    accepted(&mut v, &mut h, apic::MSR_APIC_BASE, base);
}

#[test]
fn a_self_ipi_waits_and_is_looked_at() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    let base = v.apic.base();
    accepted(&mut v, &mut h, apic::MSR_APIC_BASE, base | 1 << 10);
    v.due = 1000;
    accepted(&mut v, &mut h, 0x83f, 0x77);
    assert_eq!((v.apic.deliverable(), v.due), (Some(0x77), EVENTS));
    v.due = 1000;
    // The ICR: an NMI to itself, by its physical ID.
    accepted(&mut v, &mut h, 0x830, 4 << 8);
    assert_eq!((v.nmi, v.due), (true, 0));
    // To another one, who is not there.
    v.nmi = false;
    accepted(&mut v, &mut h, 0x830, 1 << 32 | 4 << 8);
    assert!(!v.nmi);
}

#[test]
fn msrs_that_pass_without_an_exit_need_no_check_here() {
    let (mut v, mut h) = vcpu();
    let written = table::PASS.iter().chain(table::PASS_SWITCHED);
    for &msr in written.clone().chain(table::PASS_READ).chain(table::PASS_READ_OWN) {
        assert!(read(&mut v, &mut h, msr).is_some(), "{msr:#x}");
    }
    for &msr in written {
        accepted(&mut v, &mut h, msr, 0);
    }
}

/// The rows of the table, and nothing else, are there.
#[test]
fn each_row_of_the_table_is_what_it_says() {
    for amd in [false, true] {
        let (mut v, mut h) = vcpu();
        v.msrs = MsrState::start(CpuFacts::new(amd, 5));
        let base = v.apic.base();
        accepted(&mut v, &mut h, apic::MSR_APIC_BASE, base | 1 << 10);
        let row = |msr| {
            let mut rows = table::ROWS.iter();
            rows.find(|row| (row.first..=row.last).contains(&msr) && (amd || row.on == On::All))
        };
        for msr in (0..0x2000).chain(0xc000_0000..0xc000_2000).chain(0xc001_0000..0xc001_2000) {
            let (row, value) = (row(msr), read(&mut v, &mut h, msr));
            match row.map(|row| row.treatment) {
                None => {
                    assert_eq!(value, None, "{msr:#x}");
                    refused(&mut v, &mut h, msr, 0);
                }
                Some(Treatment::Ignore(constant)) => {
                    accepted(&mut v, &mut h, msr, !constant);
                    assert_eq!(read(&mut v, &mut h, msr), Some(constant), "{msr:#x}");
                }
                Some(Treatment::Constant(constant)) => {
                    assert_eq!(value, Some(constant), "{msr:#x}");
                    refused(&mut v, &mut h, msr, constant);
                }
                // Not every register of the x2APIC can be read.
                Some(_) => assert!(value.is_some() || apic::MSR_X2APIC.contains(&msr), "{msr:#x}"),
            }
        }
        let order = table::ROWS.windows(2).all(|pair| pair[0].last < pair[1].first);
        assert!(order, "the table is in the order of the numbers");
        assert!(table::ROWS.iter().all(|row| row.first <= row.last && !row.why.is_empty()));
    }
}

/// Linux does without the TSC deadline where the microcode is too old.
#[test]
fn an_emulated_cpu_has_the_newest_microcode_and_a_real_one_its_own() {
    for (amd, revision) in [(false, 0x7fff_ffff << 32), (true, 0x7fff_ffff)] {
        assert_eq!(CpuFacts::new(amd, 0).microcode, revision);
    }
    let (mut v, mut h) = vcpu();
    v.msrs.cpu = CpuFacts::new(false, 0x22 << 32);
    accepted(&mut v, &mut h, MICROCODE, 0);
    assert_eq!(read(&mut v, &mut h, MICROCODE), Some(0x22 << 32));
}

#[test]
fn memory_types_are_kept_for_the_guest() {
    let (mut v, mut h) = vcpu();
    assert_eq!(read(&mut v, &mut h, 0x2ff), Some(0xc06), "write-back where nothing else is said");
    accepted(&mut v, &mut h, 0x200, 0xf000_0001);
    accepted(&mut v, &mut h, 0x201, 0xff_f800_0800);
    assert_eq!(read(&mut v, &mut h, 0x201), Some(0xff_f800_0800));
    refused(&mut v, &mut h, 0x201, 1 << 40);
    refused(&mut v, &mut h, 0xfe, 0x508);
    v.reset(STARTED);
    assert_eq!(read(&mut v, &mut h, 0x201), Some(0), "a reset forgets them");
}

/// Linux writes AMD's counters, reads them back, and uses RDPMC, without asking CPUID.
#[test]
fn counters_of_amd_are_kept_and_never_count() {
    let (mut v, mut h) = vcpu();
    let read_counter = |v: &mut Vcpu, h: &mut Fake, counter: u64| {
        v.registers.set(Gpr::Rcx, counter);
        (rdpmc(v, h) == Outcome::Advance).then(|| v.registers.edx_eax())
    };
    refused(&mut v, &mut h, 0xc001_0004, 5);
    assert_eq!(read_counter(&mut v, &mut h, 0), None, "Intel's are not there");
    v.msrs = MsrState::start(CpuFacts::new(true, 0));
    accepted(&mut v, &mut h, 0xc001_0007, 0xabcd);
    assert_eq!(read(&mut v, &mut h, 0xc001_0007), Some(0xabcd));
    assert_eq!(read_counter(&mut v, &mut h, 3), Some(0xabcd));
    for counter in [4, 0x4000_0000, 0xffff_fffc] {
        assert_eq!(read_counter(&mut v, &mut h, counter), None, "{counter:#x}");
    }
    h.cpl = 3;
    assert_eq!(read_counter(&mut v, &mut h, 3), None);
    h.set(Kept::Cr4, 1 << 8);
    assert_eq!(read_counter(&mut v, &mut h, 3), Some(0xabcd));
}
