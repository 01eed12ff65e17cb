//! A vCPU in VT-x: the neutral interface over the current VMCS.

use core::arch::asm;

use super::capability::Capabilities;
use super::controls::{AccessRights, Entry, Interruptibility, PENDING_STEP, Primary};
use super::enter::Switch;
use super::field::{self, Segment, VmcsWrite};
use super::live::Live;
use super::policy::Controls;
use super::vmcs::{ActiveVmcs, Vmcs};
use crate::hw::check::DEBUGCTL_BTF;
use crate::hw::common::Common;
use crate::vm::image::Start;
use crate::vm::{Features, Hardware};

/// What belongs to a vCPU and stays when it leaves the CPU.
#[derive(Debug)]
pub struct State {
    /// The controls as the policy has them.
    pub controls: Controls,
    /// The primary controls as they stand in the VMCS.
    pub primary: Primary,
    /// The entry controls as they stand in the VMCS.
    pub entry: Entry,
    /// The world switch's own.
    pub switch: Switch,
    /// What it has with any vendor.
    pub common: Common,
    /// The EPT pointer.
    pub eptp: u64,
    /// The VPID as it stands in the VMCS; 0 for not yet.
    pub vpid: u16,
    /// The number of the CPU whose state an exit loads, and one more; 0 for none.
    pub host: usize,
    /// Its VMCS.
    pub vmcs: Vmcs,
    /// Pages that its controls point to.
    pub pages: Pages,
    /// Where it starts, until its VMCS has been written.
    pub start: Option<(Start, u64)>,
    /// What stays in the CPU while it runs.
    pub live: Live,
}

/// Pages that a vCPU's controls point to.
#[derive(Clone, Copy, Debug)]
pub struct Pages {
    /// The local APIC's registers.
    pub apic: u64,
    /// The page whose accesses mean the local APIC, where the CPU treats them apart.
    pub apic_access: u64,
    /// Two pages that let every port exit.
    pub io_bitmaps: u64,
    /// The MSR bitmaps of the VM, if they are used: a page for xAPIC mode, and behind it one for x2APIC mode.
    pub msr_bitmaps: Option<u64>,
}

/// A vCPU that runs on this CPU.
pub struct Guest<'a> {
    /// Its VMCS.
    pub vmcs: ActiveVmcs<'a>,
    /// What stays when it leaves.
    pub state: &'a mut State,
    /// What the CPU can do.
    pub caps: &'a Capabilities,
    /// The VMX-preemption timer counts when this bit of the TSC changes.
    pub timer_shift: u8,
}

impl Guest<'_> {
    pub(super) fn rights(&self, segment: Segment) -> AccessRights {
        AccessRights::from_bits_retain(self.vmcs.get(segment.access_rights()))
    }

    pub(super) fn interruptibility(&self) -> Interruptibility {
        let bits = self.vmcs.get(field::GUEST_INTERRUPTIBILITY_STATE);
        Interruptibility::from_bits_retain(bits)
    }

    pub(super) fn set_interruptibility(&mut self, state: Interruptibility) {
        self.vmcs.write(field::GUEST_INTERRUPTIBILITY_STATE, state.bits());
    }

    pub(super) fn qualification(&self) -> u64 {
        self.vmcs.get(field::EXIT_QUALIFICATION)
    }

    pub(super) fn set_primary(&mut self, primary: Primary) {
        if primary != self.state.primary {
            self.state.primary = primary;
            self.vmcs.write(field::PRIMARY_CONTROLS, primary.bits());
        }
    }

    pub(super) fn has(&self, feature: Features) -> bool {
        self.state.controls.features.contains(feature)
    }

    /// Drops all of the guest's translations, of its addresses too.
    pub(super) fn flush(&mut self) {
        let descriptor = [self.state.eptp, 0u64];
        // SAFETY: invalidates translations only; single-context is there, or the CPU was refused.
        unsafe {
            asm!("invept {}, [{}]", in(reg) 1u64, in(reg) &raw const descriptor, options(nostack, readonly));
        }
        self.flush_guest(None);
    }

    /// Gives the guest this VPID, with no translation under any if `flush`.
    #[inline]
    pub(super) fn tag(&mut self, vpid: u16, flush: bool) {
        if vpid != self.state.vpid {
            self.state.vpid = vpid;
            self.vmcs.write(field::VIRTUAL_PROCESSOR_IDENTIFIER, vpid);
        }
        if flush {
            self.invvpid(2, 0);
        }
    }

    pub(super) fn invvpid(&self, kind: u64, linear: u64) {
        let descriptor = [u64::from(self.state.vpid), linear];
        // SAFETY: invalidates translations only; the types used are there where VPIDs are.
        unsafe {
            asm!("invvpid {}, [{}]", in(reg) kind, in(reg) &raw const descriptor, options(nostack, readonly));
        }
    }
}

impl Guest<'_> {
    /// A single step over an instruction that exited traps behind it, as if it had not (SDM vol. 3,
    /// Debug Exceptions). With BTF only branches trap, and none of them exits.
    #[cold]
    pub(super) fn single_step(&mut self) {
        if self.vmcs.get(field::GUEST_IA32_DEBUGCTL) & DEBUGCTL_BTF == 0 {
            let pending = self.vmcs.get(field::GUEST_PENDING_DEBUG_EXCEPTIONS);
            self.vmcs.write(field::GUEST_PENDING_DEBUG_EXCEPTIONS, pending | PENDING_STEP);
        }
    }
}
