//! CPUID: a table made once for each vCPU, which is also the guest's mirror.
//!
//! The answers are the CPU's own, filtered: what the hypervisor does not virtualize is not there.

use pv_abi::area::{CPUID_ENTRIES, CPUID_SUBLEAF_MATTERS, CpuidEntry, VcpuInfo};
use pv_abi::call;
use pv_abi::cpuid::{self as abi, Recommendations};

use crate::device::apic::Mode;
use crate::hw::Cpuid;
use crate::vm::hardware::Kept;
use crate::vm::{Features, Gpr, Hardware, Options, Outcome, Policy, Vcpu};

pub mod filter;

/// Leaves that a table can index directly, from 0 and from 8000_0000h.
const BASIC: usize = 0x20;
const EXTENDED: usize = 0x10;
const EXTENDED_BASE: u32 = 0x8000_0000;
const HYPERVISOR_BASE: u32 = abi::FIRST_BASE;

/// A leaf that is not in the table.
const ABSENT: u8 = u8::MAX;

/// Where leaves stand in [`VcpuInfo::cpuid`].
#[derive(Clone, Debug)]
pub struct CpuidModel {
    /// Basic leaves whose answer is one entry and depends on nothing.
    simple: [u8; BASIC],
    basic: [u8; BASIC],
    extended: [u8; EXTENDED],
    hypervisor: [u8; EXTENDED],
    max_basic: u32,
}

/// What decides the answers beside the CPU.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// How the VM is run.
    pub policy: Policy,
    /// Its options.
    pub options: Options,
    /// Its features.
    pub features: Features,
    /// The TSC in Hz.
    pub tsc_hz: u64,
    /// The APIC timer's frequency in Hz.
    pub apic_hz: u32,
    /// The APIC ID and vCPU number.
    pub vcpu: u32,
    /// vCPUs of the VM.
    pub vcpus: u32,
}

/// XCR0 bits that guests may set: x87, SSE, AVX, AVX-512, PKRU, as far as the CPU has them.
pub const XCR0_KNOWN: u64 = 0b10_1110_0111;

/// Leaves that are taken from the CPU, with the sub-leaves of each (0: it has none).
const TAKEN: &[(u32, u32)] = &[
    (0, 0),
    (1, 0),
    (2, 0),
    (4, 5),
    (6, 0),
    (7, 1),
    (0xb, 2),
    (0xd, 20),
    (0x15, 0),
    (0x16, 0),
    (0x8000_0000, 0),
    (0x8000_0001, 0),
    (0x8000_0002, 0),
    (0x8000_0003, 0),
    (0x8000_0004, 0),
    (0x8000_0005, 0),
    (0x8000_0006, 0),
    (0x8000_0007, 0),
    (0x8000_0008, 0),
];

/// Leaves up to this one are offered. Where the vendor is Intel all are, whatever the CPU has: system
/// software takes the frequency of the TSC from leaf 15h there, and there alone.
const MAX_BASIC: u32 = 0x16;
const MAX_EXTENDED: u32 = 0x8000_0008;

struct Builder<'a> {
    info: &'a mut VcpuInfo,
    count: usize,
}

impl Builder<'_> {
    fn push(&mut self, leaf: u32, subleaf: Option<u32>, [eax, ebx, ecx, edx]: [u32; 4]) {
        if let Some(slot) = self.info.cpuid.get_mut(self.count) {
            let flags = if subleaf.is_some() { CPUID_SUBLEAF_MATTERS } else { 0 };
            let subleaf = subleaf.unwrap_or(0);
            *slot = CpuidEntry { leaf, subleaf, flags, reserved: 0, eax, ebx, ecx, edx };
            self.count = self.count.saturating_add(1);
        }
    }
}

