//! The machine as all CPUs see it, and the making of VMs.

extern crate alloc;

use alloc::string::String;
use core::fmt;
use core::sync::atomic::AtomicU32;

use pv_abi::area::INFO_SIZE;
use spin::Mutex;

use super::make::{Basis, Pages};
use crate::host::bundle::Bundle;
use crate::hw::instructions::tsc;
use crate::hw::live::Live;
use crate::hw::local_apic::Timer;
use crate::hw::physical::TableMemory;
use crate::hw::speculation::Speculation;
use crate::hw::translations::Translations;
use crate::hw::vendor::{self, Made, Vendor};
use crate::mem::frames::{Frames, PAGE, Range};
use crate::mem::nested::{Access, NestedTable};
use crate::mem::tlb::Seen;
use crate::vm::acpi::{self, Com1};
use crate::vm::image::{self, ImageError, Mode, Parts, layout};
use crate::vm::{Features, ImageKind, Registers, Vcpu, Vm, desc};

/// What all CPUs share. It is built by the first CPU and then only read, but for what says
/// otherwise by its type.
pub struct Machine<V: Vendor> {
    /// The virtualization extension.
    pub vendor: V,
    /// The TSC's frequency in Hz.
    pub tsc_hz: u64,
    /// What stands against speculative side channels.
    pub speculation: Speculation,
    /// Whether guests can have XSAVE.
    pub xsave: bool,
    /// Whether the CPU has RDTSCP, and so TSC_AUX.
    pub rdtscp: bool,
    /// Seconds since 1970, when the hypervisor started.
    pub epoch: u64,
    /// The CPUs' local APIC timers.
    pub timer: Timer,
    /// Free memory. Taken when a VM starts or ends, never on the exit path.
    pub frames: Mutex<Frames>,
    /// VMs that are waiting to be run, by CPU.
    pub queues: [Mutex<alloc::vec::Vec<Instance<V>>>; crate::host::acpi::MAX_CPUS],
    /// CPUs that have come up.
    pub online: AtomicU32,
    /// The CPUs that run VMs, once the queues are filled; 0 before.
    pub go: AtomicU32,
    /// CPUs that still run VMs.
    pub busy: AtomicU32,
}

/// A VM as its CPU holds it.
pub struct Instance<V: Vendor> {
    /// The vCPU.
    pub vcpu: Vcpu,
    /// What the vendor keeps for it.
    pub state: V::State,
    /// What stays in the CPU while it runs, whatever the vendor.
    pub live: Live,
    /// Its number in the queue of its CPU.
    pub slot: usize,
    /// It waits for an interrupt, and is not in that queue.
    pub halted: bool,
    /// The TSC at which it began to wait, until it runs again.
    pub halted_at: Option<u64>,
    /// The TSC at which it was preempted, until it runs again.
    pub preempted_at: Option<u64>,
    /// Its image and initial ramdisk, for a reset.
    kind: ImageKind,
    image: &'static [u8],
    initrd: Option<&'static [u8]>,
    command_line: String,
    /// Its RAM, to be zeroed and given back.
    ram: Range,
    /// Its ROM, to be given back.
    rom: Option<Range>,
}

/// Why a VM cannot be made.
#[derive(Debug)]
pub enum MakeError<E> {
    /// The bundle has no image of this name.
    NoImage,
    /// The bundle has no initial ramdisk of this name.
    NoInitrd,
    /// The image is no good.
    Image(ImageError),
    /// There is no free memory of that size.
    NoMemory(u64),
    /// The CPU lacks what the policy needs.
    Missing(E),
}

impl<E: fmt::Display> fmt::Display for MakeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MakeError::NoImage => write!(f, "its image is not in the bundle"),
            MakeError::NoInitrd => write!(f, "its initial ramdisk is not in the bundle"),
            MakeError::Image(error) => write!(f, "{error}"),
            MakeError::NoMemory(bytes) => {
                write!(f, "no {bytes} contiguous bytes of memory are free: give it less")
            }
            MakeError::Missing(missing) => write!(f, "{missing}"),
        }
    }
}

/// Writes the ACPI tables of a VM, and says where their root is.
fn tables(vm: &Vm) -> Option<u64> {
    let com1 = match (&vm.uart, vm.wired) {
        (None, _) => Com1::Absent,
        (Some(_), true) => Com1::Irq(acpi::COM1_IRQ),
        (Some(_), false) => Com1::Polled,
    };
    let place = layout::BIOS_AREA as u32;
    let facts = acpi::Facts { machine: vm.machine, place, apic_ids: &[0], com1 };
    let tables = acpi::build(&facts).ok()?;
    vm.memory.write(layout::BIOS_AREA, &tables).ok()?;
    Some(layout::BIOS_AREA)
}

