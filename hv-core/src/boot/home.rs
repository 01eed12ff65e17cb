//! A VM as its CPUs hold it: its vCPUs, each on one of them, and what it is loaded from.

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU32, Ordering};

use pv_abi::area::INFO_SIZE;
use spin::Mutex;

use super::clean::Cleaning;
use super::finish::Report;
use super::machine::{Machine, MakeError};
use super::make::{Basis, Pages, VcpuPages};
use crate::host::bundle::Bundle;
use crate::hw::extension::{self, Extension, State};
use crate::hw::heap_used;
use crate::hw::instructions::tsc;
use crate::hw::local_apic;
use crate::hw::output;
use crate::hw::physical::TableMemory;
use crate::hw::translations::Translations;
use crate::hw::vendor::{self, Made};
use crate::mem::frames::{PAGE, Range};
use crate::mem::nested::{Access, NestedTable};
use crate::mem::tlb::Seen;
use crate::sched::Member;
use crate::vm::acpi::{self, Com1};
use crate::vm::image::{self, ImageError, Mode, Parts, Start, layout};
use crate::vm::port::End;
use crate::vm::post::{Mail, Place, Startup, Then};
use crate::vm::share::{self, Window};
use crate::vm::{Features, Gpr, ImageKind, Registers, Vcpu, Vm, desc};

/// A vCPU as its CPU holds it.
pub struct Instance {
    /// The vCPU.
    pub vcpu: &'static mut Vcpu,
    /// What the vendor keeps for it.
    pub state: State,
    /// Its VM.
    pub home: &'static Home,
    /// It sleeps, and nothing of its own will wake it.
    pub deep: bool,
    /// The TSC at which it began to wait for an interrupt, until it runs again.
    pub halted_at: Option<NonZeroU64>,
    /// The TSC at which it was preempted, until it runs again.
    pub preempted_at: Option<NonZeroU64>,
    /// The VM has stopped, and this vCPU sees to what it leaves behind.
    pub cleaning: Option<Box<Cleaning>>,
}

/// A vCPU with what the scheduler knows of it.
pub type Unit = Box<Member<Instance>>;

/// What the vCPUs of a VM share that only starts and ends it.
pub struct Home {
    /// The VM.
    pub vm: &'static Vm,
    /// vCPUs that sleep and that nothing of their own will wake.
    pub asleep: AtomicU32,
    /// How it ended.
    pub report: Mutex<Option<Box<Report>>>,
    /// vCPUs that have stopped with the VM, by their numbers.
    stopped: Mutex<Vec<Unit>>,
    kind: ImageKind,
    image: &'static [u8],
    initrd: Option<&'static [u8]>,
    command_line: String,
    /// Its RAM, to be zeroed and given back.
    ram: Range,
    /// Its ROM, to be given back.
    rom: Option<Range>,
}

/// Writes the ACPI tables of a VM, and says where their root is.
#[inline(never)]
fn tables(vm: &Vm) -> Option<u64> {
    let com1 = match (&vm.uart, vm.wired) {
        (None, _) => Com1::Absent,
        (Some(_), true) => Com1::Irq(acpi::COM1_IRQ),
        (Some(_), false) => Com1::Polled,
    };
    let place = layout::BIOS_AREA as u32;
    let ids: Vec<u32> = (0u32..).zip(vm.posts).map(|(id, _)| id).collect();
    let facts = acpi::Facts { machine: vm.machine, place, apic_ids: &ids, com1 };
    let tables = acpi::build(&facts).ok()?;
    vm.memory.write(layout::BIOS_AREA, &tables).ok()?;
    Some(layout::BIOS_AREA)
}

/// Raises a port, and has the vCPU that is there for it look at its post.
#[inline(never)]
fn raise(mails: &[Mail], end: &End) {
    let (cpu, slot) = match end.post.raise(end.port) {
        Place::Queued => return,
        Place::Running(cpu) | Place::Resting(cpu) => (cpu, None),
        Place::Asleep { cpu, slot } => (cpu, Some(slot)),
    };
    if let Some(mail) = mails.get(usize::from(cpu)) {
        slot.into_iter().for_each(|slot| mail.put(slot));
        local_apic::interrupt(mail.apic_id());
    }
}

