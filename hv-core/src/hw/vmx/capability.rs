//! What the CPU's VMX can do, from the capability MSRs (SDM vol. 3, appendix "VMX Capability
//! Reporting Facility"), each read only if something announces it.

mod allowed;
#[cfg(test)]
pub(crate) mod tests;

pub use allowed::{Allowed, MissingControls};

use super::controls::{Entry, Exit, PinBased, Primary, Secondary};
use crate::hw::bits::{bits, report};
use crate::hw::limits::{CR4_KNOWN, Limits, has};
use crate::hw::refusal::refusals;
use crate::hw::{Cpuid, ReadMsr};
use crate::vm::feature::Features;

/// The MSRs' numbers.
#[allow(missing_docs)]
pub mod msr {
    pub const IA32_FEATURE_CONTROL: u32 = 0x3a;
    pub const IA32_VMX_BASIC: u32 = 0x480;
    pub const IA32_VMX_PINBASED_CTLS: u32 = 0x481;
    pub const IA32_VMX_PROCBASED_CTLS: u32 = 0x482;
    pub const IA32_VMX_EXIT_CTLS: u32 = 0x483;
    pub const IA32_VMX_ENTRY_CTLS: u32 = 0x484;
    pub const IA32_VMX_MISC: u32 = 0x485;
    pub const IA32_VMX_CR0_FIXED0: u32 = 0x486;
    pub const IA32_VMX_CR0_FIXED1: u32 = 0x487;
    pub const IA32_VMX_CR4_FIXED0: u32 = 0x488;
    pub const IA32_VMX_CR4_FIXED1: u32 = 0x489;
    pub const IA32_VMX_PROCBASED_CTLS2: u32 = 0x48b;
    pub const IA32_VMX_EPT_VPID_CAP: u32 = 0x48c;
    pub const IA32_VMX_TRUE_PINBASED_CTLS: u32 = 0x48d;
    pub const IA32_VMX_TRUE_PROCBASED_CTLS: u32 = 0x48e;
    pub const IA32_VMX_TRUE_EXIT_CTLS: u32 = 0x48f;
    pub const IA32_VMX_TRUE_ENTRY_CTLS: u32 = 0x490;
}

bits! {
    /// IA32_FEATURE_CONTROL.
    FeatureControl: u64 {
        0 LOCKED "The MSR cannot be written before the next reset";
        1 VMX_INSIDE_SMX "VMXON works inside SMX operation";
        2 VMX_OUTSIDE_SMX "VMXON works outside SMX operation";
    }

    /// IA32_VMX_EPT_VPID_CAP.
    EptVpid: u64 {
        6 EPT_WALK_4 "Page walks of length 4";
        14 EPT_WRITE_BACK "Write-back EPT structures";
        16 EPT_2M "2 MiB pages";
        17 EPT_1G "1 GiB pages";
        20 INVEPT "INVEPT";
        25 INVEPT_SINGLE_CONTEXT "INVEPT of one EPT";
        32 INVVPID "INVVPID";
        40 INVVPID_ADDRESS "INVVPID of one address";
        41 INVVPID_SINGLE_CONTEXT "INVVPID of one VPID";
        42 INVVPID_ALL_CONTEXT "INVVPID of all";
    }
}

refusals! {
    "", ": turn on Intel Virtualization Technology (VT-x) in the firmware's setup and switch the machine off and on" {
        LockedOff "firmware locked VMX off (IA32_FEATURE_CONTROL)";
    }
    "the CPU has no ", ": use an Intel CPU of 2013 (Haswell) or later, or an emulated model of one" {
        NoSecondaryControls "secondary processor-based controls, and so no EPT";
        NoEpt "extended page tables (EPT)";
        NoEptWriteBack "write-back EPT structures";
        NoEptWalk4 "EPT page walks of length 4";
        NoInvept "INVEPT of one EPT";
        NoUnrestrictedGuest "\"unrestricted guest\"";
        NoPreemptionTimer "VMX-preemption timer";
    }
}

