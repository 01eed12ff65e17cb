//! What becomes of a guest's access to each MSR. One that no row names does not exist: #GP.

/// How accesses are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// Reads and writes reach the CPU, where the policy lets MSRs pass: it switches the MSR with the
    /// vCPU, and only the guest sees the value.
    Pass,
    /// As [`Treatment::Pass`] where the CPU switches the MSR itself: AMD-V. On VT-x as [`Treatment::PassRead`], so
    /// that a turn need not read what is written once.
    PassSwitched,
    /// Reads reach the CPU, writes are checked.
    PassRead,
    /// As [`Treatment::PassRead`] where the CPU adds the guest's offset to the TSC in RDMSR too, and
    /// EFER is the guest's own: VT-x.
    PassReadOwn,
    /// Reads and writes go to the hypervisor.
    Emulate,
    /// It reads as this, and writes are dropped.
    Ignore(u64),
    /// It reads as this, and cannot be written: #GP.
    Constant(u64),
}

/// On which CPUs a row counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// On all.
    All,
    /// On those whose vendor is AMD, or who took over its design.
    Amd,
}

/// A range of MSRs.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
    /// Where it counts.
    pub on: On,
    /// How it is treated.
    pub treatment: Treatment,
    /// What it is, and why it is treated so.
    pub why: &'static str,
}

const fn row(first: u32, last: u32, treatment: Treatment, why: &'static str) -> Row {
    Row { first, last, on: On::All, treatment, why }
}

const fn amd(msr: u32, reads: u64, why: &'static str) -> Row {
    Row { first: msr, last: msr, on: On::Amd, treatment: Treatment::Ignore(reads), why }
}

/// The performance counters that every CPU of AMD's design has.
pub const PERFORMANCE: core::ops::RangeInclusive<u32> = 0xc001_0000..=0xc001_0007;

use Treatment::{Constant, Emulate, Ignore, Pass, PassRead, PassReadOwn, PassSwitched};

/// The table, in the order of the numbers.
pub const ROWS: &[Row] = &[
    row(0x10, 0x10, PassReadOwn, "TSC: the guest's, by an offset"),
    row(0x17, 0x17, Constant(0), "PLATFORM_ID: read by loaders of microcode"),
    row(0x1b, 0x1b, Emulate, "APIC_BASE: the virtual local APIC's"),
    row(0x3b, 0x3b, Emulate, "TSC_ADJUST: moves with the TSC"),
    row(0x79, 0x79, Ignore(0), "BIOS_UPDT_TRIG: microcode is the host's"),
    row(
        0x8b,
        0x8b,
        Emulate,
        "BIOS_SIGN_ID, PATCH_LEVEL: what the CPU runs with; writes are dropped",
    ),
    row(0xfe, 0xfe, Emulate, "MTRRCAP"),
    row(0x174, 0x176, Pass, "SYSENTER_CS, _ESP, _EIP"),
    row(0x1a0, 0x1a0, Emulate, "MISC_ENABLE: fast strings alone can be changed"),
    row(0x1d9, 0x1d9, Emulate, "DEBUGCTL: LBR and BTF"),
    row(0x200, 0x20f, Emulate, "MTRRs, variable ranges: kept, without effect"),
    row(0x250, 0x250, Emulate, "MTRR, fixed range of 64 KiB pieces"),
    row(0x258, 0x259, Emulate, "MTRRs, fixed ranges of 16 KiB pieces"),
    row(0x268, 0x26f, Emulate, "MTRRs, fixed ranges of 4 KiB pieces"),
    row(0x277, 0x277, PassRead, "PAT: the guest's own"),
    row(0x2ff, 0x2ff, Emulate, "MTRR_DEF_TYPE"),
    row(0x6e0, 0x6e0, Emulate, "TSC_DEADLINE: the virtual local APIC's"),
    row(0x800, 0x8ff, Emulate, "x2APIC registers: the virtual local APIC's, in x2APIC mode"),
    row(0xda0, 0xda0, Emulate, "XSS: there with XSAVES, 0"),
    row(0xc000_0080, 0xc000_0080, PassReadOwn, "EFER: no SVME"),
    row(0xc000_0081, 0xc000_0084, PassSwitched, "STAR, LSTAR, CSTAR, FMASK"),
    row(0xc000_0100, 0xc000_0102, Pass, "FS.BASE, GS.BASE, KERNEL_GS_BASE"),
    row(0xc000_0103, 0xc000_0103, Emulate, "TSC_AUX: there with RDTSCP"),
    Row {
        first: *PERFORMANCE.start(),
        last: *PERFORMANCE.end(),
        on: On::Amd,
        treatment: Emulate,
        why: "PerfEvtSel, PerfCtr: kept, and never count; kernels use them without asking CPUID",
    },
    amd(0xc001_0010, 0, "SYSCFG: memory types are the host's"),
    amd(0xc001_0015, 1 << 24, "HWCR: the TSC counts at the frequency of P-state 0"),
    amd(0xc001_0055, 0, "interrupt pending message: C1E is the host's"),
    amd(0xc001_1029, 1 << 1, "DE_CFG: LFENCE waits for what is before it"),
];