/// Closes the ports of a VM that has stopped; for good, if it has ended. Peers are told.
#[inline(never)]
fn close_ports(vm: &Vm, mails: &[Mail], ended: bool) {
    let raise = &mut |end: End| raise(mails, &end);
    if ended { vm.end_ports(raise) } else { vm.close_ports(None, raise) }
}

impl Home {
    /// Makes a VM in its reset state; its vCPUs, in their order.
    ///
    /// # Errors
    ///
    /// [`MakeError`]; memory taken until then is lost, as the machine will not start.
    pub fn make(
        machine: &'static Machine,
        cpu: &extension::Cpu,
        bundle: &Bundle<'static>,
        desc: &desc::Vm<'_>,
        number: u8,
    ) -> Result<Vec<Unit>, MakeError> {
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
        let mut features = vendor.features(desc.policy, desc.without);
        if desc.vcpus == 1 {
            // It waits for nobody who could run instead.
            features.remove(Features::PAUSE_LOOP_EXITING);
        }
        let no_memory = || MakeError::NoMemory(desc.memory);
        let basis = Basis {
            desc,
            number,
            features,
            limits: vendor.limits(),
            tsc_hz: machine.tsc_hz,
            xsave: machine.xsave,
            epoch: machine.epoch,
            mails: machine.mails,
            peers: machine.peers,
        };
        let mut frames = machine.frames.lock();
        let frames = &mut *frames;
        let before = (frames.free_bytes(), heap_used());
        let rom = rom_place.is_some().then_some(image);
        let pages = Pages::allocate(frames, desc.memory, rom).ok_or_else(no_memory)?;
        let vcpus: Option<Vec<VcpuPages>> =
            (0..desc.vcpus).map(|_| VcpuPages::allocate(frames)).collect();
        let vcpus = vcpus.ok_or_else(no_memory)?;
        let Pages { ram, rom, .. } = pages;
        let infos =
            (0u32..).zip(&vcpus).map(|(number, pages)| (basis.info_gpa(number), pages.info));
        let permissions = vendor.permissions(frames, features).ok_or_else(no_memory)?;
        let before_tables = frames.free_bytes();
        let mut tables = TableMemory(frames);
        let largest = if features.contains(Features::NESTED_1G) {
            3
        } else if features.contains(Features::NESTED_2M) {
            2
        } else {
            1
        };
        let mut table =
            NestedTable::new(vendor.nested(), &mut tables, largest).ok_or_else(no_memory)?;
        let mut map = |gpa, hpa, length, access| {
            table.map(&mut tables, gpa, hpa, length, access).map_err(|_| no_memory())
        };
        map(0, ram.start, ram.length(), Access::Full)?;
        for (gpa, hpa) in infos.clone() {
            map(gpa, hpa, INFO_SIZE as u64, Access::ReadOnly)?;
        }
        if let (Some(place), Some(rom)) = (rom_place, rom) {
            map(place.start, rom.start, rom.length(), Access::ReadExecute)?;
        }
        if features.contains(Features::APIC_REGISTERS) {
            let apic = crate::device::apic::DEFAULT_BASE;
            map(apic, pages.apic_access, PAGE, Access::Full)?;
        }
        let window = basis.shares().then(|| share::window(desc.memory));
        if let Some(gpa) = window {
            map(gpa, ram.start, PAGE, Access::ReadOnly)?;
        }
        let tables = before_tables.saturating_sub(frames.free_bytes());
        let root = table.root();
        let table: &'static Mutex<_> = Box::leak(Box::new(Mutex::new(table)));
        // The tables stand; a guest sees a read-only half when it has registered its own, and others' pages
        // when it has mapped them. No CPU has seen the mappings, so nothing is owed for them.
        let halves = infos.clone().flat_map(|(gpa, _)| [gpa, gpa.wrapping_add(PAGE)]);
        for page in halves.chain(window) {
            let _none_owed = table.hide(page);
        }
        let vm = basis.vm(pages, &vcpus, table);
        let home: &'static Home = Box::leak(Box::new(Home {
            vm,
            asleep: AtomicU32::new(0),
            report: Mutex::new(None),
            stopped: Mutex::new(Vec::with_capacity(vcpus.len())),
            kind: desc.kind,
            image,
            initrd,
            command_line: image::command_line(desc.command_line, machine.tsc_hz / 1000),
            ram,
            rom,
        }));
        let mut instances = Vec::with_capacity(vcpus.len());
        for ((number, &pages_of_vcpu), info) in (0u32..).zip(&vcpus).zip(infos) {
            let made = Made {
                policy: desc.policy,
                features,
                vm: vm.number,
                translations: Translations { table, root, info, seen: Seen::NEVER },
                apic: pages_of_vcpu.apic,
                permissions,
                extended: basis.extended(pages_of_vcpu),
                rdtscp: machine.rdtscp,
                apic_access: pages.apic_access,
            };
            let state = vendor.make(frames, cpu, made).map_err(|error| match error {
                vendor::MakeError::NoMemory => no_memory(),
                vendor::MakeError::Missing(missing) => MakeError::Missing(missing),
            })?;
            let instance = Instance {
                vcpu: basis.vcpu(vm, number, pages_of_vcpu).ok_or_else(no_memory)?,
                state,
                home,
                deep: false,
                halted_at: None,
                preempted_at: None,
                cleaning: None,
            };
            instances.push(Box::new(Member::new(instance, vm.weight, vm.slice, desc.cpus)));
        }
        // The whole RAM is in range by its own size.
        let _ = vm.memory.zero(0, vm.memory.size());
        home.load(vendor, &mut instances).map_err(MakeError::Image)?;
        if let Some(place) = machine.peers.get(usize::from(number)) {
            place.call_once(|| vm);
        }
        drop(vcpus);
        let taken = before.0.saturating_sub(frames.free_bytes());
        let contents = ram.length().saturating_add(rom.map_or(0, |rom| rom.length()));
        defmt::info!(
            "VM {=u8} takes {=u64} bytes of pages and {=u64} of the heap beside its memory and its nested tables",
            number,
            taken.saturating_sub(contents).saturating_sub(tables),
            heap_used().saturating_sub(before.1)
        );
        Ok(instances)
    }

    /// Loads the image into RAM that is zeros: before the first entry, and at a reset. All vCPUs come to their
    /// starts.
    #[inline(never)]
    fn load(&self, vendor: &Extension, units: &mut [Unit]) -> Result<(), ImageError> {
        let memory = &self.vm.memory;
        let rsdp = tables(self.vm);
        let parts = Parts {
            kind: self.kind,
            image: self.image,
            initrd: self.initrd,
            command_line: &self.command_line,
            rsdp,
        };
        let first = image::load(&parts, memory)?;
        let other = Start::new(Mode::Startup(0), 0u64, Gpr::Rax, 0);
        for Member { payload: instance, .. } in units.iter_mut().map(|unit| &mut **unit) {
            let start = if instance.vcpu.number == 0 { first } else { other };
            instance.start(vendor, start);
        }
        Ok(())
    }

    /// A vCPU has stopped with its VM. When it is the last, the first has to clean up, and is returned.
    #[inline(never)]
    pub fn stop(&'static self, machine: &'static Machine, unit: Unit) -> Option<Unit> {
        let mut stopped = self.stopped.lock();
        // In their order, which is how they are started again.
        let number = |unit: &Unit| unit.payload.vcpu.number;
        let at = stopped.partition_point(|other| number(other) < number(&unit));
        stopped.insert(at, unit);
        if stopped.len() != self.vm.posts.len() {
            return None;
        }
        let mut units = core::mem::take(&mut *stopped);
        drop(stopped);
        close_ports(self.vm, machine.mails, false);
        if self.vm.stop.then() != Some(Then::Reset) {
            close_ports(self.vm, machine.mails, true);
            self.tell_end(&units);
        }
        let others = units.split_off(1);
        let mut first = units.pop()?;
        first.payload.cleaning = Some(Cleaning::begin(self.vm, others));
        Some(first)
    }

    /// Nobody reaches the RAM, and it is zeros: the VM starts anew, or its RAM is given back.
    #[inline(never)]
    pub fn cleaned(&'static self, machine: &'static Machine, mut first: Unit) {
        let others = first.payload.cleaning.take().map(|cleaning| cleaning.others);
        let mut units = alloc::vec![first];
        units.extend(others.into_iter().flatten());
        if self.vm.stop.then() == Some(Then::Reset) {
            if self.reset(machine, &mut units) {
                self.vm.stop.over();
                units.into_iter().for_each(|unit| machine.send(unit));
                return;
            }
            close_ports(self.vm, machine.mails, true);
            *self.report.lock() = Some(Box::new(Report::not_loaded()));
            self.tell_end(&units);
            let _ = self.vm.memory.zero(0, self.vm.memory.size());
        }
        let mut frames = machine.frames.lock();
        frames.release(self.ram);
        if let Some(rom) = self.rom {
            frames.release(rom);
        }
        drop(frames);
        machine.ended();
    }

    fn tell_end(&self, units: &[Unit]) {
        if let Some(report) = self.report.lock().take() {
            report.send(self.vm, units);
        }
    }

    /// Brings the VM back to its start. Nothing of the guest's registrations survives.
    #[inline(never)]
    fn reset(&self, machine: &Machine, units: &mut [Unit]) -> bool {
        let now = tsc();
        for Member { payload: instance, .. } in units.iter_mut().map(|unit| &mut **unit) {
            if instance.vcpu.registered.area.is_some()
                && let Some(owed) = instance.state.translations().show_info(false)
            {
                self.vm.generation.publish(owed);
            }
            instance.vcpu.reset(now);
            instance.state.power_up();
        }
        if let Some(first) = units.first() {
            self.vm.reset_devices(first.payload.vcpu.device_time(now));
        }
        self.asleep.store(0, Ordering::Release);
        self.load(&machine.vendor, units).is_ok()
    }
}