/// What the CPU's VMX can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// To be written to the first 4 bytes of VMXON regions and VMCSs.
    pub revision: u32,
    /// What firmware left in IA32_FEATURE_CONTROL.
    pub feature_control: FeatureControl,
    /// Pin-based controls.
    pub pin_based: Allowed<PinBased>,
    /// Primary processor-based controls.
    pub primary: Allowed<Primary>,
    /// Secondary processor-based controls.
    pub secondary: Allowed<Secondary>,
    /// VM-exit controls.
    pub exit: Allowed<Exit>,
    /// VM-entry controls.
    pub entry: Allowed<Entry>,
    /// EPT and VPID.
    pub ept_vpid: EptVpid,
    /// The VMX-preemption timer counts when this bit of the TSC changes.
    pub preemption_timer_shift: u8,
    /// Bits of CR0 that must be 1 in VMX operation.
    pub cr0_must: u64,
    /// Bits of CR0 that may be 1 in VMX operation.
    pub cr0_may: u64,
    /// Bits of CR4 that must be 1 in VMX operation.
    pub cr4_must: u64,
    /// Bits of CR4 that may be 1 in VMX operation.
    pub cr4_may: u64,
    /// What guests may have.
    pub limits: Limits,
    /// Width of linear addresses in bits.
    pub linear_bits: u8,
}

/// Whether CPUID shows VMX.
pub fn announced(cpuid: &impl Cpuid) -> bool {
    has(cpuid, 1, 0, 2, 5)
}

impl Capabilities {
    /// Asks the CPU, whose CPUID shows VMX.
    ///
    /// # Errors
    ///
    /// The first thing that is missing and that no VM can do without.
    pub fn read(msrs: &impl ReadMsr, cpuid: &impl Cpuid) -> Result<Capabilities, Refusal> {
        let control = msrs.read_msr(msr::IA32_FEATURE_CONTROL);
        let feature_control = FeatureControl::from_bits_retain(control);
        if feature_control.contains(FeatureControl::LOCKED)
            && !feature_control.contains(FeatureControl::VMX_OUTSIDE_SMX)
        {
            return Err(Refusal::LockedOff);
        }

        let basic = msrs.read_msr(msr::IA32_VMX_BASIC);
        let true_controls = basic & 1 << 55 != 0;
        let pick = |old, precise| msrs.read_msr(if true_controls { precise } else { old });
        let pin_based = pick(msr::IA32_VMX_PINBASED_CTLS, msr::IA32_VMX_TRUE_PINBASED_CTLS);
        let pin_based = Allowed::<PinBased>::from_msr(pin_based);
        let primary = pick(msr::IA32_VMX_PROCBASED_CTLS, msr::IA32_VMX_TRUE_PROCBASED_CTLS);
        let primary = Allowed::<Primary>::from_msr(primary);
        let exit = pick(msr::IA32_VMX_EXIT_CTLS, msr::IA32_VMX_TRUE_EXIT_CTLS);
        let entry = pick(msr::IA32_VMX_ENTRY_CTLS, msr::IA32_VMX_TRUE_ENTRY_CTLS);
        if !primary.can(Primary::ACTIVATE_SECONDARY_CONTROLS) {
            return Err(Refusal::NoSecondaryControls);
        }
        let secondary =
            Allowed::<Secondary>::from_msr(msrs.read_msr(msr::IA32_VMX_PROCBASED_CTLS2));
        if !secondary.can(Secondary::ENABLE_EPT) {
            return Err(Refusal::NoEpt);
        }
        let ept_vpid = EptVpid::from_bits_retain(msrs.read_msr(msr::IA32_VMX_EPT_VPID_CAP));
        for (needed, refusal) in [
            (EptVpid::EPT_WRITE_BACK, Refusal::NoEptWriteBack),
            (EptVpid::EPT_WALK_4, Refusal::NoEptWalk4),
            (EptVpid::INVEPT.union(EptVpid::INVEPT_SINGLE_CONTEXT), Refusal::NoInvept),
        ] {
            if !ept_vpid.contains(needed) {
                return Err(refusal);
            }
        }
        if !secondary.can(Secondary::UNRESTRICTED_GUEST) {
            return Err(Refusal::NoUnrestrictedGuest);
        }
        if !pin_based.can(PinBased::ACTIVATE_PREEMPTION_TIMER) {
            return Err(Refusal::NoPreemptionTimer);
        }

        let cr4_may = msrs.read_msr(msr::IA32_VMX_CR4_FIXED1);
        Ok(Capabilities {
            revision: basic as u32 & !(1 << 31),
            feature_control,
            pin_based,
            primary,
            secondary,
            exit: Allowed::from_msr(exit),
            entry: Allowed::from_msr(entry),
            ept_vpid,
            preemption_timer_shift: msrs.read_msr(msr::IA32_VMX_MISC) as u8 & 0x1f,
            cr0_must: msrs.read_msr(msr::IA32_VMX_CR0_FIXED0),
            cr0_may: msrs.read_msr(msr::IA32_VMX_CR0_FIXED1),
            cr4_must: msrs.read_msr(msr::IA32_VMX_CR4_FIXED0),
            cr4_may,
            limits: Limits { cr4_may: cr4_may & CR4_KNOWN, ..Limits::announced(cpuid) },
            linear_bits: cpuid.address_widths().1,
        })
    }

