//! What of a VM no vendor decides: its pages, and its vCPUs.

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::num::NonZeroU32;
use core::sync::atomic::AtomicU64;

use pv_abi::area::{INFO_SIZE, VcpuInfo};
use pv_abi::cpuid::Recommendations;
use pv_abi::exit::Reason;
use spin::{Mutex, Once};

use crate::device::apic::{ApicPage, Config, TimerRatio, VirtualApic};
use crate::device::board::Board;
use crate::device::uart::Uart;
use crate::emulate::cpuid::{self, CpuidModel, Facts};
use crate::emulate::msr::{CpuFacts, MsrState};
use crate::emulate::recent::Recent;
use crate::hw::Cpuid;
use crate::hw::cpu;
use crate::hw::instructions::{ThisCpu, rdmsr, tsc, wrmsr};
use crate::hw::limits::Limits;
use crate::hw::physical::zeroed_page;
use crate::mem::frames::{Frames, PAGE, Range};
use crate::mem::guest::GuestMemory;
use crate::mem::tlb::Generation;
use crate::vm::desc;
use crate::vm::outbox::Outbox;
use crate::vm::port::{Bindings, Ports};
use crate::vm::post::{Mail, Post, Stop};
use crate::vm::profile::Profile;
use crate::vm::share::{Share, Window};
use crate::vm::vcpu::{Halt, Registered};
use crate::vm::{Features, Options, Registers, Vcpu, Vm};

/// The pages of a VM, by physical address.
#[derive(Clone, Copy)]
pub struct Pages {
    /// Its RAM. It is not zeroed.
    pub ram: Range,
    /// Its ROM, if it has one.
    pub rom: Option<Range>,
    /// The page whose accesses mean the local APIC, where the CPU treats them apart: ordinary memory to
    /// a guest in x2APIC mode, so each VM has its own.
    pub apic_access: u64,
    /// What its ports are bound to. They are zeroed.
    pub ports: u64,
}

/// The pages of a vCPU, by physical address. They are zeroed.
#[derive(Clone, Copy)]
pub struct VcpuPages {
    /// The read-only half of the area.
    pub info: u64,
    /// The registers of the local APIC, which neither the CPU nor a guest reaches beyond its first 1024 bytes
    /// (SDM vol. 3, Virtualizing Memory-Mapped APIC Accesses). In the rest is what XSAVE writes, the [`Post`], and the [`Vcpu`].
    pub apic: u64,
}

/// Bytes of FXSAVE and of the header of XSAVE.
const LEGACY: u32 = 576;

/// Bytes that XSAVE writes for what guests may have, or FXSAVE without it: at most 2,696, up to AVX-512 and PKRU.
fn extended_size(xsave: bool) -> u64 {
    let may = xcr0_may(xsave);
    let ends = (2..63).filter(|&component| may >> component & 1 != 0).map(|component| {
        let [size, offset, ..] = ThisCpu.cpuid(0xd, component);
        size.saturating_add(offset)
    });
    ends.fold(LEGACY, u32::max).next_multiple_of(64).into()
}

impl Pages {
    /// Takes them, with this much RAM and with this ROM, whose size is a multiple of a page's; `None` if
    /// memory is short.
    pub fn allocate(frames: &mut Frames, memory: u64, rom: Option<&[u8]>) -> Option<Pages> {
        let align = if memory >= 1 << 30 { 1 << 30 } else { 2 << 20 };
        let ram = frames.allocate(memory, align).or_else(|| frames.allocate(memory, 2 << 20))?;
        let rom = match rom {
            Some(bytes) => {
                let pages = frames.allocate(bytes.len() as u64, PAGE)?;
                // SAFETY: just allocated, mapped as all RAM is, and as long as the ROM.
                unsafe {
                    core::ptr::copy_nonoverlapping(
                        bytes.as_ptr(),
                        pages.start as *mut u8,
                        bytes.len(),
                    );
                }
                Some(pages)
            }
            None => None,
        };
        Some(Pages {
            ram,
            rom,
            apic_access: zeroed_page(frames)?,
            ports: zeroed::<Bindings>(frames)?,
        })
    }

    fn bindings(self) -> &'static Bindings {
        // SAFETY: zeroed, which closes all, made of atomics, and never given back.
        unsafe { &*(self.ports as *const Bindings) }
    }
}

impl VcpuPages {
    /// Takes them; `None` if memory is short.
    pub fn allocate(frames: &mut Frames) -> Option<VcpuPages> {
        Some(VcpuPages { info: zeroed::<VcpuInfo>(frames)?, apic: zeroed_page(frames)? })
    }

    /// Where what XSAVE writes is.
    fn extended(self) -> u64 {
        self.apic.wrapping_add(size_of::<ApicPage>() as u64)
    }

