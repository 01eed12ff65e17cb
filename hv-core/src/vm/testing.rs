//! A vCPU whose backend is plain fields, for tests.
#![allow(missing_docs, clippy::new_without_default)]

use core::cell::Cell;
use core::sync::atomic::AtomicU64;
use std::boxed::Box;
use std::collections::{BTreeMap, VecDeque};
use std::string::String;
use std::vec;
use std::vec::Vec;

use pv_abi::area::VcpuInfo;
use pv_abi::exit::Reason;
use spin::{Mutex, Once};
use zerocopy::FromZeros;

use super::hardware::{Backend, Kept, Link, LiveMsr, Mode, Segment, VendorExit};
use super::machine_type::MachineType;
use super::outbox::Outbox;
use super::port::Ports;
use super::post::{Mail, Post, Stop};
use super::profile::Profile;
use super::run::{Frame, Left, answer};
use super::share::{Share, Window};
use super::vcpu::{Halt, Registered};
use super::{Event, Exit, Features, Hardware, Options, Policy, Registers, Vcpu, Vm};
use crate::device::apic::{ApicPage, Config, TimerRatio, VirtualApic};
use crate::device::board::Board;
use crate::device::uart::Uart;
use crate::emulate::cpuid::{CpuidModel, Facts};
use crate::emulate::msr::{CpuFacts, MsrState};
use crate::emulate::recent::Recent;
use crate::host::link::{Channel, Decoder, MAX_PAYLOAD, Step};
use crate::host::report::Vendor;
use crate::hw::Cpuid;
use crate::mem::guest::GuestMemory;
use crate::mem::nested::Access;
use crate::mem::tlb::{Generation, MustFlush, Seen};

pub const RAM: u64 = 1 << 20;
pub const INFO_GPA: u64 = 64 << 20;
/// One tick is a nanosecond.
pub const TSC_HZ: u64 = 1_000_000_000;
/// The host's TSC at which the VM starts; the guest's is then 0.
pub const STARTED: u64 = 5_000_000;
pub const RFLAGS_IF: u64 = 1 << 9;
pub const CR0_LONG: u64 = 0x8000_0031;
pub const CR4_PAE: u64 = 1 << 5;
pub const EFER_LONG: u64 = 1 << 8 | 1 << 10;

/// Writable data from 0 to 4 GiB.
pub const FLAT: Segment = Segment { selector: 8, rights: 0xc093, limit: 0xffff_ffff, base: 0 };

/// What runs in guest mode until the next exit.
pub type Run = Box<dyn FnOnce(&mut Vcpu, &mut Fake) -> Exit>;

/// A backend of plain fields.
pub struct Fake {
    pub kept: [u64; 15],
    pub live: BTreeMap<u32, u64>,
    pub cpl: u8,
    pub long_code: bool,
    pub code16: bool,
    /// Bases of the segment registers; the rest of them, with LDTR's, is in `segments`.
    pub bases: [u64; 6],
    pub segments: [Segment; 7],
    pub ldt: u64,
    pub gdt: (u64, u32),
    pub keys: u32,
    pub delivery_address: Option<u64>,
    pub pending: Option<Event>,
    pub delivered: Vec<Event>,
    pub shadow: bool,
    pub nmi_blocked: bool,
    pub window: (bool, bool),
    /// How often that was asked for.
    pub windows: u32,
    pub time: Cell<u64>,
    /// Added by each look at the TSC.
    pub tick: u64,
    pub length: u32,
    /// Single-step traps that wait.
    pub steps: u32,
    pub sent: Vec<u8>,
    pub input: VecDeque<u8>,
    pub flushes: Vec<Option<u64>>,
    /// The CPUs that were interrupted.
    pub interrupted: Vec<u32>,
    pub pdptes: Option<[u64; 4]>,
    pub tsc_offset: Option<u64>,
    pub xcr0: Option<u64>,
    pub dr: [u64; 8],
    pub cr2: u64,
    pub info_shown: bool,
    pub apic_mode: Option<bool>,
    pub delivers: bool,
    pub status: Option<(u8, u8)>,
    pub slices: Vec<u64>,
    /// What comes when a slice is set next, with an interrupt that is taken for the timer's.
    pub comes: Option<Box<dyn FnOnce()>>,
    pub counts: (u64, u64),
    pub sound: bool,
    pub served: u32,
    pub seen: Seen,
    pub syncs: u32,
    /// What the guest does, and whether its exit is one of those answered without a return.
    pub script: VecDeque<(bool, Run)>,
    last: Exit,
}

