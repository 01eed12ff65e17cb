//! The packed description of a VM, as it comes in the bundle, and its validation.

use core::fmt;

use bitflags::bitflags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::feature::Features;
use super::kind::ImageKind;
use super::machine_type::MachineType;
use super::policy::Policy;
use super::post::lowest;
use crate::host::bundle;
use crate::sched::WEIGHTS;

/// The longest command line in bytes.
pub const COMMAND_LINE: usize = 2048;
/// The least memory of a VM in bytes.
pub const MIN_MEMORY: u64 = 2 << 20;
/// Memory comes in pieces of this many bytes.
pub const MEMORY_STEP: u64 = 2 << 20;
/// The most memory of a VM in bytes: it stays below the local APIC's page.
pub const MAX_MEMORY: u64 = 3 << 30;
/// The most virtual CPUs of a VM.
pub const MAX_VCPUS: u32 = 64;
/// [`VmDesc::cpus`]: any CPU.
pub const ANY_CPU: u64 = 0;
/// The shortest and the longest time slice in microseconds.
pub const SLICE_US: core::ops::RangeInclusive<u32> = 100..=1_000_000;

bitflags! {
    /// Options of a VM.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Options: u32 {
        /// Hold the VMCS against the manual's rules before every entry, not only after a failed one.
        const CHECK_ENTRIES = 1 << 0;
        /// Give the VM a 16550 UART at COM1, joined to its console.
        const UART = 1 << 1;
        /// Offer the hypercall ABI.
        const ABI = 1 << 2;
        /// The VM may reset itself; otherwise a reset ends it.
        const MAY_RESET = 1 << 3;
        /// Tell at the end which ports, MSRs and pages cost most exits. Every exit is then looked at in
        /// full: counts are the same, ticks are not.
        const PROFILE = 1 << 4;
        /// Tell the VM's exits by reason when the guest writes the scratch register of its UART.
        const SCRATCH_MARKS = 1 << 5;
        /// Give the VM a page of memory whose every access exits and is emulated.
        const SCRATCH_PAGE = 1 << 6;
        /// The VM may share memory with those that it is linked to.
        const MAY_SHARE = 1 << 7;
        /// The VM may read what its exits cost.
        const MAY_SEE_STATISTICS = 1 << 8;
    }
}

/// A VM description as packed by `xtask`. Numbers are little endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct VmDesc {
    /// The VM's name, padded with zeros.
    pub name: [u8; bundle::NAME],
    /// The name of its image in the bundle, padded with zeros.
    pub image: [u8; bundle::NAME],
    /// The name of its initial RAM disk in the bundle, padded with zeros; all zeros for none.
    pub initrd: [u8; bundle::NAME],
    /// RAM in bytes, from guest-physical address 0: a multiple of [`MEMORY_STEP`].
    pub memory: u64,
    /// [`Features`] that the VM does without.
    pub without: u64,
    /// Ends the VM after this many milliseconds, 0 for never.
    pub time_limit_ms: u64,
    /// The CPUs that may run the VM, a bit for each, or [`ANY_CPU`].
    pub cpus: u64,
    /// The VMs that it may reach, a bit for each by its number: [`check_links`].
    pub links: u64,
    /// Virtual CPUs, from 1 to [`MAX_VCPUS`].
    pub vcpus: u32,
    /// A [`Policy`].
    pub policy: u32,
    /// [`Options`].
    pub options: u32,
    /// The longest time that the VM runs while others wait, in microseconds: [`SLICE_US`].
    pub slice_us: u32,
    /// Its share of a CPU beside others: [`WEIGHTS`].
    pub weight: u32,
    /// A [`MachineType`].
    pub machine: u32,
    /// What the image is: an [`ImageKind`].
    pub kind: u32,
    /// Length of the command line.
    pub command_line_length: u32,
    /// The command line, UTF-8, padded with zeros.
    pub command_line: [u8; COMMAND_LINE],
}

const _: () = assert!(size_of::<VmDesc>() == 168 + COMMAND_LINE);

