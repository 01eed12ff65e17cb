//! The execution policies as VMX controls.

use super::capability::{Capabilities, MissingControls};
use super::controls::{Controls as _, Entry, Exit, PinBased, Primary, Secondary};
use crate::hw::limits::CR4_KNOWN;
use crate::vm::{Features, Policy};

/// What exits under `trap-all`, beside what exits under every policy and for want of a feature.
const TRAP_ALL: Primary = Primary::INVLPG_EXITING
    .union(Primary::RDTSC_EXITING)
    .union(Primary::CR3_LOAD_EXITING)
    .union(Primary::CR3_STORE_EXITING)
    .union(Primary::MOV_DR_EXITING)
    .union(Primary::PAUSE_EXITING);

/// Bits of CR0 that the hypervisor owns: PE and PG, because EFER.LMA follows them; ET and NE, which
/// VMX holds at 1; NW and CD, because the guest has no say in the host's caches.
pub const CR0_OWNED: u64 = 1 << 0 | 1 << 4 | 1 << 5 | 1 << 29 | 1 << 30 | 1 << 31;
/// Bits of CR4 that the hypervisor owns: PAE and PCIDE, whose changes have conditions on the mode,
/// MCE and VMXE, which are the host's, and all that it does not know.
pub const CR4_OWNED: u64 = !(CR4_KNOWN & !(1 << 5 | 1 << 6 | 1 << 13 | 1 << 17));

/// PAUSEs that are no farther apart belong to one loop, in TSC ticks.
pub const PLE_GAP: u32 = 128;
/// Such a loop exits after so many TSC ticks: longer than whoever runs has a lock, and no more than it costs to
/// let another run.
pub const PLE_WINDOW: u32 = 4096;

/// The controls of a VM.
#[derive(Clone, Copy, Debug)]
pub struct Controls {
    /// Pin-based.
    pub pin_based: PinBased,
    /// Primary processor-based.
    pub primary: Primary,
    /// Secondary processor-based, without those that follow the mode of the virtual APIC.
    pub secondary: Secondary,
    /// VM exit.
    pub exit: Exit,
    /// VM entry.
    pub entry: Entry,
    /// The exception bitmap.
    pub exceptions: u32,
    /// The CR0 guest/host mask.
    pub cr0_mask: u64,
    /// The CR4 guest/host mask.
    pub cr4_mask: u64,
    /// The features that the VM has.
    pub features: Features,
}

/// The features that a VM has: those of the CPU that the policy uses, less what the description
/// takes away. The two halves of APIC virtualization are used together or not at all: with one of them
/// software would have to follow the task priority that the CPU keeps.
pub fn features(policy: Policy, cpu: Features, without: Features) -> Features {
    let mut features = cpu & policy.features() & !without;
    let apic = Features::APIC_REGISTERS | Features::VIRTUAL_INTERRUPTS;
    if !features.contains(apic) {
        features.remove(apic);
    }
    features | Features::PREEMPTION_TIMER
}

/// Works out the controls.
///
/// # Errors
///
/// What the CPU would have to have.
pub fn controls(
    policy: Policy,
    features: Features,
    caps: &Capabilities,
) -> Result<Controls, MissingControls> {
    let trap_all = policy == Policy::TrapAll;
    let either = |feature, with: Primary, without: Primary| {
        if features.contains(feature) { with } else { without }
    };
    let task_priority = Primary::CR8_LOAD_EXITING | Primary::CR8_STORE_EXITING;
    let primary = if trap_all { TRAP_ALL } else { Primary::empty() }
        | either(Features::MSR_BITMAP, Primary::USE_MSR_BITMAPS, Primary::empty())
        | either(Features::IO_BITMAP, Primary::USE_IO_BITMAPS, Primary::UNCONDITIONAL_IO_EXITING)
        | either(Features::APIC_REGISTERS, Primary::USE_TPR_SHADOW, task_priority);
    let table = [
        (Features::VPID, Secondary::ENABLE_VPID),
        (Features::RDTSCP, Secondary::ENABLE_RDTSCP),
        (Features::INVPCID, Secondary::ENABLE_INVPCID),
        (Features::XSAVES, Secondary::ENABLE_XSAVES_XRSTORS),
        (Features::APIC_REGISTERS, Secondary::APIC_REGISTER_VIRTUALIZATION),
        (Features::VIRTUAL_INTERRUPTS, Secondary::VIRTUAL_INTERRUPT_DELIVERY),
        (Features::PAUSE_LOOP_EXITING, Secondary::PAUSE_LOOP_EXITING),
    ];
    let there = table.into_iter().filter(|(feature, _)| features.contains(*feature));
    let secondary = there.map(|(_, control)| control).collect();
    Ok(Controls {
        pin_based: caps.pin_based.adjust(PinBased::ALWAYS, PinBased::empty())?,
        primary: caps.primary.adjust(primary, Primary::empty())?,
        secondary: caps.secondary.adjust(secondary, Secondary::WBINVD_EXITING)?,
        exit: caps.exit.adjust(Exit::ALWAYS, Exit::empty())?,
        entry: caps.entry.adjust(Entry::ALWAYS, Entry::empty())?,
        exceptions: Policy::EXCEPTIONS_ALWAYS
            | if trap_all { Policy::EXCEPTIONS_TRAP_ALL } else { 0 },
        cr0_mask: if trap_all { u64::MAX } else { CR0_OWNED },
        cr4_mask: if trap_all { u64::MAX } else { CR4_OWNED },
        features,
    })
}

#[cfg(test)]
mod tests {
    use super::super::capability::tests::Fake;
    use super::*;

    #[test]
    fn a_policy_asks_for_its_exits() {
        let caps = Fake::rich().capabilities().unwrap();
        let ask = |policy, without| {
            let features = features(policy, Features::all(), without);
            let controls = controls(policy, features, &caps).unwrap();
            controls.primary.bits() & !0x0400_6172
        };
        let apic = Features::APIC_REGISTERS;
        assert_eq!(ask(Policy::HwAssist, Features::empty()), 0xb220_0c88);
        assert_eq!(ask(Policy::HwAssist, apic | Features::IO_BITMAP), 0xb118_0c88);
        assert_eq!(ask(Policy::TrapAll, Features::empty()), 0xe199_9e88);
        assert_eq!(ask(Policy::Pv, apic), ask(Policy::HwAssist, apic));
    }
}