impl Instance {
    /// The vCPU starts like this at its next entry.
    #[inline(never)]
    fn start(&mut self, vendor: &Extension, start: Start) {
        self.vcpu.registers = Registers::default();
        for (register, value) in start.registers {
            self.vcpu.registers.set(register, value);
        }
        self.vcpu.set_long_mode(matches!(start.mode, Mode::Long | Mode::Called(_)));
        vendor.reset(&mut self.state, start, self.vcpu.tsc_offset);
    }

    /// The vCPU comes onto this CPU. What it has flushed for on another one, that one has flushed for: a CPU keeps
    /// translations of the VM's memory under no tag of a vCPU's (SDM vol. 3, Information That May Be Cached).
    pub fn come_to(&mut self, cpu: u16) {
        if self.vcpu.cpu != cpu {
            self.vcpu.cpu = cpu;
            self.state.translations().seen = Seen::NEVER;
        }
    }

    /// The vCPU has been sent INIT: it waits for a startup IPI.
    #[inline(never)]
    pub fn init(&mut self) {
        if self.vcpu.registered.area.is_some()
            && let Some(owed) = self.state.translations().show_info(false)
        {
            self.vcpu.vm.generation.publish(owed);
        }
        let (vm, number) = (self.vcpu.vm, self.vcpu.number as u8);
        let link = &mut output::Host { vm: vm.number };
        vm.close_ports(Some(number), &mut |end| self.vcpu.raise(&end, link));
        self.vcpu.wait_for_startup();
    }

    /// The vCPU waits to be started, and it is to.
    #[inline(never)]
    pub fn start_up(&mut self, vendor: &Extension, startup: Startup) {
        /// EDX after INIT: family, model and stepping (SDM vol. 3, Processor State After Reset).
        fn signature(vcpu: &Vcpu) -> u64 {
            vcpu.cpuid.find(vcpu.info, 1, 0).map_or(0, |entry| entry.eax.into())
        }
        let start = match startup {
            Startup::Page(page) => {
                Start::new(Mode::Startup(page), 0u64, Gpr::Rdx, signature(self.vcpu))
            }
            Startup::Called { entry, tables, argument } => {
                Start::new(Mode::Called(tables), entry, Gpr::Rdi, argument)
            }
        };
        self.start(vendor, start);
        self.vcpu.set_waits_for_startup(false);
        self.vcpu.attend();
    }
}
