//! What the CPU's SVM can do, from CPUID (APM vol. 2, Enabling SVM; APM vol. 3, SVM Revision and
//! Feature Identification).

#[cfg(test)]
pub(crate) mod tests;

use crate::hw::bits::{bits, report};
use crate::hw::limits::{Limits, cr4_passes, has};
use crate::hw::refusal::refusals;
use crate::hw::{Cpuid, ReadMsr};
use crate::vm::Features;

/// VM_CR, which can turn SVM off.
pub const VM_CR: u32 = 0xc001_0114;
/// [`VM_CR`]: this bit and [`VM_CR_SVMDIS`] cannot be written.
const VM_CR_LOCK: u64 = 1 << 3;
/// [`VM_CR`]: EFER.SVME cannot be set.
const VM_CR_SVMDIS: u64 = 1 << 4;

bits! {
    /// CPUID 8000_000Ah EDX.
    SvmFeatures: u32 {
        0 NESTED_PAGING "Nested paging";
        1 LBR_VIRTUALIZATION "A guest has branch records of its own";
        2 SVM_LOCK "Firmware's lock on SVM opens with a key";
        3 NEXT_RIP "Exits say where the next instruction starts";
        4 TSC_RATE "A guest's TSC has a rate of its own";
        5 CLEAN_BITS "VMRUN can take state that has not changed from a cache";
        6 FLUSH_BY_ASID "VMRUN can flush the translations of one ASID";
        7 DECODE_ASSISTS "Exits bring operands and the instruction's bytes";
        10 PAUSE_FILTER "Only every nth PAUSE exits";
        12 PAUSE_FILTER_THRESHOLD "PAUSEs that are far apart are not counted";
        13 AVIC "The local APIC's registers, and interrupts without exits";
        15 VIRTUAL_VMLOAD "VMLOAD and VMSAVE in a guest without exits";
        16 VIRTUAL_GIF "A guest has a global interrupt flag of its own";
        17 GUEST_EXECUTE_TRAP "Guest-mode execute trap";
        18 X2AVIC "The x2APIC's registers, and interrupts without exits";
        19 SUPERVISOR_SHADOW_STACK "Supervisor shadow stacks under nested paging";
        20 SPEC_CTRL "A guest has a SPEC_CTRL of its own";
        24 INVLPGB "INVLPGB and TLBSYNC in a guest";
        25 VIRTUAL_NMI "NMIs with a mask and a pending bit of the guest's own";
    }
}

refusals! {
    "firmware locked SVM off ", " and switch the machine off and on" {
        LockedOff "(VM_CR): turn on SVM, or AMD-V, in the firmware's setup";
        LockedWithKey "with a key (VM_CR): turn on SVM, or AMD-V, in the firmware's setup, or ask who keeps the machine's key,";
    }
    "the CPU's SVM has no ", "" {
        NoNestedPaging "nested paging (NPT): use an AMD CPU of 2008 (Barcelona) or later, or an emulated model of one";
        NoAsids "ASID for a guest: in a virtual machine, give it the host's CPU model";
    }
}

/// What the CPU's SVM can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The revision of SVM.
    pub revision: u8,
    /// ASIDs, with 0, which is the host's.
    pub asids: u32,
    /// Optional parts.
    pub features: SvmFeatures,
    /// What guests may have.
    pub limits: Limits,
    /// The CPU has no other bit in CR4, so that it refuses by itself what a guest may not set.
    pub cr4_passes: bool,
    neutral: Features,
}

/// Where CPUID announces features that a VM can have: leaf, subleaf, register, bit.
const NEUTRAL: &[(u32, u32, usize, u32, Features)] = &[
    (0x8000_0001, 0, 3, 26, Features::NESTED_1G),
    (0x8000_0001, 0, 3, 27, Features::RDTSCP),
    (7, 0, 1, 10, Features::INVPCID),
    (0xd, 1, 0, 3, Features::XSAVES),
    (SVM_LEAF, 0, 3, 3, Features::NEXT_RIP),
    (SVM_LEAF, 0, 3, 10, Features::PAUSE_LOOP_EXITING),
];
const SVM_LEAF: u32 = 0x8000_000a;

/// Whether CPUID shows SVM.
pub fn announced(cpuid: &impl Cpuid) -> bool {
    has(cpuid, 0x8000_0001, 0, 2, 2)
}

/// What [`VM_CR`] must hold before EFER.SVME can be set, from what it holds; `None` if SVM is locked
/// off.
pub const fn unlocked(vm_cr: u64) -> Option<u64> {
    const LOCKED_OFF: u64 = VM_CR_LOCK | VM_CR_SVMDIS;
    if vm_cr & LOCKED_OFF == LOCKED_OFF { None } else { Some(vm_cr & !VM_CR_SVMDIS) }
}

impl Capabilities {
    /// Asks the CPU, whose CPUID shows SVM.
    ///
    /// # Errors
    ///
    /// The first thing that is missing and that no VM can do without.
    pub fn read(msrs: &impl ReadMsr, cpuid: &impl Cpuid) -> Result<Capabilities, Refusal> {
        let [revision, asids, _, features] = cpuid.announced(SVM_LEAF, 0);
        let features = SvmFeatures::from_bits_retain(features);
        let off = unlocked(msrs.read_msr(VM_CR)).is_none();
        for (refused, refusal) in [
            (off && features.contains(SvmFeatures::SVM_LOCK), Refusal::LockedWithKey),
            (off, Refusal::LockedOff),
            (!features.contains(SvmFeatures::NESTED_PAGING), Refusal::NoNestedPaging),
            (asids < 2, Refusal::NoAsids),
        ] {
            if refused {
                return Err(refusal);
            }
        }
        let neutral = NEUTRAL
            .iter()
            .filter(|(leaf, subleaf, register, bit, _)| {
                has(cpuid, *leaf, *subleaf, *register, *bit)
            })
            .map(|(.., feature)| *feature)
            .collect();
        Ok(Capabilities {
            revision: revision as u8,
            asids,
            features,
            limits: Limits::announced(cpuid),
            cr4_passes: cr4_passes(cpuid),
            neutral,
        })
    }

    /// The same in neutral words.
    pub fn features(&self) -> Features {
        // What every CPU with nested paging has.
        const ALWAYS: Features = Features::VPID
            .union(Features::MSR_BITMAP)
            .union(Features::IO_BITMAP)
            .union(Features::NESTED_2M);
        self.neutral | ALWAYS
    }

    /// Every named capability, for the boot log: its set, its name, and whether it is there.
    pub fn report(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> + use<> {
        report("features", self.features)
    }
}