/// A description that has been checked.
#[derive(Clone, Copy, Debug)]
pub struct Vm<'a> {
    /// The VM's name.
    pub name: &'a str,
    /// The name of its image.
    pub image: &'a str,
    /// What its image is.
    pub kind: ImageKind,
    /// The name of its initial RAM disk, if it has one.
    pub initrd: Option<&'a str>,
    /// The devices that it has.
    pub machine: MachineType,
    /// RAM in bytes.
    pub memory: u64,
    /// What it does without.
    pub without: Features,
    /// Milliseconds after which it ends, 0 for never.
    pub time_limit_ms: u64,
    /// The CPUs that may run it, a bit for each.
    pub cpus: u64,
    /// The VMs that it may reach, a bit for each by its number.
    pub links: u64,
    /// Virtual CPUs.
    pub vcpus: u32,
    /// Its execution policy.
    pub policy: Policy,
    /// Its options.
    pub options: Options,
    /// Its time slice in microseconds.
    pub slice_us: u32,
    /// Its share of a CPU beside others.
    pub weight: u32,
    /// Its command line.
    pub command_line: &'a str,
}

/// Why a description is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DescError {
    /// Its size is not that of [`VmDesc`].
    Size(usize),
    /// The VM's name is malformed.
    Name,
    /// The image's name is malformed.
    Image,
    /// The initial RAM disk's name is malformed.
    Initrd,
    /// The memory is not a multiple of [`MEMORY_STEP`] from [`MIN_MEMORY`] to [`MAX_MEMORY`].
    Memory(u64),
    /// Unknown bits in `without`.
    Without(u64),
    /// A link to the VM with this number, which is itself, is not there, or has no link back.
    Link(u16),
    /// A number of vCPUs out of range.
    Vcpus(u32),
    /// An unknown policy.
    Policy(u32),
    /// Unknown options.
    Options(u32),
    /// A time slice out of range.
    Slice(u32),
    /// A weight out of range.
    Weight(u32),
    /// An unknown machine.
    Machine(u32),
    /// An unknown kind of image.
    Kind(u32),
    /// The command line is too long or not UTF-8.
    CommandLine,
}

impl fmt::Display for DescError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            DescError::Size(n) => {
                write!(
                    f,
                    "{n} bytes instead of {}: build hypervisor and bundle together",
                    size_of::<VmDesc>()
                )
            }
            DescError::Name => write!(f, "malformed name"),
            DescError::Image => write!(f, "malformed image name"),
            DescError::Initrd => write!(f, "malformed name of an initial RAM disk"),
            DescError::Memory(n) => write!(
                f,
                "memory of {n} bytes: it must be a multiple of {MEMORY_STEP} from {MIN_MEMORY} to {MAX_MEMORY}"
            ),
            DescError::Without(bits) => write!(f, "unknown features {bits:#x} in `without`"),
            DescError::Link(n) => write!(
                f,
                "a link to VM {n}, which is itself, is not there or has no link back: pack the bundle anew"
            ),
            DescError::Vcpus(n) => write!(f, "{n} vCPUs: there can be 1 to {MAX_VCPUS}"),
            DescError::Policy(n) => write!(f, "unknown policy {n}"),
            DescError::Options(bits) => write!(f, "unknown options {bits:#x}"),
            DescError::Slice(us) => write!(
                f,
                "time slice of {us} us: it must be from {} to {}",
                SLICE_US.start(),
                SLICE_US.end()
            ),
            DescError::Weight(n) => {
                write!(f, "weight {n}: it must be from {} to {}", WEIGHTS.start(), WEIGHTS.end())
            }
            DescError::Machine(n) => write!(f, "unknown machine {n}"),
            DescError::Kind(n) => write!(f, "unknown kind of image {n}"),
            DescError::CommandLine => write!(f, "malformed command line"),
        }
    }
}

impl VmDesc {
    /// The description in these bytes.
    ///
    /// # Errors
    ///
    /// [`DescError::Size`] if they are too few or too many.
    pub fn read(bytes: &[u8]) -> Result<VmDesc, DescError> {
        VmDesc::read_from_bytes(bytes).map_err(|_| DescError::Size(bytes.len()))
    }

