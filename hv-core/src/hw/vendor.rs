//! What bring-up and the scheduler ask of a vendor's extension. One is chosen at boot; what stands
//! behind is compiled once for each.

use core::fmt;

use super::cpu::HostSegments;
use super::limits::Limits;
use super::translations::Translations;
use crate::mem::frames::Frames;
use crate::mem::nested::Format;
use crate::vm::hardware::Backend;
use crate::vm::image::Start;
use crate::vm::{Features, Policy};

/// What a vCPU is made from.
pub struct Made<F: 'static> {
    /// The policy of its VM.
    pub policy: Policy,
    /// The features of its VM.
    pub features: Features,
    /// The VM's number.
    pub vm: u8,
    /// The VM's memory.
    pub translations: Translations<F>,
    /// The page of the local APIC's registers.
    pub apic: u64,
    /// The page whose accesses mean the local APIC, where the CPU treats them apart.
    pub apic_access: u64,
}

/// Why no vCPU can be made.
#[derive(Debug)]
pub enum MakeError<E> {
    /// Memory is short.
    NoMemory,
    /// The CPU lacks what the policy needs.
    Missing(E),
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

/// A vendor's virtualization extension on this machine.
pub trait Vendor: Sized + Sync + 'static {
    /// A CPU on which it is on.
    type Cpu;
    /// What it keeps of a vCPU.
    type State: Send;
    /// A vCPU on a CPU.
    type Guest<'a>: Backend;
    /// The entries of its nested page tables.
    type Nested: Format + Send;
    /// What a CPU can lack.
    type Missing: fmt::Display;

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

    /// Makes a vCPU, which must be [`reset`](Vendor::reset) before it runs.
    ///
    /// # Errors
    ///
    /// [`MakeError`].
    fn make(
        &self,
        frames: &mut Frames,
        cpu: &Self::Cpu,
        made: Made<Self::Nested>,
    ) -> Result<Self::State, MakeError<Self::Missing>>;

    /// The VM's memory.
    fn translations(state: &mut Self::State) -> &mut Translations<Self::Nested>;

    /// Brings the vCPU to its start.
    fn reset(&self, state: &mut Self::State, start: Start, tsc_offset: u64);

    /// Puts a vCPU on this CPU for the time of `f`, with all of its state that only this vendor
    /// keeps. `None` if the CPU refuses it.
    fn with_guest<T>(
        &self,
        cpu: &mut Self::Cpu,
        state: &mut Self::State,
        f: impl FnOnce(&mut Self::Guest<'_>) -> T,
    ) -> Option<T>;
}
