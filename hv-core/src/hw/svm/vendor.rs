//! AMD-V, as bring-up and the scheduler see it.

use core::arch::asm;

use super::capability::{self, Capabilities, SvmFeatures, VM_CR};
use super::guest::{Guest, State, VmcbPage};
use super::npt::NPT;
use super::permission::{self, IO_MAP, MSR_MAP};
use super::policy;
use super::setup;
use super::vmcb::TLB_FLUSH_ALL;
use crate::emulate::msr::table;
use crate::hw::check::efer;
use crate::hw::common::{Common, on_cpu};
use crate::hw::cpu::HostSegments;
use crate::hw::instructions::{rdmsr, wrmsr};
use crate::hw::limits::Limits;
use crate::hw::live;
use crate::hw::local_apic::Timer;
use crate::hw::physical::zeroed_page;
use crate::hw::tags::Tags;
use crate::hw::vendor::{self, Made, MakeError, Vendor, Visit};
use crate::mem::frames::{Frames, PAGE};
use crate::mem::nested::Format;
use crate::vm::image::Start;
use crate::vm::{Features, Policy, Vcpu};

const EFER: u32 = 0xc000_0080;
/// INIT becomes #SX, which the hypervisor ignores, instead of a reset in the middle of it.
const VM_CR_R_INIT: u64 = 1 << 1;
const VM_HSAVE_PA: u32 = 0xc001_0117;

/// AMD-V on this machine.
pub struct Svm {
    caps: Capabilities,
    /// The I/O permission map, all ones: every port exits.
    iopm: u64,
    timer: Timer,
}

/// A CPU with SVM on.
#[derive(Debug)]
pub struct Cpu {
    /// The VMCB that holds the host's state of VMLOAD and VMSAVE.
    pub host: u64,
    /// Tags for translations.
    pub tags: Tags,
}

impl Svm {
    /// `timer` ends time slices. `None` if memory is short.
    pub fn new(caps: Capabilities, frames: &mut Frames, timer: Timer) -> Option<Svm> {
        let iopm = frames.allocate(IO_MAP as u64, PAGE)?.start;
        // SAFETY: just allocated and mapped.
        unsafe { core::ptr::write_bytes(iopm as *mut u8, 0xff, IO_MAP) };
        Some(Svm { caps, iopm, timer })
    }
}

impl Vendor for Svm {
    type Cpu = Cpu;
    type State = State;
    type Guest<'a> = Guest<'a>;

    const NESTED: &'static Format = &NPT;

    fn log(&self) {
        vendor::log("SVM", self.caps.revision.into(), self.caps.report());
        defmt::info!("SVM: {=u32} ASIDs", self.caps.asids);
    }

    fn limits(&self) -> Limits {
        self.caps.limits
    }

    fn features(&self, policy: Policy, without: Features) -> Features {
        let cpu = self.caps.features();
        // Without these the guest could use the instructions all the same: nothing turns them off.
        let fixed = cpu & (Features::RDTSCP | Features::INVPCID);
        cpu & policy.features() & !without | fixed
    }

    fn enable(
        &self,
        frames: &mut Frames,
        _segments: &HostSegments,
        index: usize,
    ) -> Option<Result<Cpu, &'static str>> {
        let (save, host) = (zeroed_page(frames)?, zeroed_page(frames)?);
        // SAFETY: VM_CR comes with SVM, which every CPU of this machine has.
        let Some(control) = capability::unlocked(unsafe { rdmsr(VM_CR) }) else {
            return Some(Err("firmware has locked SVM off on this CPU, and not on the first"));
        };
        // SAFETY: SVM is not locked off. The pages are the CPU's own from here on.
        unsafe {
            wrmsr(VM_CR, control | VM_CR_R_INIT);
            wrmsr(EFER, rdmsr(EFER) | efer::SVME);
            wrmsr(VM_HSAVE_PA, save);
            asm!("vmsave rax", in("rax") host, options(nostack));
        }
        let by_asid = self.caps.features.contains(SvmFeatures::FLUSH_BY_ASID);
        Some(Ok(Cpu { host, tags: Tags::new(index, self.caps.asids, by_asid) }))
    }

    fn permissions(&self, frames: &mut Frames, features: Features) -> Option<u64> {
        let page = frames.allocate(MSR_MAP as u64, PAGE)?.start;
        // SAFETY: just allocated, mapped, and never given back; any bytes make a map.
        let map = unsafe { &mut *(page as *mut [u8; MSR_MAP]) };
        match features.contains(Features::MSR_BITMAP) {
            true => {
                permission::fill(map, &[table::PASS, table::PASS_SWITCHED], &[table::PASS_READ])
            }
            false => permission::fill(map, &[], &[]),
        }
        Some(page)
    }

    fn make(&self, frames: &mut Frames, _cpu: &Cpu, made: Made) -> Result<State, MakeError> {
        let page = zeroed_page(frames).ok_or(MakeError::NoMemory)?;
        // SAFETY: just allocated, zeroed, and never given back.
        let mut vmcb = unsafe { VmcbPage::new(page) }.ok_or(MakeError::NoMemory)?;
        let controls = policy::controls(made.policy, made.features, self.caps.cr4_passes);
        setup::controls(&mut vmcb.control, &controls);
        vmcb.control.iopm = self.iopm;
        vmcb.control.msrpm = made.permissions;
        vmcb.control.nested_cr3 = made.translations.root;
        let lbr = self.caps.features.contains(SvmFeatures::LBR_VIRTUALIZATION);
        vmcb.control.lbr_virtualization = lbr.into();
        Ok(State {
            vmcb,
            controls,
            common: Common::new(made),
            hidden_cr0: 0,
            nmi_blocked: false,
            stepping: None,
            hurry: None,
        })
    }

    fn reset(&self, state: &mut State, start: Start, tsc_offset: u64) {
        setup::guest(state, start, tsc_offset);
        state.common.reset();
    }

    fn with_guest<T: Visit>(
        &self,
        cpu: &mut Cpu,
        state: &mut State,
        vcpu: &mut Vcpu,
        visit: T,
    ) -> Option<T::Answer> {
        if !state.common.loaded {
            // It may have run elsewhere since.
            state.vmcb.control.clean = 0;
            live::set_cr2(state.vmcb.save.cr2);
        }
        let next_rip = self.caps.features.contains(SvmFeatures::NEXT_RIP);
        let (caps, timer) = (&self.caps, self.timer);
        let mut guest = Guest { state, cpu, caps, timer, armed: 0, next_rip };
        guest.tag(false);
        let result = on_cpu(vcpu, &mut guest, visit);
        // A flush of every ASID that no VMRUN has done is still owed to those who get one next.
        if guest.state.vmcb.control.tlb_control == TLB_FLUSH_ALL {
            guest.cpu.tags.forget();
        }
        Some(result)
    }

    #[inline]
    fn put_away(&self, _cpu: &mut Cpu, state: &mut State, vcpu: &mut Vcpu, _moves: bool) {
        // QEMU 7.2 does not know the intercept of XSETBV.
        state.common.put_away(vcpu, true);
    }
}