impl Fake {
    /// In 64-bit code at CPL 0.
    pub fn new() -> Fake {
        let mut fake = Fake {
            kept: [0; 15],
            live: BTreeMap::new(),
            cpl: 0,
            long_code: true,
            code16: false,
            bases: [0; 6],
            segments: [FLAT; 7],
            ldt: 0,
            gdt: (0, 0),
            keys: 0,
            delivery_address: None,
            pending: None,
            delivered: Vec::new(),
            shadow: false,
            nmi_blocked: false,
            window: (false, false),
            windows: 0,
            time: Cell::new(STARTED),
            tick: 0,
            length: 3,
            steps: 0,
            sent: Vec::new(),
            input: VecDeque::new(),
            flushes: Vec::new(),
            interrupted: Vec::new(),
            pdptes: None,
            tsc_offset: None,
            xcr0: None,
            dr: [0; 8],
            cr2: 0,
            info_shown: false,
            apic_mode: None,
            delivers: false,
            status: None,
            slices: Vec::new(),
            comes: None,
            counts: (0, 0),
            sound: true,
            served: 0,
            seen: Seen::NEVER,
            syncs: 0,
            script: VecDeque::new(),
            last: Exit::Other,
        };
        fake.set(Kept::Cr0, CR0_LONG);
        fake.set(Kept::Cr4, CR4_PAE);
        fake.set(Kept::Efer, EFER_LONG);
        fake.set(Kept::Rflags, 2);
        fake.set(Kept::Rip, 0x1000);
        fake
    }

    pub fn get(&self, register: Kept) -> u64 {
        self.kept[register as usize]
    }

    pub fn set(&mut self, register: Kept, value: u64) {
        self.kept[register as usize] = value;
    }

    pub fn pass(&self, ticks: u64) {
        self.time.set(self.time.get() + ticks);
    }

    /// The guest runs `f` and exits for what it returns.
    pub fn then(&mut self, f: impl FnOnce(&mut Vcpu, &mut Fake) -> Exit + 'static) {
        self.script.push_back((false, Box::new(f)));
    }

    /// As [`Fake::then`], with an exit that the world switch answers itself.
    pub fn then_quick(&mut self, f: impl FnOnce(&mut Vcpu, &mut Fake) -> Exit + 'static) {
        self.script.push_back((true, Box::new(f)));
    }

    /// The frames sent so far.
    pub fn frames(&self) -> Vec<(Channel, Vec<u8>)> {
        let mut decoder = Decoder::<MAX_PAYLOAD>::default();
        let mut frames = Vec::new();
        for &byte in &self.sent {
            if let Step::Frame(frame) = decoder.push(byte) {
                frames.push((frame.channel, frame.payload.to_vec()));
            }
        }
        frames
    }