impl<V: Vendor> Instance<V> {
    /// Makes a VM in its reset state.
    ///
    /// # Errors
    ///
    /// [`MakeError`]; memory taken until then is lost, as the machine will not start.
    pub fn new(
        machine: &'static Machine<V>,
        cpu: &V::Cpu,
        bundle: &Bundle<'static>,
        desc: &desc::Vm<'_>,
        number: u8,
    ) -> Result<Instance<V>, MakeError<V::Missing>> {
        let vendor = &machine.vendor;
        let image = bundle.image(desc.image).ok_or(MakeError::NoImage)?;
        let initrd = match desc.initrd {
            Some(name) => Some(bundle.initrd(name).ok_or(MakeError::NoInitrd)?),
            None => None,
        };
        let rom_place = match desc.kind {
            ImageKind::Rom => Some(image::rom::place(image).map_err(MakeError::Image)?),
            _ => None,
        };
        let features = vendor.features(desc.policy, desc.without);
        let no_memory = || MakeError::NoMemory(desc.memory);
        let mut frames = machine.frames.lock();
        let frames = &mut *frames;
        let rom = rom_place.is_some().then_some(image);
        let pages = Pages::allocate(frames, desc.memory, rom).ok_or_else(no_memory)?;
        let info_gpa = desc.memory;
        let Pages { ram, rom, info, .. } = pages;
        let mut tables = TableMemory(frames);
        let largest = if features.contains(Features::NESTED_1G) {
            3
        } else if features.contains(Features::NESTED_2M) {
            2
        } else {
            1
        };
        let mut table =
            NestedTable::<V::Nested>::new(&mut tables, largest).ok_or_else(no_memory)?;
        let mut map = |gpa, hpa, length, access| {
            table.map(&mut tables, gpa, hpa, length, access).map_err(|_| no_memory())
        };
        map(0, ram.start, ram.length(), Access::Full)?;
        map(info_gpa, info, INFO_SIZE as u64, Access::ReadOnly)?;
        if let (Some(place), Some(rom)) = (rom_place, rom) {
            map(place.start, rom.start, rom.length(), Access::ReadExecute)?;
        }
        if features.contains(Features::APIC_REGISTERS) {
            let apic = crate::device::apic::DEFAULT_BASE;
            map(apic, pages.apic_access, PAGE, Access::Full)?;
        }
        // The tables stand; the guest sees the read-only half when it has registered its own. No CPU
        // has seen the mapping, so nothing is owed for it.
        for page in [info_gpa, info_gpa.wrapping_add(PAGE)] {
            let _ = table.unmap_page(&mut TableMemory(frames), page);
        }
        let made = Made {
            policy: desc.policy,
            features,
            vm: number,
            translations: Translations { table, info: (info_gpa, info), seen: Seen::NEVER },
            apic: pages.apic,
            apic_access: pages.apic_access,
        };
        let state = vendor.make(frames, cpu, made).map_err(|error| match error {
            vendor::MakeError::NoMemory => no_memory(),
            vendor::MakeError::Missing(missing) => MakeError::Missing(missing),
        })?;

        let vcpu = Basis {
            desc,
            number,
            features,
            limits: vendor.limits(),
            tsc_hz: machine.tsc_hz,
            xsave: machine.xsave,
            epoch: machine.epoch,
        };
        let mut instance = Instance {
            vcpu: vcpu.on(pages),
            state,
            live: Live::reset(),
            slot: 0,
            halted: false,
            halted_at: None,
            preempted_at: None,
            kind: desc.kind,
            image,
            initrd,
            command_line: image::command_line(desc.command_line, machine.tsc_hz / 1000),
            ram,
            rom,
        };
        instance.load(&machine.vendor).map_err(MakeError::Image)?;
        Ok(instance)
    }

    /// Zeroes the RAM and loads the image: before the first entry, and at a reset.
    fn load(&mut self, vendor: &V) -> Result<(), ImageError> {
        let memory = &self.vcpu.vm.memory;
        // The whole RAM is in range by its own size.
        let _ = memory.zero(0, memory.size());
        let rsdp = tables(self.vcpu.vm);
        let parts = Parts {
            kind: self.kind,
            image: self.image,
            initrd: self.initrd,
            command_line: &self.command_line,
            rsdp,
        };
        let start = image::load(&parts, memory)?;
        self.vcpu.registers = Registers::default();
        for (register, value) in start.registers {
            self.vcpu.registers.set(register, value);
        }
        self.vcpu.set_long_mode(start.mode == Mode::Long);
        vendor.reset(&mut self.state, start, self.vcpu.tsc_offset);
        Ok(())
    }

    /// Brings the VM back to its start. Nothing of the guest's registrations survives.
    pub fn reset(&mut self, vendor: &V) -> Result<(), ImageError> {
        if self.vcpu.registered.area.is_some()
            && let Some(owed) = V::translations(&mut self.state).show_info(false)
        {
            self.vcpu.vm.generation.publish(owed);
        }
        self.vcpu.reset(tsc());
        self.live = Live::reset();
        self.halted = false;
        self.load(vendor)
    }

    /// Gives the RAM back, zeroed, and the ROM.
    pub fn release(self, machine: &Machine<V>) {
        let memory = &self.vcpu.vm.memory;
        let _ = memory.zero(0, memory.size());
        let mut frames = machine.frames.lock();
        frames.release(self.ram);
        if let Some(rom) = self.rom {
            frames.release(rom);
        }
    }
}