impl CpuidModel {
    /// Fills the mirror in `info` and indexes it.
    pub fn build(info: &mut VcpuInfo, host: &impl Cpuid, facts: &Facts) -> CpuidModel {
        let mut builder = Builder { info, count: 0 };
        let max_basic = match is_intel(host) {
            true => MAX_BASIC,
            false => host.cpuid(0, 0)[0].clamp(0xd, MAX_BASIC),
        };
        let max_extended = host.cpuid(EXTENDED_BASE, 0)[0].min(MAX_EXTENDED);
        for &(leaf, subleaves) in TAKEN {
            let max = if leaf < EXTENDED_BASE { max_basic } else { max_extended };
            if leaf > max {
                continue;
            }
            for subleaf in 0..subleaves.max(1) {
                let mut answer = host.announced(leaf, subleaf);
                adjust(&mut answer, leaf, subleaf, facts, max);
                let empty = answer == [0; 4] && subleaf > 1;
                if !empty {
                    builder.push(leaf, (subleaves > 0).then_some(subleaf), answer);
                }
            }
        }
        if facts.options.contains(Options::ABI) {
            for leaf in 0..=abi::leaf::LAST {
                // The bitmaps end with sub-leaf 0.
                let bitmap = matches!(leaf, abi::leaf::EXTENSIONS | abi::leaf::RECOMMENDATIONS);
                let subleaf = bitmap.then_some(0);
                builder.push(HYPERVISOR_BASE | leaf, subleaf, hypervisor_leaf(leaf, facts));
            }
        }
        let count = builder.count.min(CPUID_ENTRIES);
        info.cpuid_entries = count as u32;
        CpuidModel::index(info, max_basic, max_extended)
    }

    fn index(info: &VcpuInfo, max_basic: u32, max_extended: u32) -> CpuidModel {
        let mut model = CpuidModel {
            simple: [ABSENT; BASIC],
            basic: [ABSENT; BASIC],
            extended: [ABSENT; EXTENDED],
            hypervisor: [ABSENT; EXTENDED],
            max_basic,
        };
        for (entry, at) in info.cpuid.iter().take(info.cpuid_entries as usize).zip(0u8..) {
            // The first entry of a leaf: its other sub-leaves follow it.
            if entry.subleaf == 0
                && let Some(slot) = model.slot(entry.leaf)
            {
                *slot = at;
            }
            if entry.flags == 0
                && !is_composed(entry.leaf)
                && let Some(slot) = model.simple.get_mut(entry.leaf as usize)
            {
                *slot = at;
            }
        }
        let highest = model.basic.get(max_basic as usize).copied().unwrap_or(ABSENT);
        let leaves = |base: u32| base..u32::MAX;
        for (slot, leaf) in model.basic.iter_mut().zip(leaves(0)) {
            if leaf > max_basic {
                *slot = highest;
            }
        }
        for (slot, leaf) in model.extended.iter_mut().zip(leaves(EXTENDED_BASE)) {
            if leaf > max_extended {
                *slot = highest;
            }
        }
        model
    }

    fn slot(&mut self, leaf: u32) -> Option<&mut u8> {
        if leaf >= EXTENDED_BASE {
            self.extended.get_mut(leaf.wrapping_sub(EXTENDED_BASE) as usize)
        } else if leaf >= HYPERVISOR_BASE {
            self.hypervisor.get_mut(leaf.wrapping_sub(HYPERVISOR_BASE) as usize)
        } else {
            self.basic.get_mut(leaf as usize)
        }
    }

    /// The entry that answers; an undefined basic or extended leaf answers as the highest basic leaf
    /// does (SDM vol. 2, CPUID).
    /// What a leaf answers, but for what follows the vCPU's state.
    pub fn find<'a>(&self, info: &'a VcpuInfo, leaf: u32, subleaf: u32) -> Option<&'a CpuidEntry> {
        let at = match self.basic.get(leaf as usize) {
            Some(&at) => at,
            None => self.find_rare(leaf),
        };
        let entry = info.cpuid.get(usize::from(at))?;
        if entry.flags & CPUID_SUBLEAF_MATTERS == 0 {
            return Some(entry);
        }
        info.cpuid
            .get(usize::from(at)..)?
            .iter()
            .take_while(|e| e.leaf == entry.leaf)
            .find(|e| e.subleaf == subleaf)
    }

    #[cold]
    fn find_rare(&self, leaf: u32) -> u8 {
        let found = if leaf >= EXTENDED_BASE {
            self.extended.get(leaf.wrapping_sub(EXTENDED_BASE) as usize)
        } else if leaf >= HYPERVISOR_BASE {
            self.hypervisor.get(leaf.wrapping_sub(HYPERVISOR_BASE) as usize)
        } else {
            None
        };
        match found {
            Some(&at) => at,
            // Beyond the end of the hypervisor's leaves there is nothing.
            None if leaf >> 16 == HYPERVISOR_BASE >> 16 => ABSENT,
            None => self.basic.get(self.max_basic as usize).copied().unwrap_or(ABSENT),
        }
    }
}