    /// What the console has got, after everything that waits has been sent.
    pub fn console(&mut self, vcpu: &mut Vcpu) -> String {
        vcpu.send_output(self);
        let bytes: Vec<u8> = self
            .frames()
            .into_iter()
            .filter(|(channel, _)| *channel == Channel::Console)
            .flat_map(|(_, payload)| payload)
            .collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Link for Fake {
    fn tsc(&self) -> u64 {
        self.pass(self.tick);
        self.time.get()
    }
    fn interrupt(&mut self, apic_id: u32) {
        self.interrupted.push(apic_id);
    }

    fn send(&mut self, frames: &[u8]) {
        self.sent.extend_from_slice(frames);
    }
    fn receive(&mut self) -> Option<u8> {
        self.input.pop_front()
    }
}

impl Hardware for Fake {
    fn kept(&mut self, register: Kept) -> u64 {
        self.counts.0 += 1;
        self.get(register)
    }
    fn keep(&mut self, register: Kept, value: u64) {
        self.counts.1 += 1;
        self.set(register, value);
    }
    fn live_msr(&mut self, msr: LiveMsr) -> u64 {
        self.live.get(&(msr as u32)).copied().unwrap_or(0)
    }
    fn set_live_msr(&mut self, msr: LiveMsr, value: u64) {
        self.live.insert(msr as u32, value);
    }
    fn cpl(&mut self) -> u8 {
        self.cpl
    }
    fn code_is_long(&mut self) -> bool {
        self.long_code
    }
    fn is_long_kernel(&mut self) -> bool {
        self.long_code && self.cpl == 0
    }
    fn mode(&mut self) -> Mode {
        if self.code16 {
            Mode::Code16
        } else if self.long_code && self.get(Kept::Efer) & 1 << 10 != 0 {
            Mode::Code64
        } else {
            Mode::Code32
        }
    }
    fn segment(&mut self, number: u8) -> Segment {
        let base = self.bases.get(usize::from(number)).copied();
        Segment { base: base.unwrap_or(self.ldt), ..self.segments[usize::from(number)] }
    }
    fn set_segment(&mut self, number: u8, segment: &Segment) {
        self.segments[usize::from(number)] = *segment;
        self.bases[usize::from(number)] = segment.base;
    }
    fn gdt(&mut self) -> (u64, u32) {
        self.gdt
    }
    fn delivery_address(&mut self) -> Option<u64> {
        self.delivery_address
    }
    fn shadow(&mut self) {
        self.shadow = true;
    }
    fn protection_keys(&mut self) -> u32 {
        self.keys
    }
    fn pdptes(&mut self) -> Option<[u64; 4]> {
        self.pdptes
    }
    fn code_and_stack(&mut self) -> ([u64; 2], u64) {
        ([0; 2], self.bases[1])
    }
    fn advance(&mut self) {
        self.advance_by(self.length);
    }
    fn advance_plainly(&mut self) -> bool {
        let plain = !self.shadow && self.get(Kept::Rflags) & 1 << 8 == 0;
        if plain {
            self.advance();
        }
        plain
    }
    fn advance_by(&mut self, length: u32) {
        self.set(Kept::Rip, self.get(Kept::Rip) + u64::from(length));
        self.shadow = false;
        self.steps += u32::from(self.get(Kept::Rflags) & 1 << 8 != 0);
    }
    fn inject(&mut self, event: Event) {
        self.pending = Some(event);
    }
    fn pending_event(&mut self) -> Option<Event> {
        self.pending
    }
    fn interruptible(&mut self) -> bool {
        self.get(Kept::Rflags) & RFLAGS_IF != 0 && !self.shadow
    }
    fn nmi_blocked(&mut self) -> bool {
        self.nmi_blocked
    }
    fn nmi_allowed(&mut self) -> bool {
        !self.nmi_blocked && !self.shadow
    }
    fn request_window(&mut self, interrupt: bool, nmi: bool) {
        self.window = (interrupt, nmi);
        self.windows += 1;
    }
    fn apic_changed(&mut self, x2apic: bool) {
        self.apic_mode = Some(x2apic);
    }
    fn set_interrupt_status(&mut self, requesting: u8, servicing: u8) {
        self.status = Some((requesting, servicing));
    }
    fn delivers_interrupts(&self) -> bool {
        self.delivers
    }
    fn set_pdptes(&mut self, pdptes: [u64; 4]) {
        self.pdptes = Some(pdptes);
    }
    fn set_tsc_offset(&mut self, offset: u64) {
        self.tsc_offset = Some(offset);
    }
    fn set_xcr0(&mut self, value: u64) {
        self.xcr0 = Some(value);
    }
    fn debug_register(&mut self, number: u8) -> u64 {
        assert!(matches!(number, 0..=3 | 6), "DR{number} does not stay in the CPU");
        self.dr[usize::from(number)]
    }
    fn set_debug_register(&mut self, number: u8, value: u64) {
        assert!(matches!(number, 0..=3 | 6), "DR{number} does not stay in the CPU");
        self.dr[usize::from(number)] = value;
    }
    fn set_cr2(&mut self, value: u64) {
        self.cr2 = value;
    }
    fn cr2(&mut self) -> u64 {
        self.cr2
    }
    fn flush_guest(&mut self, linear: Option<u64>) {
        self.flushes.push(linear);
    }
    fn show_info(&mut self, show: bool) -> Option<MustFlush> {
        self.info_shown = show;
        (!show).then(MustFlush::in_a_test)
    }
    fn serve_host(&mut self) {
        self.served += 1;
    }
    fn sync_translations(&mut self, generation: &Generation) {
        self.syncs += u32::from(self.seen.behind(generation));
    }
}

impl Backend for Fake {
    fn set_slice(&mut self, due: u64, now: u64) -> bool {
        self.slices.push(due - now);
        let comes = self.comes.take().map(|comes| comes());
        comes.is_none()
    }

    fn port(&mut self) -> u16 {
        match self.last {
            Exit::Port(access) => access.port,
            _ => 0,
        }
    }

    /// Does what the script says; at its end the CPU refuses the entry.
    fn enter(&mut self, vcpu: &mut Vcpu, left: &mut Left) -> bool {
        loop {
            let Some((quick, f)) = self.script.pop_front() else { return false };
            self.delivered.extend(self.pending.take());
            let exit = f(vcpu, self);
            vcpu.exited = self.time.get();
            let mut frame = Frame { vcpu, hardware: self, left };
            if !quick || !answer(&mut frame, exit) {
                self.last = exit;
                return true;
            }
        }
    }

    fn exit(&mut self, _: &Vcpu) -> Exit {
        self.last
    }
    fn counts(&self) -> (u64, u64) {
        self.counts
    }
    fn set_counts(&mut self, counts: (u64, u64)) {
        self.counts = counts;
    }
    fn vendor_exit(&mut self) -> VendorExit {
        VendorExit { vendor: Vendor::Vmx, code: 0, detail: [0; 2] }
    }
    fn check(&mut self) -> bool {
        self.sound
    }
    fn explain(&mut self, _: &mut dyn core::fmt::Write) -> core::fmt::Result {
        Ok(())
    }
}

/// A CPU that has every feature: each register of each leaf is all ones where nothing better is
/// known.
#[derive(Clone, Copy)]
pub struct HostCpu {
    pub max_basic: u32,
    pub max_extended: u32,
    pub intel: bool,
}

impl Cpuid for HostCpu {
    fn cpuid(&self, leaf: u32, subleaf: u32) -> [u32; 4] {
        match (leaf, subleaf) {
            (0, _) if self.intel => [self.max_basic, 0x756e_6547, 0x6c65_746e, 0x4965_6e69],
            (0, _) => [self.max_basic, 0x6874_7541, 0x444d_4163, 0x6974_6e65],
            (0x8000_0000, _) => [self.max_extended, 0, 0, 0],
            (4, 3..) => [0; 4],
            (0xd, 0) => [u32::MAX, 1, 0x1000, u32::MAX],
            // AVX, the parts of AVX-512, PKRU: size, offset, whether it is aligned.
            (0xd, 2) => [256, 576, 0, 0],
            (0xd, 5) => [48, 1088, 0, 0],
            (0xd, 6) => [512, 1152, 2, 0],
            (0xd, 7) => [1024, 1664, 2, 0],
            (0xd, 9) => [8, 2688, 0, 0],
            // AMX.
            (0xd, 17) => [64, 2752, 2, 0],
            (0xd, 18) => [8192, 2816, 2, 0],
            // CET: supervisor state.
            (0xd, 11) => [16, 0, 1, 0],
            (0xd, 2..) => [0; 4],
            _ => [u32::MAX; 4],
        }
    }
}

/// What a vCPU is made of.
pub struct Setup {
    pub policy: Policy,
    pub options: Options,
    pub features: Features,
    pub host: HostCpu,
    pub time_limit: u64,
    pub machine: MachineType,
    pub number: u8,
    pub links: u64,
    pub peers: &'static [Once<&'static Vm>],
}

impl Default for Setup {
    fn default() -> Setup {
        Setup {
            policy: Policy::Pv,
            options: Options::ABI | Options::UART | Options::MAY_SEE_STATISTICS,
            features: Features::all(),
            host: HostCpu { max_basic: 0x20, max_extended: 0x8000_0020, intel: true },
            time_limit: u64::MAX,
            machine: MachineType::Minimal,
            number: 1,
            links: 0,
            peers: &[],
        }
    }
}

impl Setup {
    /// A vCPU in 64-bit code whose VM has started just now. Its memory is never given back.
    pub fn vcpu(&self) -> Vcpu {
        self.vcpus(1).remove(0)
    }