    /// Checks every field.
    ///
    /// # Errors
    ///
    /// The first fault found.
    pub fn validate(&self) -> Result<Vm<'_>, DescError> {
        let sound_memory = (MIN_MEMORY..=MAX_MEMORY).contains(&self.memory)
            && self.memory.is_multiple_of(MEMORY_STEP);
        if !sound_memory {
            return Err(DescError::Memory(self.memory));
        }
        if !(1..=MAX_VCPUS).contains(&self.vcpus) {
            return Err(DescError::Vcpus(self.vcpus));
        }
        if !SLICE_US.contains(&self.slice_us) {
            return Err(DescError::Slice(self.slice_us));
        }
        if !WEIGHTS.contains(&self.weight) {
            return Err(DescError::Weight(self.weight));
        }
        let (line, padding) = self
            .command_line
            .split_at_checked(self.command_line_length as usize)
            .ok_or(DescError::CommandLine)?;
        if line.contains(&0) || padding.iter().any(|&b| b != 0) {
            return Err(DescError::CommandLine);
        }
        let initrd = match self.initrd.iter().all(|&b| b == 0) {
            true => None,
            false => Some(bundle::name(&self.initrd).ok_or(DescError::Initrd)?),
        };
        Ok(Vm {
            name: bundle::name(&self.name).ok_or(DescError::Name)?,
            image: bundle::name(&self.image).ok_or(DescError::Image)?,
            kind: ImageKind::from_number(self.kind).ok_or(DescError::Kind(self.kind))?,
            initrd,
            machine: MachineType::from_number(self.machine)
                .ok_or(DescError::Machine(self.machine))?,
            memory: self.memory,
            without: Features::from_bits(self.without).ok_or(DescError::Without(self.without))?,
            time_limit_ms: self.time_limit_ms,
            cpus: if self.cpus == ANY_CPU { u64::MAX } else { self.cpus },
            links: self.links,
            vcpus: self.vcpus,
            policy: Policy::from_number(self.policy).ok_or(DescError::Policy(self.policy))?,
            options: Options::from_bits(self.options).ok_or(DescError::Options(self.options))?,
            slice_us: self.slice_us,
            weight: self.weight,
            command_line: core::str::from_utf8(line).map_err(|_| DescError::CommandLine)?,
        })
    }
}

/// Checks the links of the VM with this number: `all` are those of every VM, by their numbers.
///
/// # Errors
///
/// [`DescError::Link`] for the first that is not a link between two of them.
#[inline(never)]
pub fn check_links(number: u8, all: &[u64]) -> Result<(), DescError> {
    let mut links = all.get(usize::from(number)).copied().unwrap_or(0);
    while let Some(other) = lowest(&mut links) {
        let back = all.get(usize::from(other)).copied().unwrap_or(0);
        if other == u16::from(number) || back & link(number) == 0 {
            return Err(DescError::Link(other));
        }
    }
    Ok(())
}

