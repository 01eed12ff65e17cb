//! What guests see of the CPU's features: all that it has, but for these rows.
//!
//! A feature is taken away because what belongs to it, an MSR or an instruction that exits, is not
//! virtualized. A row says so in `why`; the image holds only the masks.

use super::XCR0_KNOWN;

/// EAX, EBX, ECX and EDX, as places in an answer.
const EAX: usize = 0;
const EBX: usize = 1;
const ECX: usize = 2;
const EDX: usize = 3;

/// Bits of one register of one leaf.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// The leaf.
    pub leaf: u32,
    /// Its sub-leaf.
    pub subleaf: u32,
    /// The register: 0 is EAX.
    pub register: usize,
    /// The bits that guests see, if the CPU has them.
    pub pass: u32,
    /// Why they do not see the others.
    pub why: &'static str,
}

const fn mask(bits: &[u32]) -> u32 {
    let mut mask = 0u32;
    let mut rest = bits;
    while let [bit, others @ ..] = rest {
        mask |= 1u32.wrapping_shl(*bit);
        rest = others;
    }
    mask
}

/// These bits are not seen.
const fn hide(leaf: u32, subleaf: u32, register: usize, bits: &[u32], why: &'static str) -> Row {
    Row { leaf, subleaf, register, pass: !mask(bits), why }
}

/// Only these bits are seen.
const fn only(leaf: u32, subleaf: u32, register: usize, pass: u32, why: &'static str) -> Row {
    Row { leaf, subleaf, register, pass, why }
}

/// The rows. More than one may be about a register.
pub const ROWS: [Row; 29] = [
    hide(1, 0, ECX, &[2, 4, 15, 18], "DTES64, DS-CPL, PDCM, DCA: no performance monitoring"),
    hide(1, 0, ECX, &[3], "MONITOR: there is no other CPU's store to wait for"),
    hide(1, 0, ECX, &[5, 6], "VMX, SMX: no virtualization within a VM"),
    hide(1, 0, ECX, &[7, 8], "EIST, TM2: power and heat are the host's"),
    hide(1, 0, ECX, &[11], "SDBG: the silicon debugger is the host's"),
    hide(1, 0, ECX, &[27, 31], "OSXSAVE follows the guest's CR4, the last the VM's description"),
    hide(1, 0, EDX, &[7, 14], "MCE, MCA: machine checks are the host's"),
    hide(1, 0, EDX, &[21, 31], "DS, PBE: no performance monitoring"),
    hide(1, 0, EDX, &[22, 29], "ACPI, TM: power and heat are the host's"),
    hide(7, 0, EBX, &[2], "SGX: enclaves are not virtualized"),
    hide(7, 0, EBX, &[4, 11], "HLE, RTM: transactions can be off in ways that guests do not see"),
    hide(7, 0, EBX, &[12, 15], "PQM, PQE: cache shares are the host's"),
    hide(7, 0, EBX, &[14], "MPX: its state is not switched"),
    hide(7, 0, EBX, &[25], "PT: processor trace is not virtualized"),
    hide(7, 0, ECX, &[4], "OSPKE follows the guest's CR4"),
    hide(7, 0, ECX, &[5], "WAITPKG: it can wait without an exit"),
    hide(7, 0, ECX, &[7, 31], "CET_SS, PKS: supervisor state is not switched"),
    hide(7, 0, ECX, &[13, 23, 30], "TME, KL, SGX_LC: keys are the host's"),
    hide(7, 0, ECX, &[16], "LA57: nested tables translate four levels"),
    hide(7, 0, ECX, &[24, 29], "BUS_LOCK_DETECT, ENQCMD: they need MSRs that are not there"),
    only(7, 0, EDX, 0, "speculation MSRs, PCONFIG, CET and AMX are not virtualized"),
    only(0xd, 0, EAX, XCR0_KNOWN as u32, "state components that are not switched"),
    only(0xd, 0, EDX, (XCR0_KNOWN >> 32) as u32, "as above"),
    only(0xd, 1, EAX, 0xf, "XFD needs MSRs that are not there"),
    hide(0x8000_0001, 0, EDX, &[7, 14, 25], "as in leaf 1; EFER.FFXSR is not there"),
    only(
        0x8000_0001,
        0,
        ECX,
        mask(&[0, 5, 8]),
        "LAHF, LZCNT, PREFETCHW; no SVM, no AMD extensions",
    ),
    only(0x8000_0007, 0, EDX, mask(&[8]), "invariant TSC; power and heat are the host's"),
    only(0x8000_0008, 0, EBX, mask(&[9]), "WBNOINVD; no speculation MSRs"),
    only(0x8000_0008, 0, ECX, 0, "the host's cores"),
];

/// A mask without its reason.
type Mask = (u32, u32, usize, u32);

const MASKS: [Mask; ROWS.len()] = {
    let mut masks = [(0, 0, 0, 0); ROWS.len()];
    let mut at = 0usize;
    let (mut out, mut rest): (&mut [Mask], &[Row]) = (&mut masks, &ROWS);
    while let ([mask, more @ ..], [row, rows @ ..]) = (out, rest) {
        *mask = (row.leaf, row.subleaf, row.register, row.pass);
        (out, rest) = (more, rows);
        at = at.wrapping_add(1);
    }
    assert!(at == ROWS.len());
    masks
};

/// Takes from the CPU's own answer what guests do not see.
pub fn apply(answer: &mut [u32; 4], leaf: u32, subleaf: u32) {
    for &(of, sub, register, pass) in &MASKS {
        if (of, sub) == (leaf, subleaf)
            && let Some(value) = answer.get_mut(register)
        {
            *value &= pass;
        }
    }
}