    /// Puts something so many bytes behind where XSAVE writes, or on the heap if there is no room. The caller puts
    /// nothing else there, and `offset` is a multiple of 64.
    fn place<T>(self, value: T, offset: u64) -> &'static mut T {
        const { assert!(align_of::<T>() <= 64) };
        let at = self.extended().wrapping_add(offset);
        if at.wrapping_add(size_of::<T>() as u64) > self.apic.wrapping_add(PAGE) {
            return Box::leak(Box::new(value));
        }
        let at = at as *mut T;
        // SAFETY: it is the vCPU's own page, which is never given back; nothing else is there, the caller says, and
        // there is room, as was just seen. What XSAVE writes begins at a multiple of 64, so it is aligned.
        unsafe {
            at.write(value);
            &mut *at
        }
    }

    /// The registers of the local APIC.
    fn apic(self) -> &'static ApicPage {
        // SAFETY: the page is zeroed, which is a valid `ApicPage`, made of atomics so that the CPU and
        // other vCPUs may use it as well, and it is never given back.
        unsafe { &*(self.apic as *const ApicPage) }
    }
}

/// Pages of zeros with room for a `T`.
fn zeroed<T>(frames: &mut Frames) -> Option<u64> {
    let start = frames.allocate(size_of::<T>() as u64, PAGE)?.start;
    // SAFETY: just allocated, and mapped as all RAM is.
    unsafe { core::ptr::write_bytes(start as *mut u8, 0, size_of::<T>()) };
    Some(start)
}

/// Microseconds between two interrupts of a periodic timer, at least. No system asks for that many.
const SHORTEST_PERIOD_US: u64 = 100;

/// The APIC timer counts at this fraction of the TSC: the nearest to 25 MHz that divides it.
fn timer_ratio(tsc_hz: u64) -> NonZeroU32 {
    let ratio = (tsc_hz / 25_000_000).clamp(1, 1 << 16) as u32;
    NonZeroU32::new(ratio).unwrap_or(NonZeroU32::MIN)
}

/// What a VM and its vCPUs follow from.
pub struct Basis<'a> {
    /// The description of the VM.
    pub desc: &'a desc::Vm<'a>,
    /// The number of the VM.
    pub number: u8,
    /// The features of the VM.
    pub features: Features,
    /// What the CPU lets guests have.
    pub limits: Limits,
    /// The TSC's frequency in Hz.
    pub tsc_hz: u64,
    /// Whether guests can have XSAVE.
    pub xsave: bool,
    /// Seconds since 1970.
    pub epoch: u64,
    /// Where the CPUs are told of vCPUs that wake up.
    pub mails: &'static [Mail],
    /// All VMs, by their numbers.
    pub peers: &'static [Once<&'static Vm>],
}

