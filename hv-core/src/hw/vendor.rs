//! What a vendor's extension is asked for: see [`Extension`](super::extension::Extension), by which bring-up and
//! the scheduler ask it.

extern crate alloc;

use alloc::string::String;

use super::cpu::HostSegments;
use super::limits::Limits;
use super::translations::Translations;
use crate::mem::frames::Frames;
use crate::mem::nested::Format;
use crate::vm::hardware::Backend;
use crate::vm::image::Start;
use crate::vm::{Features, Policy, Vcpu};

/// What a vCPU is made from.
pub struct Made {
    /// The policy of its VM.
    pub policy: Policy,
    /// The features of its VM.
    pub features: Features,
    /// The VM's number.
    pub vm: u8,
    /// The VM's memory.
    pub translations: Translations,
    /// The page of the local APIC's registers.
    pub apic: u64,
    /// What [`Vendor::permissions`] made for the VM.
    pub permissions: u64,
    /// Room for the registers that XSAVE knows: at a multiple of 64, and enough for all that a guest may have.
    pub extended: &'static mut [u8],
    /// Whether the CPU has RDTSCP, and so TSC_AUX.
    pub rdtscp: bool,
    /// The page whose accesses mean the local APIC, where the CPU treats them apart.
    pub apic_access: u64,
}

/// Why no vCPU can be made.
#[derive(Debug)]
pub enum MakeError {
    /// Memory is short.
    NoMemory,
    /// The CPU lacks what the policy needs: this.
    Missing(String),
}

/// Says in the log which capabilities the extension has, and by name what it lacks.
pub fn log(
    extension: &str,
    revision: u32,
    capabilities: impl Iterator<Item = (&'static str, &'static str, bool)>,
) {
    let (mut present, mut all) = (0u32, 0u32);
    for (set, name, there) in capabilities {
        all = all.wrapping_add(1);
        if there {
            present = present.wrapping_add(1);
            defmt::debug!("{=str} has {=str}: {=str}", extension, set, name);
        } else {
            defmt::info!("{=str} lacks {=str}: {=str}", extension, set, name);
        }
    }
    defmt::info!(
        "{=str}: {=u32} of {=u32} capabilities, revision {=u32:#x}",
        extension,
        present,
        all,
        revision
    );
}

/// What is done with a vCPU that is on a CPU, whatever the vendor.
pub trait Visit {
    /// What comes of it.
    type Answer;

    /// Does it.
    fn visit(self, vcpu: &mut Vcpu, guest: &mut impl Backend) -> Self::Answer;
}

/// A vendor's virtualization extension on this machine.
pub trait Vendor: Sized + Sync + 'static {
    /// A CPU on which it is on.
    type Cpu;
    /// What it keeps of a vCPU.
    type State: Send;
    /// A vCPU on a CPU.
    type Guest<'a>: Backend;

    /// The entries of its nested page tables.
    const NESTED: &'static Format;

    /// Says in the log what the extension has here, and by name what it lacks.
    fn log(&self);

    /// What guests may have.
    fn limits(&self) -> Limits;

    /// The features of a VM: those of the CPU that the policy uses, less what its description takes
    /// away.
    fn features(&self, policy: Policy, without: Features) -> Features;

    /// Turns the extension on, on this CPU, whose number is `index`. `None` if memory is short.
    ///
    /// # Errors
    ///
    /// Why the CPU refuses.
    fn enable(
        &self,
        frames: &mut Frames,
        segments: &HostSegments,
        index: usize,
    ) -> Option<Result<Self::Cpu, &'static str>>;

    /// Makes the maps that let some accesses of a VM with these features pass, and gives their address: its vCPUs
    /// share them. `None` if memory is short.
    fn permissions(&self, frames: &mut Frames, features: Features) -> Option<u64>;

    /// Makes a vCPU, which must be [`reset`](Vendor::reset) before it runs.
    ///
    /// # Errors
    ///
    /// [`MakeError`].
    fn make(
        &self,
        frames: &mut Frames,
        cpu: &Self::Cpu,
        made: Made,
    ) -> Result<Self::State, MakeError>;

    /// Brings the vCPU to its start.
    fn reset(&self, state: &mut Self::State, start: Start, tsc_offset: u64);

    /// Puts a vCPU on this CPU, with all of its state, and does `visit`. Its state stays there until the vCPU is
    /// [put away](Vendor::put_away), which it has to be before another's comes. `None` if the CPU refuses it.
    fn with_guest<T: Visit>(
        &self,
        cpu: &mut Self::Cpu,
        state: &mut Self::State,
        vcpu: &mut Vcpu,
        visit: T,
    ) -> Option<T::Answer>;

    /// Takes the state of a vCPU from this CPU, if it is there. `moves`: the vCPU may go to another CPU.
    fn put_away(&self, cpu: &mut Self::Cpu, state: &mut Self::State, vcpu: &mut Vcpu, moves: bool);
}