/// Whether the CPU's vendor is Intel.
pub fn is_intel(host: &impl Cpuid) -> bool {
    host.cpuid(0, 0)[1] == u32::from_le_bytes(*b"Genu")
}

fn adjust(answer: &mut [u32; 4], leaf: u32, subleaf: u32, facts: &Facts, max: u32) {
    filter::apply(answer, leaf, subleaf);
    let Facts { features, vcpu, .. } = *facts;
    let [eax, ebx, ecx, edx] = answer;
    match (leaf, subleaf) {
        (0 | EXTENDED_BASE, _) => *eax = max,
        (1, _) => {
            // One logical processor a package; the initial APIC ID.
            *ebx = *ebx & 0xff00 | 1 << 16 | vcpu << 24;
            // x2APIC and the TSC deadline are the virtual APIC's own.
            *ecx |= 1 << 21 | 1 << 24;
            *ecx |= if facts.options.contains(Options::ABI) { 1 << 31 } else { 0 };
            *edx &= !(1 << 28);
        }
        // No sharing of caches, one core.
        (4, _) => *eax &= 0x3ff,
        // ARAT: the APIC timer never stops.
        (6, _) => *answer = [1 << 2, 0, 0, 0],
        (7, 0) => {
            *eax = 0;
            // TSC_ADJUST is emulated.
            *ebx |= 1 << 1;
            if !features.contains(Features::INVPCID) {
                *ebx &= !(1 << 10);
            }
            if !features.contains(Features::RDTSCP) {
                // RDPID comes and goes with RDTSCP.
                *ecx &= !(1 << 22);
            }
        }
        (0xb, _) => *answer = [0, 1, subleaf | if subleaf == 0 { 1 << 8 } else { 2 << 8 }, vcpu],
        // Supervisor state, and components that no guest may enable.
        (0xd, 2..) if *ecx & 1 != 0 || XCR0_KNOWN >> (subleaf & 63) & 1 == 0 => *answer = [0; 4],
        (0xd, 1) => {
            // No supervisor state.
            (*ecx, *edx) = (0, 0);
            if !features.contains(Features::XSAVES) {
                *eax &= !(1 << 3);
            }
        }
        (0x15, _) => {
            // TSC = crystal * EBX / EAX, with a crystal that is the APIC timer's clock.
            let ratio = facts.tsc_hz.checked_div(facts.apic_hz.into()).unwrap_or(1);
            *answer = [1, ratio as u32, facts.apic_hz, 0];
        }
        (0x16, _) => {
            let mhz = (facts.tsc_hz / 1_000_000) as u32;
            *answer = [mhz, mhz, 0, 0];
        }
        (0x8000_0001, _) if !features.contains(Features::RDTSCP) => *edx &= !(1 << 27),
        // Limits of instructions that are not offered.
        (0x8000_0008, _) => *edx = 0,
        _ => {}
    }
}

fn hypervisor_leaf(leaf: u32, facts: &Facts) -> [u32; 4] {
    let [ebx, ecx, edx] = abi::signature_registers();
    match leaf {
        abi::leaf::SIGNATURE => [HYPERVISOR_BASE | abi::leaf::LAST, ebx, ecx, edx],
        abi::leaf::VERSION => [pv_abi::VERSION, 0, 0, 0],
        abi::leaf::EXTENSIONS => {
            let bits = call::VERSIONS
                .iter()
                .fold(0, |bits, &(number, _)| bits | 1u32.wrapping_shl(number.into()));
            [bits, 0, 0, 0]
        }
        abi::leaf::RECOMMENDATIONS => [recommendations(facts).bits(), 0, 0, 0],
        abi::leaf::LIMITS => {
            [facts.vcpu, facts.vcpus, crate::hypercall::console::MAX_TRANSFER as u32, 0]
        }
        abi::leaf::FREQUENCY => {
            [facts.tsc_hz as u32, (facts.tsc_hz >> 32) as u32, facts.apic_hz, 0]
        }
        _ => [0; 4],
    }
}

/// What pays under the policy: what does not exit is not worth replacing.
pub fn recommendations(facts: &Facts) -> Recommendations {
    if facts.policy != Policy::Pv {
        return Recommendations::empty();
    }
    let mut bits = Recommendations::CPUID_MIRROR
        | Recommendations::HALT
        | Recommendations::TIMER
        | Recommendations::EOI
        | Recommendations::CONSOLE
        | Recommendations::SYS
        | Recommendations::SMP;
    if facts.features.contains(Features::VIRTUAL_INTERRUPTS) {
        // The CPU ends interrupts itself.
        bits.remove(Recommendations::EOI);
    }
    bits
}