impl Basis<'_> {
    /// Whether the VM shares memory.
    pub fn shares(&self) -> bool {
        self.desc.options.contains(Options::MAY_SHARE) && self.desc.links != 0
    }

    /// The VM, which has these pages and nobody else, and whose vCPUs have those. `window` is its nested page
    /// table.
    pub fn vm(
        &self,
        pages: Pages,
        vcpus: &[VcpuPages],
        window: &'static dyn Window,
    ) -> &'static Vm {
        let &Basis { desc, number, features, tsc_hz, epoch, peers, .. } = self;
        // SAFETY: `Pages` are allocated once, mapped as all RAM is, and belong to one VM, the caller
        // says; Rust objects are put into none of the RAM, and nothing is written to the ROM.
        let memory = unsafe {
            let ram = GuestMemory::new(pages.ram.start as *mut u8, pages.ram.length());
            match pages.rom {
                Some(rom) => ram.with_rom(rom.start as *const u8, rom.length()),
                None => ram,
            }
        };
        let started = tsc();
        let limit = desc.time_limit_ms.saturating_mul(tsc_hz / 1000);
        let board = Board::new(desc.machine, epoch, desc.memory);
        let wired = board.has_interrupts();
        let post = |(id, pages): (u32, &VcpuPages)| -> &'static Post {
            pages.place(Post::new(id, pages.apic()), extended_size(self.xsave))
        };
        let posts: Vec<&'static Post> = (0u32..).zip(vcpus).map(post).collect();
        Box::leak(Box::new(Vm {
            number,
            name: String::from(desc.name),
            policy: desc.policy,
            options: desc.options,
            features,
            links: desc.links,
            peers,
            memory,
            generation: Generation::default(),
            share: self.shares().then(|| Share::new(window, desc.memory)),
            uart: desc.options.contains(Options::UART).then(|| Mutex::new(Uart::new())),
            scratch: desc.options.contains(Options::SCRATCH_PAGE).then(Box::default),
            machine: desc.machine,
            board: Mutex::new(board),
            wired,
            outbox: Mutex::new(Outbox::new(number)),
            is_told: posts.len() > 1 || desc.links != 0,
            posts: posts.leak(),
            stop: Stop::default(),
            ports: Ports::new(pages.bindings()),
            board_due: AtomicU64::new(0),
            tsc_hz,
            started,
            weight: desc.weight,
            slice: u64::from(desc.slice_us).saturating_mul(tsc_hz / 1_000_000),
            time_limit: if limit == 0 { u64::MAX } else { started.saturating_add(limit) },
        }))
    }

    /// Where the read-only half of the area of a vCPU is, as a guest-physical address.
    pub fn info_gpa(&self, number: u32) -> u64 {
        self.desc.memory.wrapping_add(u64::from(number).wrapping_mul(INFO_SIZE as u64))
    }

    /// Room for the registers that XSAVE knows, of a vCPU that has these pages: for one owner.
    pub fn extended(&self, pages: VcpuPages) -> &'static mut [u8] {
        let length = extended_size(self.xsave) as usize;
        let room = (PAGE as usize).wrapping_sub(size_of::<ApicPage>());
        // SAFETY: the page has room for so many bytes behind the APIC's registers, at a multiple of 64. It is never
        // given back, and the caller asks once.
        unsafe { core::slice::from_raw_parts_mut(pages.extended() as *mut u8, length.min(room)) }
    }

    /// A vCPU of the VM, which has these pages and nobody else.
    #[expect(clippy::mut_from_ref, reason = "the vCPU is new")]
    pub fn vcpu(
        &self,
        vm: &'static Vm,
        number: u32,
        pages: VcpuPages,
    ) -> Option<&'static mut Vcpu> {
        let &Basis { desc, features, limits, tsc_hz, xsave, mails, .. } = self;
        // SAFETY: the pages are zeroed, which is a valid `VcpuInfo`, plain data that the guest sees
        // read-only. They are this vCPU's own, the caller says, and never given back.
        let info = unsafe { &mut *(pages.info as *mut VcpuInfo) };
        let ratio = timer_ratio(tsc_hz);
        let facts = Facts {
            policy: desc.policy,
            options: desc.options,
            features,
            tsc_hz,
            apic_hz: tsc_hz.checked_div(ratio.get().into()).unwrap_or(0) as u32,
            vcpu: number,
            vcpus: desc.vcpus,
        };
        let offers_eoi = cpuid::recommendations(&facts).contains(Recommendations::EOI);
        let model = CpuidModel::build(info, &ThisCpu, &facts);
        info.version = pv_abi::VERSION;
        info.size = INFO_SIZE as u32;
        let config = Config {
            id: number,
            bootstrap: number == 0,
            physical_bits: limits.physical_bits,
            timer: TimerRatio { num: NonZeroU32::MIN, den: ratio },
            shortest_period: (tsc_hz / 1_000_000).saturating_mul(SHORTEST_PERIOD_US),
        };
        let vcpu = Vcpu {
            registers: Registers::default(),
            due: 0,
            slice_due: 0,
            horizon: 0,
            far: 0,
            info,
            info_gpa: self.info_gpa(number),
            number,
            post: vm.posts.get(number as usize).copied()?,
            ending: None,
            cpu: 0,
            mails,
            startup: None,
            waits_for_startup: number != 0,
            apic: VirtualApic::new(pages.apic(), config),
            cpuid: model,
            msrs: MsrState::start(CpuFacts::new(!cpuid::is_intel(&ThisCpu), microcode())),
            xcr0: 1,
            xcr0_may: xcr0_may(xsave),
            cr4_may: limits.cr4_may,
            physical_bits: limits.physical_bits,
            no_execute: limits.no_execute,
            long_mode: false,
            may_call: false,
            offers_eoi,
            nmi: false,
            halt: Halt::Interrupt,
            extint: false,
            board_due: if vm.wired && number == 0 { 0 } else { u64::MAX },
            levels_changed: false,
            delayed: None,
            call: 0,
            reason: Reason::Mark,
            open: false,
            registered: Registered::default(),
            send_at: u64::MAX,
            exited: 0,
            // The guest's TSC starts at 0.
            tsc_offset: vm.started.wrapping_neg(),
            began: 0,
            slice_end: u64::MAX,
            halted_ticks: 0,
            recent: Recent::default(),
            profile: desc.options.contains(Options::PROFILE).then(Profile::new),
            vm,
        };
        let behind = extended_size(xsave).wrapping_add(size_of::<Post>() as u64);
        Some(pages.place(vcpu, behind))
    }
}

/// The revision of the CPU's microcode.
fn microcode() -> u64 {
    const BIOS_SIGN_ID: u32 = 0x8b;
    // SAFETY: every CPU of Intel and AMD with 64-bit mode has the MSR, whose write of 0, followed by
    // CPUID, asks it to show the revision (SDM vol. 3, Determining the Signature; AMD's has it anyway).
    unsafe {
        if cpuid::is_intel(&ThisCpu) {
            wrmsr(BIOS_SIGN_ID, 0);
        }
        let _ = ThisCpu.cpuid(1, 0);
        rdmsr(BIOS_SIGN_ID)
    }
}

/// XCR0 bits that guests may set here; 0 without XSAVE.
fn xcr0_may(xsave: bool) -> u64 {
    if xsave { cpu::xcr0_may(&ThisCpu) } else { 0 }
}