    /// Several in one VM, the first on CPU 0 and the others on CPU 1.
    pub fn vcpus(&self, count: u32) -> Vec<Vcpu> {
        let mails: &'static [Mail; 2] = Box::leak(Box::new([Mail::new(), Mail::new()]));
        self.of_vm(count, self.number, self.links, self.peers, mails)
    }

    /// Those of several VMs, by their numbers: how many each has, and whom it may reach.
    pub fn linked(&self, vms: &[(u32, u64)]) -> Vec<Vec<Vcpu>> {
        let mails: &'static [Mail; 2] = Box::leak(Box::new([Mail::new(), Mail::new()]));
        let peers: &'static [Once<&'static Vm>] =
            vms.iter().map(|_| Once::new()).collect::<Vec<_>>().leak();
        (0u8..)
            .zip(vms)
            .map(|(number, &(count, links))| {
                let vcpus = self.of_vm(count, number, links, peers, mails);
                peers[usize::from(number)].call_once(|| vcpus[0].vm);
                vcpus
            })
            .collect()
    }

    fn of_vm(
        &self,
        count: u32,
        number: u8,
        links: u64,
        peers: &'static [Once<&'static Vm>],
        mails: &'static [Mail],
    ) -> Vec<Vcpu> {
        let pages: Vec<&'static ApicPage> =
            (0..count).map(|_| &*Box::leak(Box::new(ApicPage::new()))).collect();
        let posts: Vec<&'static Post> = (0u32..)
            .zip(&pages)
            .map(|(id, page)| &*Box::leak(Box::new(Post::new(id, page))))
            .collect();
        let vm = self.vm(posts.leak(), number, links, peers);
        (0u32..).zip(pages).map(|(number, page)| self.one(vm, number, page, mails)).collect()
    }

    fn vm(
        &self,
        posts: &'static [&'static Post],
        number: u8,
        links: u64,
        peers: &'static [Once<&'static Vm>],
    ) -> &'static Vm {
        let ram = vec![0u64; RAM as usize / 8].leak();
        // SAFETY: the memory is leaked, and used through this value alone.
        let memory = unsafe { GuestMemory::new(ram.as_mut_ptr().cast(), RAM) };
        let board = Board::new(self.machine, 0, RAM);
        let wired = board.has_interrupts();
        Box::leak(Box::new(Vm {
            number,
            name: String::from("vm"),
            policy: self.policy,
            options: self.options,
            features: self.features,
            links,
            peers,
            memory,
            generation: Generation::default(),
            share: (links != 0 && self.options.contains(Options::MAY_SHARE))
                .then(|| Share::new(Box::leak(Box::new(Shown::default())), RAM)),
            uart: self.options.contains(Options::UART).then(|| Mutex::new(Uart::new())),
            scratch: self.options.contains(Options::SCRATCH_PAGE).then(Box::default),
            machine: self.machine,
            board: Mutex::new(board),
            wired,
            tsc_hz: TSC_HZ,
            outbox: Mutex::new(Outbox::new(number)),
            is_told: posts.len() > 1 || links != 0,
            posts,
            stop: Stop::default(),
            ports: Ports::new(Box::leak(Box::new([const { AtomicU64::new(0) }; 1024]))),
            board_due: AtomicU64::new(u64::MAX),
            started: STARTED,
            slice: 1_000_000,
            weight: 256,
            time_limit: self.time_limit,
        }))
    }

    fn one(
        &self,
        vm: &'static Vm,
        number: u32,
        page: &'static ApicPage,
        mails: &'static [Mail],
    ) -> Vcpu {
        let info: &'static mut VcpuInfo = Box::leak(Box::new(VcpuInfo::new_zeroed()));
        let facts = Facts {
            policy: self.policy,
            options: self.options,
            features: self.features,
            tsc_hz: TSC_HZ,
            apic_hz: 25_000_000,
            vcpu: number,
            vcpus: vm.posts.len() as u32,
        };
        let cpuid = CpuidModel::build(info, &self.host, &facts);
        let config = Config {
            id: number,
            bootstrap: number == 0,
            physical_bits: 40,
            timer: TimerRatio::ONE,
            shortest_period: 0,
        };
        Vcpu {
            registers: Registers::default(),
            due: 0,
            slice_due: 0,
            horizon: 0,
            far: 0,
            info,
            info_gpa: INFO_GPA,
            number,
            post: vm.posts[number as usize],
            ending: None,
            cpu: number.min(1) as u16,
            mails,
            startup: None,
            waits_for_startup: number != 0,
            apic: VirtualApic::new(page, config),
            cpuid,
            msrs: MsrState::start(CpuFacts::new(false, 0)),
            xcr0: 1,
            xcr0_may: 0x2e7,
            cr4_may: 0x0077_0fff & !(1 << 6 | 1 << 12 | 1 << 13),
            physical_bits: 40,
            no_execute: true,
            long_mode: true,
            may_call: self.options.contains(Options::ABI),
            offers_eoi: true,
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
            exited: STARTED,
            tsc_offset: STARTED.wrapping_neg(),
            began: 0,
            slice_end: u64::MAX,
            halted_ticks: 0,
            recent: Recent::default(),
            profile: self.options.contains(Options::PROFILE).then(Profile::new),
            vm,
        }
    }
}

