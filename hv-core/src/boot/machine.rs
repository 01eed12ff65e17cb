//! The machine as all CPUs see it, and the making of VMs.

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::num::NonZeroU32;
use core::sync::atomic::AtomicU32;

use pv_abi::area::{INFO_SIZE, VcpuInfo};
use pv_abi::exit::Reason;
use spin::Mutex;

use crate::device::apic::{ApicPage, Config, TimerRatio, VirtualApic};
use crate::device::uart::Uart;
use crate::emulate::cpuid::{CpuidModel, Facts, XCR0_KNOWN};
use crate::emulate::msr::MsrState;
use crate::host::bundle::Bundle;
use crate::hw::instructions::{ThisCpu, tsc};
use crate::hw::live::Live;
use crate::hw::local_apic::Timer;
use crate::hw::physical::{TableMemory, zeroed_page};
use crate::hw::speculation::Speculation;
use crate::hw::translations::Translations;
use crate::hw::vendor::{self, Made, Vendor};
use crate::mem::frames::{Frames, PAGE, Range};
use crate::mem::guest::GuestMemory;
use crate::mem::nested::{Access, NestedTable};
use crate::mem::tlb::{Generation, Seen};
use crate::vm::desc;
use crate::vm::image::{self, ImageError};
use crate::vm::outbox::Outbox;
use crate::vm::vcpu::Registered;
use crate::vm::{Features, Options, Registers, Vcpu, Vm};

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
    /// It waits for an interrupt.
    pub halted: bool,
    /// The TSC at which it was preempted, until it runs again.
    pub preempted_at: Option<u64>,
    /// Its image, for a reset.
    image: &'static [u8],
    command_line: String,
    /// Its RAM, to be zeroed and given back.
    ram: Range,
}

/// Why a VM cannot be made.
#[derive(Debug)]
pub enum MakeError<E> {
    /// The bundle has no image of this name.
    NoImage,
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
            MakeError::Image(error) => write!(f, "{error}"),
            MakeError::NoMemory(bytes) => {
                write!(f, "no {bytes} contiguous bytes of memory are free: give it less")
            }
            MakeError::Missing(missing) => write!(f, "{missing}"),
        }
    }
}