    /// What to write to IA32_FEATURE_CONTROL before VMXON; `None` if firmware locked it (with VMX
    /// on, else the capabilities would have been refused).
    pub fn feature_control_to_write(&self) -> Option<u64> {
        let open = !self.feature_control.contains(FeatureControl::LOCKED);
        let wanted = FeatureControl::LOCKED | FeatureControl::VMX_OUTSIDE_SMX;
        open.then_some((self.feature_control | wanted).bits())
    }

    /// The optional features in neutral words.
    pub fn features(&self) -> Features {
        let primary = |control| self.primary.can(control);
        let secondary = |control| self.secondary.can(control);
        let apic = primary(Primary::USE_TPR_SHADOW)
            && secondary(
                Secondary::VIRTUALIZE_APIC_ACCESSES.union(Secondary::VIRTUALIZE_X2APIC_MODE),
            );
        let vpid = EptVpid::INVVPID
            .union(EptVpid::INVVPID_SINGLE_CONTEXT)
            .union(EptVpid::INVVPID_ALL_CONTEXT);
        let registers = apic && secondary(Secondary::APIC_REGISTER_VIRTUALIZATION);
        let delivery = apic && secondary(Secondary::VIRTUAL_INTERRUPT_DELIVERY);
        let table = [
            (Features::VPID, secondary(Secondary::ENABLE_VPID) && self.ept_vpid.contains(vpid)),
            (Features::MSR_BITMAP, primary(Primary::USE_MSR_BITMAPS)),
            (Features::IO_BITMAP, primary(Primary::USE_IO_BITMAPS)),
            (Features::APIC_REGISTERS, registers),
            (Features::VIRTUAL_INTERRUPTS, delivery),
            (Features::NESTED_1G, self.ept_vpid.contains(EptVpid::EPT_1G)),
            (Features::NESTED_2M, self.ept_vpid.contains(EptVpid::EPT_2M)),
            (Features::PREEMPTION_TIMER, true),
            (Features::INVPCID, secondary(Secondary::ENABLE_INVPCID)),
            (Features::RDTSCP, secondary(Secondary::ENABLE_RDTSCP)),
            (Features::XSAVES, secondary(Secondary::ENABLE_XSAVES_XRSTORS)),
            (Features::NEXT_RIP, true),
            (Features::PAUSE_LOOP_EXITING, secondary(Secondary::PAUSE_LOOP_EXITING)),
        ];
        table.into_iter().filter(|(_, there)| *there).map(|(feature, _)| feature).collect()
    }

    /// Every named capability, for the boot log: its set, its name, and whether it is there.
    pub fn report(&self) -> impl Iterator<Item = (&'static str, &'static str, bool)> + use<> {
        (self.pin_based.report())
            .chain(self.primary.report())
            .chain(self.secondary.report())
            .chain(self.exit.report())
            .chain(self.entry.report())
            .chain(report("EPT and VPID", self.ept_vpid))
    }
}