/// Every VM of some that are linked to each other and may share: `vcpus` of each.
pub fn linked(count: u8, vcpus: u32) -> Vec<Vec<Vcpu>> {
    let peers: &'static [_] = Vec::from_iter((0..count).map(|_| Once::new())).leak();
    let all = (1u64 << count) - 1;
    let vms = (0..count).map(|number| {
        let setup = Setup {
            number,
            links: all & !(1 << number),
            peers,
            options: Setup::default().options | Options::MAY_SHARE,
            ..Setup::default()
        };
        let vcpus = setup.vcpus(vcpus);
        peers[usize::from(number)].call_once(|| vcpus[0].vm);
        vcpus
    });
    vms.collect()
}

/// The window of a VM whose nested page table is this map.
#[derive(Default)]
pub struct Shown(Mutex<BTreeMap<u64, (u64, Access)>>);

impl Window for Shown {
    fn find(&self, gpa: u64) -> Option<(u64, Access)> {
        self.0.lock().get(&gpa).copied()
    }
    fn show(&self, gpa: u64, hpa: u64, access: Access) -> bool {
        let mut pages = self.0.lock();
        let free = !pages.contains_key(&gpa);
        pages.entry(gpa).or_insert((hpa, access));
        free
    }
    fn hide(&self, gpa: u64) -> Option<MustFlush> {
        assert!(self.0.lock().remove(&gpa).is_some(), "nothing was mapped");
        Some(MustFlush::in_a_test())
    }
}

