//! A vCPU in AMD-V: what stays when it leaves the CPU, and what it has on one.

use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::capability::{Capabilities, SvmFeatures};
use super::intercept::{Clean, Misc1};
use super::policy::Controls;
use super::vendor::Cpu;
use super::vmcb::{TLB_FLUSH_ALL, TLB_FLUSH_ASID, V_IGNORE_TPR, V_INTR_MASKING, V_IRQ, Vmcb};
use crate::hw::common::Common;
use crate::hw::local_apic::Timer;
use crate::hw::tags::{Choice, Flush};
use crate::vm::Exit;

/// The VMCB of a vCPU.
#[derive(Debug)]
pub struct VmcbPage(NonNull<Vmcb>);

// SAFETY: the page belongs to the vCPU and goes with it from CPU to CPU.
unsafe impl Send for VmcbPage {}

impl VmcbPage {
    /// # Safety
    ///
    /// `page` is a zeroed page of memory, identity mapped, that nobody else uses as long as this lives.
    pub unsafe fn new(page: u64) -> Option<VmcbPage> {
        NonNull::new(page as *mut Vmcb).map(VmcbPage)
    }

    /// Its physical address.
    pub fn address(&self) -> u64 {
        self.0.as_ptr() as u64
    }
}

impl Deref for VmcbPage {
    type Target = Vmcb;

    #[inline(always)]
    fn deref(&self) -> &Vmcb {
        // SAFETY: the page is ours and any bytes are a `Vmcb`. The CPU uses it within VMRUN, VMLOAD and
        // VMSAVE alone, which are executed while no reference to it is alive.
        unsafe { self.0.as_ref() }
    }
}

impl DerefMut for VmcbPage {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut Vmcb {
        // SAFETY: as in `deref`.
        unsafe { self.0.as_mut() }
    }
}

/// What belongs to a vCPU.
#[derive(Debug)]
pub struct State {
    /// Its VMCB.
    pub vmcb: VmcbPage,
    /// What exits by its policy.
    pub controls: Controls,
    /// What it has with any vendor.
    pub common: Common,
    /// CR0.CD and NW as the guest wrote them: they have no effect.
    pub hidden_cr0: u64,
    /// From an NMI to its IRET.
    pub nmi_blocked: bool,
    /// The IRET of an NMI's handler is being stepped over; DR6 before it.
    pub stepping: Option<u64>,
    /// An event waits for the next instruction: the timer ends guest mode behind it, as this exit.
    pub hurry: Option<Exit>,
}

/// A vCPU that runs on this CPU.
pub struct Guest<'a> {
    /// What stays when it leaves.
    pub state: &'a mut State,
    /// The CPU.
    pub cpu: &'a mut Cpu,
    /// What the CPU can do.
    pub caps: &'a Capabilities,
    /// The timer that ends time slices.
    pub timer: Timer,
    /// The TSC that the timer is armed for; 0 if it is not.
    pub armed: u64,
    /// The CPU says where the next instruction starts.
    pub next_rip: bool,
}

impl Guest<'_> {
    pub(super) fn has(&self, feature: SvmFeatures) -> bool {
        self.caps.features.contains(feature)
    }

    /// Writes the intercepts that depend on the state, as it is now.
    pub(super) fn set_intercepts(&mut self, window: bool) {
        let State { vmcb, controls, hidden_cr0, nmi_blocked, .. } = &mut *self.state;
        let control = &mut vmcb.control;
        let cr0 = u16::from(*hidden_cr0 != 0);
        let mut misc1 = controls.misc1;
        misc1.set(Misc1::IRET, *nmi_blocked);
        misc1.set(Misc1::VINTR, window);
        control.cr_reads = controls.cr_reads | cr0;
        control.cr_writes = controls.cr_writes | cr0;
        control.misc1 = misc1.bits();
        control.virtual_interrupts = V_INTR_MASKING | if window { V_IRQ | V_IGNORE_TPR } else { 0 };
        control.changed(Clean::INTERCEPTS | Clean::TPR);
    }

    /// Whether an exit is asked for as soon as the guest can take an interrupt.
    pub(super) fn window(&self) -> bool {
        self.state.vmcb.control.virtual_interrupts & V_IRQ != 0
    }

    /// Has the timer end guest mode at once, as this exit, or no more.
    pub(super) fn hurry(&mut self, exit: Option<Exit>) {
        self.state.hurry = exit;
        self.armed = 0;
    }

    /// The guest's translations go before the next entry.
    pub(super) fn flush(&mut self) {
        self.tag(true);
    }

    /// Gives the guest a tag of this CPU's.
    pub(super) fn tag(&mut self, flush: bool) {
        let Choice { tag: asid, flush } = self.cpu.tags.choose(&mut self.state.common.tag, flush);
        let tlb_control = match flush {
            Flush::Nothing => 0,
            Flush::Tag => TLB_FLUSH_ASID,
            Flush::All => TLB_FLUSH_ALL,
        };
        let control = &mut self.state.vmcb.control;
        // What is owed already is not taken back by less.
        if tlb_control != 0 && control.tlb_control != TLB_FLUSH_ALL {
            control.tlb_control = tlb_control;
        }
        if control.asid != asid {
            control.asid = asid;
            control.changed(Clean::ASID);
        }
    }
}