/// The bit of a VM in the links of others.
pub fn link(number: u8) -> u64 {
    1u64.checked_shl(number.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sound() -> VmDesc {
        let mut desc = VmDesc {
            name: [0; 32],
            image: [0; 32],
            initrd: [0; 32],
            memory: 64 << 20,
            without: Features::VPID.bits(),
            time_limit_ms: 0,
            cpus: 0b10,
            links: 0b100,
            vcpus: 4,
            policy: Policy::Pv as u32,
            options: Options::UART.bits(),
            slice_us: 10_000,
            weight: 256,
            machine: MachineType::Pc as u32,
            kind: ImageKind::Linux as u32,
            command_line_length: 2,
            command_line: [0; COMMAND_LINE],
        };
        desc.name[..2].copy_from_slice(b"vm");
        desc.image[..5].copy_from_slice(b"bench");
        desc.command_line[..2].copy_from_slice(b"ab");
        desc
    }

    fn refused(change: impl Fn(&mut VmDesc)) -> DescError {
        let mut desc = sound();
        change(&mut desc);
        desc.validate().expect_err("accepted")
    }

    #[test]
    fn a_sound_description_arrives_whole() {
        let desc = sound();
        let read = VmDesc::read(desc.as_bytes()).unwrap();
        let vm = read.validate().unwrap();
        assert_eq!((vm.name, vm.image, vm.command_line), ("vm", "bench", "ab"));
        assert_eq!((vm.memory, vm.cpus, vm.vcpus, vm.links), (64 << 20, 0b10, 4, 0b100));
        assert_eq!(vm.policy, Policy::Pv);
        assert_eq!((vm.without, vm.options), (Features::VPID, Options::UART));
        assert_eq!((vm.machine, vm.kind, vm.initrd), (MachineType::Pc, ImageKind::Linux, None));
    }

    #[test]
    fn an_initial_ram_disk_is_there_if_it_has_a_name() {
        let mut desc = sound();
        desc.initrd[..6].copy_from_slice(b"initrd");
        assert_eq!(desc.validate().unwrap().initrd, Some("initrd"));
    }

    #[test]
    fn a_link_is_between_two_vms_that_are_there() {
        let sound: [&[u64]; 4] = [&[], &[0, 0], &[0b10, 0b01], &[0b110, 0b001, 0b001]];
        for all in sound {
            for number in 0..all.len() as u8 {
                assert_eq!(check_links(number, all), Ok(()), "{all:?}");
            }
        }
        let faults: [(&[u64], u8, u16); 5] = [
            (&[1], 0, 0),
            (&[0b10], 0, 1),
            (&[1 << 63, 0], 0, 63),
            (&[0b10, 0], 0, 1),
            (&[0b110, 0b001, 0b010], 0, 2),
        ];
        for (all, number, to) in faults {
            assert_eq!(check_links(number, all), Err(DescError::Link(to)), "{all:?}");
        }
        let full: [u64; 64] = core::array::from_fn(|number| !link(number as u8));
        assert!((0..64).all(|number| check_links(number, &full).is_ok()));
    }

    #[test]
    fn each_fault_is_named() {
        assert_eq!(VmDesc::read(&[0; 3]), Err(DescError::Size(3)));
        assert_eq!(refused(|d| d.name = [0; 32]), DescError::Name);
        assert_eq!(refused(|d| d.name[31] = b'x'), DescError::Name, "text behind the padding");
        assert_eq!(refused(|d| d.image[0] = 0xff), DescError::Image);
        assert_eq!(refused(|d| d.initrd[0] = 0xff), DescError::Initrd);
        assert_eq!(refused(|d| d.initrd[1] = b'x'), DescError::Initrd, "text behind the padding");
        assert_eq!(refused(|d| d.memory = 0), DescError::Memory(0));
        assert_eq!(refused(|d| d.memory += 4096), DescError::Memory((64 << 20) + 4096));
        assert_eq!(
            refused(|d| d.memory = MAX_MEMORY + MEMORY_STEP),
            DescError::Memory(MAX_MEMORY + MEMORY_STEP)
        );
        assert_eq!(refused(|d| d.without = 1 << 63), DescError::Without(1 << 63));
        assert_eq!(refused(|d| d.vcpus = 0), DescError::Vcpus(0));
        assert_eq!(refused(|d| d.vcpus = 65), DescError::Vcpus(65));
        assert_eq!(refused(|d| d.policy = 9), DescError::Policy(9));
        assert_eq!(refused(|d| d.options = 1 << 31), DescError::Options(1 << 31));
        assert_eq!(refused(|d| d.slice_us = 0), DescError::Slice(0));
        assert_eq!(refused(|d| d.weight = 0), DescError::Weight(0));
        assert_eq!(refused(|d| d.weight = 4097), DescError::Weight(4097));
        assert_eq!(refused(|d| d.machine = 2), DescError::Machine(2));
        assert_eq!(refused(|d| d.kind = 99), DescError::Kind(99));
        assert_eq!(refused(|d| d.command_line_length = 1), DescError::CommandLine);
        assert_eq!(refused(|d| d.command_line_length = u32::MAX), DescError::CommandLine);
        assert_eq!(refused(|d| d.command_line[0] = 0xff), DescError::CommandLine);
    }
}
