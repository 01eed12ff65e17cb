//! The virtualization extension of this machine, whose ever it is. This is the one place, from boot on, that knows
//! there are two: what is above is compiled once, and what is below is called for each turn of a vCPU, not for each
//! exit.

use super::common::Common;
use super::cpu::HostSegments;
use super::find::Found;
use super::limits::Limits;
use super::local_apic::Timer;
use super::svm::{self, vendor::Svm};
use super::translations::Translations;
use super::vendor::{Made, MakeError, Vendor, Visit};
use super::vmx::{self, vendor::Vmx};
use crate::mem::frames::Frames;
use crate::mem::nested::Format;
use crate::vm::image::Start;
use crate::vm::{Features, Policy, Vcpu};

/// The extension on this machine.
pub enum Extension {
    /// VT-x.
    Vmx(Vmx),
    /// AMD-V.
    Svm(Svm),
}

/// A CPU on which it is on.
pub enum Cpu {
    /// With VT-x.
    Vmx(vmx::vendor::Cpu),
    /// With AMD-V.
    Svm(svm::vendor::Cpu),
}

/// What it keeps of a vCPU.
pub enum State {
    /// With VT-x.
    Vmx(vmx::guest::State),
    /// With AMD-V.
    Svm(svm::guest::State),
}

/// The same of either.
macro_rules! either {
    ($kind:ident, $of:expr, $name:ident => $answer:expr) => {
        match $of {
            $kind::Vmx($name) => $answer,
            $kind::Svm($name) => $answer,
        }
    };
}

impl State {
    fn common(&mut self) -> &mut Common {
        either!(State, self, state => &mut state.common)
    }

    /// Whether what stays in a CPU of the vCPU is there.
    #[inline]
    pub fn is_loaded(&self) -> bool {
        either!(State, self, state => state.common.loaded)
    }

    /// Brings what stays in the CPU while the vCPU runs to its state after reset.
    pub fn power_up(&mut self) {
        self.common().live.reset();
    }

    /// The VM's memory.
    pub fn translations(&mut self) -> &mut Translations {
        &mut self.common().translations
    }
}

impl Extension {
    /// The one that was found. `timer` ends time slices where the extension has no timer of its own. `None` if
    /// memory is short.
    pub fn new(found: Found, frames: &mut Frames, timer: Timer) -> Option<Extension> {
        match found {
            Found::Vmx(caps) => Vmx::new(caps, frames).map(Extension::Vmx),
            Found::Svm(caps) => Svm::new(caps, frames, timer).map(Extension::Svm),
        }
    }

    /// As [`Vendor::log`].
    pub fn log(&self) {
        either!(Extension, self, vendor => vendor.log());
    }

    /// As [`Vendor::limits`].
    pub fn limits(&self) -> Limits {
        either!(Extension, self, vendor => vendor.limits())
    }

    /// As [`Vendor::NESTED`].
    pub fn nested(&self) -> &'static Format {
        match self {
            Extension::Vmx(_) => Vmx::NESTED,
            Extension::Svm(_) => Svm::NESTED,
        }
    }

    /// As [`Vendor::features`].
    pub fn features(&self, policy: Policy, without: Features) -> Features {
        either!(Extension, self, vendor => vendor.features(policy, without))
    }

    /// As [`Vendor::enable`].
    pub fn enable(
        &self,
        frames: &mut Frames,
        segments: &HostSegments,
        index: usize,
    ) -> Option<Result<Cpu, &'static str>> {
        Some(match self {
            Extension::Vmx(vmx) => vmx.enable(frames, segments, index)?.map(Cpu::Vmx),
            Extension::Svm(svm) => svm.enable(frames, segments, index)?.map(Cpu::Svm),
        })
    }

    /// As [`Vendor::permissions`].
    pub fn permissions(&self, frames: &mut Frames, features: Features) -> Option<u64> {
        either!(Extension, self, vendor => vendor.permissions(frames, features))
    }

    /// As [`Vendor::make`], on a CPU with the same extension.
    pub fn make(&self, frames: &mut Frames, cpu: &Cpu, made: Made) -> Result<State, MakeError> {
        match (self, cpu) {
            (Extension::Vmx(vmx), Cpu::Vmx(cpu)) => vmx.make(frames, cpu, made).map(State::Vmx),
            (Extension::Svm(svm), Cpu::Svm(cpu)) => svm.make(frames, cpu, made).map(State::Svm),
            _ => Err(MakeError::NoMemory),
        }
    }

    /// As [`Vendor::reset`].
    pub fn reset(&self, state: &mut State, start: Start, tsc_offset: u64) {
        match (self, state) {
            (Extension::Vmx(vmx), State::Vmx(state)) => vmx.reset(state, start, tsc_offset),
            (Extension::Svm(svm), State::Svm(state)) => svm.reset(state, start, tsc_offset),
            _ => {}
        }
    }

    /// As [`Vendor::with_guest`]; everything here is of the same extension.
    #[inline]
    pub fn with_guest<T: Visit>(
        &self,
        cpu: &mut Cpu,
        state: &mut State,
        vcpu: &mut Vcpu,
        visit: T,
    ) -> Option<T::Answer> {
        match (self, cpu, state) {
            (Extension::Vmx(vmx), Cpu::Vmx(cpu), State::Vmx(state)) => {
                vmx.with_guest(cpu, state, vcpu, visit)
            }
            (Extension::Svm(svm), Cpu::Svm(cpu), State::Svm(state)) => {
                svm.with_guest(cpu, state, vcpu, visit)
            }
            _ => None,
        }
    }

    /// As [`Vendor::put_away`]; everything here is of the same extension.
    #[inline(always)]
    pub fn put_away(&self, cpu: &mut Cpu, state: &mut State, vcpu: &mut Vcpu, moves: bool) {
        match (self, cpu, state) {
            (Extension::Vmx(vmx), Cpu::Vmx(cpu), State::Vmx(state)) => {
                vmx.put_away(cpu, state, vcpu, moves);
            }
            (Extension::Svm(svm), Cpu::Svm(cpu), State::Svm(state)) => {
                svm.put_away(cpu, state, vcpu, moves);
            }
            _ => {}
        }
    }
}