/// The MSRs with one of these treatments, one by one. It is evaluated when the hypervisor is compiled,
/// so that the image holds no reasons.
#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
const fn list<const N: usize>(treatment: Treatment) -> [u32; N] {
    let mut list = [0; N];
    let (mut at, mut row) = (0, 0);
    while row < ROWS.len() {
        let Row { first, last, treatment: of, .. } = ROWS[row];
        let mut msr = first;
        while same(of, treatment) && msr <= last {
            list[at] = msr;
            at += 1;
            msr += 1;
        }
        row += 1;
    }
    assert!(at == N);
    list
}

const fn same(a: Treatment, b: Treatment) -> bool {
    matches!(
        (a, b),
        (Pass, Pass)
            | (PassSwitched, PassSwitched)
            | (PassRead, PassRead)
            | (PassReadOwn, PassReadOwn)
    )
}

/// MSRs that a guest may read and write without an exit where the policy lets them pass.
pub const PASS: &[u32] = &list::<6>(Pass);
/// The same on AMD-V; on VT-x as [`PASS_READ`].
pub const PASS_SWITCHED: &[u32] = &list::<4>(PassSwitched);
/// MSRs that a guest may read, and not write, without an exit.
pub const PASS_READ: &[u32] = &list::<1>(PassRead);
/// As [`PASS_READ`], on VT-x.
pub const PASS_READ_OWN: &[u32] = &list::<2>(PassReadOwn);

/// An MSR without a state of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fixed {
    first: u32,
    last: u32,
    amd: bool,
    /// What it reads as.
    pub value: u64,
    /// Writes are dropped; otherwise they fault.
    pub writable: bool,
}

const FIXED: [Fixed; 6] = fixed_rows();

#[allow(clippy::indexing_slicing, clippy::arithmetic_side_effects)]
const fn fixed_rows<const N: usize>() -> [Fixed; N] {
    let mut list = [Fixed { first: 0, last: 0, amd: false, value: 0, writable: false }; N];
    let (mut at, mut row) = (0, 0);
    while row < ROWS.len() {
        let Row { first, last, on, treatment, .. } = ROWS[row];
        let amd = matches!(on, On::Amd);
        if let Ignore(value) | Constant(value) = treatment {
            let writable = matches!(treatment, Ignore(_));
            list[at] = Fixed { first, last, amd, value, writable };
            at += 1;
        }
        row += 1;
    }
    assert!(at == N);
    list
}

/// The MSR, if it is one without a state of its own; `amd` says whose design the CPU follows.
pub fn fixed(msr: u32, amd: bool) -> Option<Fixed> {
    let here = |row: &&Fixed| (row.first..=row.last).contains(&msr) && (amd || !row.amd);
    FIXED.iter().find(here).copied()
}