/// CPUID of a leaf whose answer depends on nothing; `false` for the others.
#[inline(always)]
pub fn simple(vcpu: &mut Vcpu) -> bool {
    let leaf = vcpu.registers.get(Gpr::Rax) as u32;
    let at = vcpu.cpuid.simple.get(leaf as usize).copied().unwrap_or(ABSENT);
    let Some(entry) = vcpu.info.cpuid.get(usize::from(at)) else { return false };
    let answer = [entry.eax, entry.ebx, entry.ecx, entry.edx];
    set_answer(vcpu, answer);
    true
}

#[inline(always)]
fn set_answer(vcpu: &mut Vcpu, [eax, ebx, ecx, edx]: [u32; 4]) {
    vcpu.registers.set32(Gpr::Rax, eax);
    vcpu.registers.set32(Gpr::Rbx, ebx);
    vcpu.registers.set32(Gpr::Rcx, ecx);
    vcpu.registers.set32(Gpr::Rdx, edx);
}

/// CPUID.
pub fn cpuid(vcpu: &mut Vcpu, hardware: &mut impl Hardware) -> Outcome {
    let leaf = vcpu.registers.get(Gpr::Rax) as u32;
    let answer = answer(vcpu, hardware, leaf);
    set_answer(vcpu, answer);
    Outcome::Advance
}

/// The answer where it depends on the sub-leaf, on CR4 or XCR0, or the leaf is not a basic one.
fn answer(vcpu: &Vcpu, hardware: &mut impl Hardware, leaf: u32) -> [u32; 4] {
    let subleaf = vcpu.registers.get(Gpr::Rcx) as u32;
    let Some(entry) = vcpu.cpuid.find(vcpu.info, leaf, subleaf) else { return [0; 4] };
    let mut answer = [entry.eax, entry.ebx, entry.ecx, entry.edx];
    if is_composed(entry.leaf) {
        compose(&mut answer, entry.leaf, subleaf, vcpu, hardware);
    }
    answer
}

/// Leaves with bits that depend on the state of the vCPU.
fn is_composed(leaf: u32) -> bool {
    matches!(leaf, 1 | 7 | 0xd)
}

/// The bits that depend on CR4, XCR0 and the local APIC.
fn compose(
    answer: &mut [u32; 4],
    leaf: u32,
    subleaf: u32,
    vcpu: &Vcpu,
    hardware: &mut impl Hardware,
) {
    const OSXSAVE: u64 = 1 << 18;
    const PKE: u64 = 1 << 22;
    let [_, ebx, ecx, edx] = answer;
    match (leaf, subleaf) {
        (1, _) => {
            if hardware.kept(Kept::Cr4) & OSXSAVE != 0 {
                *ecx |= 1 << 27;
            }
            if vcpu.apic.mode() == Mode::Disabled {
                *edx &= !(1 << 9);
            }
        }
        (7, 0) if hardware.kept(Kept::Cr4) & PKE != 0 => *ecx |= 1 << 4,
        // The size of the standard format, or, without supervisor state, of the compacted one.
        (0xd, 0 | 1) => {
            let changed = if vcpu.xcr0_may != 0 { hardware.changed_xcr0() } else { None };
            let xcr0 = changed.unwrap_or(vcpu.xcr0);
            *ebx = match subleaf {
                0 => xsave_size(vcpu, xcr0, false),
                _ => xsave_size(vcpu, xcr0 | vcpu.msrs.xss, true),
            };
        }
        _ => {}
    }
}

/// The size of an XSAVE area with these components (SDM vol. 1, Managing State Using the XSAVE
/// Feature Set).
fn xsave_size(vcpu: &Vcpu, components: u64, compacted: bool) -> u32 {
    const LEGACY_AND_HEADER: u32 = 576;
    (2..63).filter(|&i| components >> i & 1 != 0).fold(LEGACY_AND_HEADER, |size, component| {
        let Some(entry) = vcpu.cpuid.find(vcpu.info, 0xd, component) else { return size };
        if compacted {
            let aligned = if entry.ecx & 2 != 0 { size.next_multiple_of(64) } else { size };
            aligned.saturating_add(entry.eax)
        } else {
            size.max(entry.ebx.saturating_add(entry.eax))
        }
    })
}

#[cfg(test)]
mod tests;