/// The APIC timer counts at this fraction of the TSC: the nearest to 25 MHz that divides it.
fn timer_ratio(tsc_hz: u64) -> NonZeroU32 {
    let ratio = (tsc_hz / 25_000_000).clamp(1, 1 << 16) as u32;
    NonZeroU32::new(ratio).unwrap_or(NonZeroU32::MIN)
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
        let limits = vendor.limits();
        let image = bundle.image(desc.image).ok_or(MakeError::NoImage)?;
        let features = vendor.features(desc.policy, desc.without);
        let no_memory = || MakeError::NoMemory(desc.memory);
        let mut frames = machine.frames.lock();
        let frames = &mut *frames;

        let align = if desc.memory >= 1 << 30 { 1 << 30 } else { 2 << 20 };
        let ram = frames
            .allocate(desc.memory, align)
            .or_else(|| frames.allocate(desc.memory, 2 << 20))
            .ok_or_else(no_memory)?;
        let ram_base = ram.start as *mut u8;
        // SAFETY: the range was just allocated, is mapped as all RAM is, and from now on belongs
        // to the VM; Rust objects are never put there.
        let memory = unsafe { GuestMemory::new(ram_base, ram.length()) };

        let info_range = frames.allocate(INFO_SIZE as u64, PAGE).ok_or_else(no_memory)?;
        // SAFETY: just allocated and mapped; zeros are a valid `VcpuInfo`, which is plain data. The
        // guest sees it read-only. It is never given back, so the reference may live for ever.
        let info = unsafe {
            core::ptr::write_bytes(info_range.start as *mut u8, 0, INFO_SIZE);
            &mut *(info_range.start as *mut VcpuInfo)
        };
        let apic_page = zeroed_page(frames).ok_or_else(no_memory)?;
        // SAFETY: a page of its own, zeroed; `ApicPage` is made of atomics, so that the CPU may
        // change it as well. Never given back.
        let apic_registers = unsafe { &*(apic_page as *const ApicPage) };

        // Ordinary memory to a guest in x2APIC mode, so each VM has its own.
        let apic_access = zeroed_page(frames).ok_or_else(no_memory)?;
        let info_gpa = desc.memory;
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
        map(info_gpa, info_range.start, INFO_SIZE as u64, Access::ReadOnly)?;
        if features.contains(Features::APIC_REGISTERS) {
            let apic = crate::device::apic::DEFAULT_BASE;
            map(apic, apic_access, PAGE, Access::Full)?;
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
            translations: Translations {
                table,
                info: (info_gpa, info_range.start),
                seen: Seen::NEVER,
            },
            apic: apic_page,
            apic_access,
        };
        let state = vendor.make(frames, cpu, made).map_err(|error| match error {
            vendor::MakeError::NoMemory => no_memory(),
            vendor::MakeError::Missing(missing) => MakeError::Missing(missing),
        })?;

        let ratio = timer_ratio(machine.tsc_hz);
        let facts = Facts {
            policy: desc.policy,
            options: desc.options,
            features,
            tsc_hz: machine.tsc_hz,
            apic_hz: machine.tsc_hz.checked_div(ratio.get().into()).unwrap_or(0) as u32,
            vcpu: 0,
            vcpus: 1,
        };
        let cpuid = CpuidModel::build(info, &ThisCpu, &facts);
        info.version = pv_abi::VERSION;
        info.size = INFO_SIZE as u32;
        let config = Config {
            id: 0,
            bootstrap: true,
            physical_bits: limits.physical_bits,
            timer: TimerRatio { num: NonZeroU32::MIN, den: ratio },
        };
        let started = tsc();
        let limit = desc.time_limit_ms.saturating_mul(machine.tsc_hz / 1000);
        let vm = Vm {
            number,
            name: String::from(desc.name),
            policy: desc.policy,
            options: desc.options,
            features,
            memory,
            generation: Generation::default(),
            uart: desc.options.contains(Options::UART).then(|| Mutex::new(Uart::new())),
            tsc_hz: machine.tsc_hz,
            info_gpa,
            started,
            slice: u64::from(desc.slice_us).saturating_mul(machine.tsc_hz / 1_000_000),
            time_limit: if limit == 0 { u64::MAX } else { started.saturating_add(limit) },
        };
        let vcpu = Vcpu {
            registers: Registers::default(),
            due: 0,
            slice_due: 0,
            info,
            number: 0,
            apic: VirtualApic::new(apic_registers, config),
            cpuid,
            msrs: MsrState::default(),
            xcr0: 1,
            xcr0_may: xcr0_may(machine.xsave),
            cr4_may: limits.cr4_may,
            physical_bits: limits.physical_bits,
            no_execute: limits.no_execute,
            long_mode: false,
            may_call: false,
            nmi: false,
            delayed: None,
            call: 0,
            reason: Reason::Mark,
            open: false,
            registered: Registered::default(),
            outbox: Outbox::new(number),
            send_at: u64::MAX,
            exited: 0,
            // The guest's TSC starts at 0.
            tsc_offset: started.wrapping_neg(),
            contended: false,
            slice_end: 0,
            vm: Box::leak(Box::new(vm)),
        };
        let mut instance = Instance {
            vcpu,
            state,
            live: Live::reset(),
            halted: false,
            preempted_at: None,
            image,
            command_line: String::from(desc.command_line),
            ram,
        };
        instance.load(&machine.vendor).map_err(MakeError::Image)?;
        Ok(instance)
    }

    /// Zeroes the RAM and loads the image: before the first entry, and at a reset.
    fn load(&mut self, vendor: &V) -> Result<(), ImageError> {
        let memory = &self.vcpu.vm.memory;
        // The whole RAM is in range by its own size.
        let _ = memory.zero(0, memory.size());
        let start = image::load(self.image, &self.command_line, memory)?;
        self.vcpu.registers = Registers::default();
        self.vcpu.registers.set(crate::vm::Gpr::Rbx, start.information.into());
        vendor.reset(&mut self.state, start, self.vcpu.tsc_offset);
        Ok(())
    }

    /// Brings the VM back to its start. Nothing of the guest's registrations survives.
    pub fn reset(&mut self, vendor: &V) -> Result<(), ImageError> {
        let vcpu = &mut self.vcpu;
        if vcpu.registered.area.is_some()
            && let Some(owed) = V::translations(&mut self.state).show_info(false)
        {
            vcpu.vm.generation.publish(owed);
        }
        vcpu.unregister();
        vcpu.apic.power_up();
        vcpu.tsc_offset = tsc().wrapping_neg();
        vcpu.msrs = MsrState::default();
        vcpu.xcr0 = 1;
        vcpu.set_long_mode(false);
        vcpu.nmi = false;
        vcpu.delayed = None;
        vcpu.open = false;
        vcpu.call = 0;
        vcpu.info.exits = [pv_abi::area::Counter::default(); pv_abi::exit::SLOTS];
        vcpu.info.calls = [pv_abi::area::Counter::default(); pv_abi::area::CALL_SLOTS];
        vcpu.info.clock = pv_abi::area::Clock::default();
        vcpu.info.steal = pv_abi::area::Steal::default();
        vcpu.info.vmreads = 0;
        vcpu.info.vmwrites = 0;
        if let Some(uart) = &vcpu.vm.uart {
            *uart.lock() = Uart::new();
        }
        vcpu.attend();
        self.live = Live::reset();
        self.halted = false;
        self.load(vendor)
    }

    /// Gives the RAM back, zeroed.
    pub fn release(self, machine: &Machine<V>) {
        let memory = &self.vcpu.vm.memory;
        let _ = memory.zero(0, memory.size());
        machine.frames.lock().release(self.ram);
    }
}

/// XCR0 bits that guests may set here; 0 without XSAVE.
fn xcr0_may(xsave: bool) -> u64 {
    use crate::hw::Cpuid;
    if !xsave {
        return 0;
    }
    let [eax, _, _, edx] = ThisCpu.cpuid(0xd, 0);
    (u64::from(edx) << 32 | u64::from(eax)) & XCR0_KNOWN
}
