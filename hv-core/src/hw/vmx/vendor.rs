//! VT-x, as bring-up and the scheduler see it.

extern crate alloc;

use alloc::string::ToString;

use super::capability::Capabilities;
use super::controls::Entry;
use super::enter::Switch;
use super::ept;
use super::guest::{Guest, Pages, State};
use super::live::{Live, Syscall};
use super::msr_bitmap;
use super::policy;
use super::setup;
use super::vmcs::{Vmcs, VmxOn};
use crate::hw::common::{Common, on_cpu};
use crate::hw::cpu::HostSegments;
use crate::hw::limits::Limits;
use crate::hw::tags::{Choice, Flush, Tags};
use crate::hw::vendor::{self, Made, MakeError, Vendor, Visit};
use crate::mem::frames::{Frames, PAGE};
use crate::mem::nested::Format;
use crate::vm::image::Start;
use crate::vm::{Features, Policy, Vcpu};

/// VT-x on this machine.
pub struct Vmx {
    caps: Capabilities,
    /// Two pages of ones, so that every port exits.
    io_bitmaps: u64,
}

impl Vmx {
    /// `None` if memory is short.
    pub fn new(caps: Capabilities, frames: &mut Frames) -> Option<Vmx> {
        let io_bitmaps = frames.allocate(PAGE.wrapping_mul(2), PAGE)?.start;
        // SAFETY: just allocated and mapped.
        unsafe { core::ptr::write_bytes(io_bitmaps as *mut u8, 0xff, 8192) };
        Some(Vmx { caps, io_bitmaps })
    }
}

/// VPIDs, with 0, which is the hypervisor's own.
const VPIDS: u32 = 1 << 16;

/// A CPU in VMX operation.
pub struct Cpu {
    on: VmxOn,
    tags: Tags,
    segments: HostSegments,
    /// Its number, and one more.
    number: usize,
    /// The MSRs of SYSCALL as they are in it.
    syscall: Syscall,
}

impl Vendor for Vmx {
    type Cpu = Cpu;
    type State = State;
    type Guest<'a> = Guest<'a>;

    const NESTED: &'static Format = &ept::EPT;

    fn log(&self) {
        vendor::log("VMX", self.caps.revision, self.caps.report());
    }

    fn limits(&self) -> Limits {
        self.caps.limits
    }

    fn features(&self, policy: Policy, without: Features) -> Features {
        policy::features(policy, self.caps.features(), without)
    }

    fn enable(
        &self,
        frames: &mut Frames,
        segments: &HostSegments,
        index: usize,
    ) -> Option<Result<Cpu, &'static str>> {
        let on = VmxOn::enter(frames, &self.caps, index)?;
        let refused = "the CPU refused VMXON: virtualization may be in use by firmware";
        let tags = Tags::new(index, VPIDS, true);
        Some(
            on.map(|on| Cpu {
                on,
                tags,
                segments: *segments,
                number: index.wrapping_add(1),
                syscall: Syscall::of_this_cpu(),
            })
            .map_err(|_| refused),
        )
    }

    fn permissions(&self, frames: &mut Frames, features: Features) -> Option<u64> {
        if !features.contains(Features::MSR_BITMAP) {
            return Some(0);
        }
        let pages = frames.allocate(PAGE.wrapping_mul(2), PAGE)?.start;
        for (x2apic, page) in [(false, pages), (true, pages.wrapping_add(PAGE))] {
            // SAFETY: just allocated, mapped, and never given back; any bytes make a map.
            let map = unsafe { &mut *(page as *mut msr_bitmap::Page) };
            msr_bitmap::fill(map, x2apic, &features);
        }
        Some(pages)
    }

    fn make(&self, frames: &mut Frames, cpu: &Cpu, made: Made) -> Result<State, MakeError> {
        let controls = policy::controls(made.policy, made.features, &self.caps)
            .map_err(|missing| MakeError::Missing(missing.to_string()))?;
        let has_bitmaps = made.features.contains(Features::MSR_BITMAP);
        let vmcs = Vmcs::new(frames, &self.caps, &cpu.on).ok_or(MakeError::NoMemory)?;
        Ok(State {
            controls,
            primary: controls.primary,
            entry: controls.entry.difference(Entry::IA32E_MODE_GUEST),
            switch: Switch::default(),
            eptp: ept::pointer(made.translations.root),
            vpid: 0,
            host: 0,
            vmcs,
            pages: Pages {
                apic: made.apic,
                apic_access: made.apic_access,
                io_bitmaps: self.io_bitmaps,
                msr_bitmaps: has_bitmaps.then_some(made.permissions),
            },
            start: None,
            live: Live::RESET,
            common: Common::new(made),
        })
    }

    fn reset(&self, state: &mut State, start: Start, tsc_offset: u64) {
        state.live = Live::RESET;
        state.start = Some((start, tsc_offset));
        state.common.reset();
    }

    fn with_guest<T: Visit>(
        &self,
        cpu: &mut Cpu,
        state: &mut State,
        vcpu: &mut Vcpu,
        visit: T,
    ) -> Option<T::Answer> {
        let vmcs = state.vmcs.activate(&mut cpu.on).ok()?;
        let timer_shift = self.caps.preemption_timer_shift;
        let mut guest = Guest { vmcs, state, caps: &self.caps, timer_shift };
        if guest.has(Features::VPID) {
            let Choice { tag, flush } = cpu.tags.choose(&mut guest.state.common.tag, false);
            guest.tag(tag as u16, flush == Flush::All);
        }
        if guest.state.host != cpu.number {
            guest.state.host = cpu.number;
            setup::host(&mut guest, &cpu.segments);
        }
        if let Some((start, tsc_offset)) = guest.state.start.take() {
            setup::controls(&mut guest);
            setup::guest(&mut guest, start, tsc_offset);
        }
        if !guest.state.common.loaded {
            guest.state.live.load(&mut cpu.syscall);
        }
        Some(on_cpu(vcpu, &mut guest, visit))
    }

    #[inline]
    fn put_away(&self, cpu: &mut Cpu, state: &mut State, vcpu: &mut Vcpu, moves: bool) {
        if state.common.put_away(vcpu, false) {
            state.live.save(&mut cpu.syscall);
        }
        if moves {
            state.vmcs.clear(&mut cpu.on);
        }
    }
}