/// A vCPU and its backend.
pub fn vcpu() -> (Vcpu, Fake) {
    (Setup::default().vcpu(), Fake::new())
}

/// Everything that a guest can see of its machine but RAX and RDX, and what the host has got.
pub fn snapshot(vcpu: &mut Vcpu, fake: &mut Fake) -> (Vec<u8>, String) {
    let mut ram = vec![0; RAM as usize];
    vcpu.vm.memory.read(0, &mut ram).unwrap();
    let mut registers = vcpu.registers.all();
    (registers[0], registers[2]) = (0, 0);
    let console = fake.console(vcpu);
    let state = std::format!(
        "{registers:x?} {:x?} {:?} {:?} {:?} {:?} {:?} {:?} {console:?}",
        fake.kept,
        vcpu.registered,
        vcpu.apic.timer_due(),
        fake.info_shown,
        fake.input,
        vcpu.vm.generation,
        vcpu.apic.base(),
    );
    (ram, state)
}

/// In xAPIC mode, enabled by software, the timer in TSC-deadline mode with vector 0x40.
pub fn with_timer(vcpu: &mut Vcpu) {
    let _ = vcpu.apic.mmio_write(0xf0, 0x1ff, 0);
    let _ = vcpu.apic.mmio_write(0x320, 2 << 17 | 0x40, 0);
}
