//! The steps of bring-up, in order.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::{Mutex, Once};

use super::entry::Protocol;
use super::home::Home;
use super::info::BootInfo;
use super::machine::Machine;
use super::sched::{Cpu, schedule};
use super::{finish, refuse, smp};
use crate::host::acpi;
use crate::host::bundle::{Bundle, BundleError, MAX_ENTRIES};
use crate::hw::Cpuid;
use crate::hw::cpu::HostSegments;
use crate::hw::extension::{self, Extension};
use crate::hw::find;
use crate::hw::instructions::ThisCpu;
use crate::hw::local_apic::Timer;
use crate::hw::physical::Physical;
use crate::hw::speculation::Speculation;
use crate::hw::{cpu, init_heap, instructions, local_apic, paging, time, wall_clock};
use crate::mem::frames::{Frames, PAGE, Range};
use crate::sched::{Board, Queue};
use crate::vm::Vm;
use crate::vm::desc::{ANY_CPU, VmDesc, check_links};
use crate::vm::post::{Mail, SLOTS, lowest};

/// Size of the heap in bytes: the instruction decoder's tables take 100 KiB of it, a VM 10 KiB.
const HEAP: u64 = 512 << 10;
/// Memory below this is the firmware's, but for one page.
const LOW_MEMORY: u64 = 1 << 20;
/// What the boot code maps, and all that is mapped until the final tables stand.
const BOOT_MAPPED: u64 = 4 << 30;

/// The slice of most vCPUs in microseconds: what the CPUs' queues count rounds by.
const SLICE_US: u64 = 10_000;

/// What the machine counts time by.
struct Clock {
    tsc_hz: u64,
    timer: Timer,
}

pub fn start(protocol: Protocol, information: u64) -> ! {
    let Some(mut info) = BootInfo::read(protocol, information) else {
        refuse("the boot loader passed no memory map: boot by Multiboot2 or PVH");
    };
    let frames = &mut info.frames;
    frames.reserve(paging::image());
    if let Some(bundle) = info.bundle {
        frames.reserve(bundle);
    }
    // A startup IPI can only name a page below 1 MiB. Some firmware puts modules there, so it is
    // taken after the bundle.
    let trampoline = frames.allocate_below(PAGE, PAGE, LOW_MEMORY);
    frames.reserve(Range::new(0, LOW_MEMORY));
    frames.reserve(Range::new(paging::LIMIT, u64::MAX));

    let Some(heap) = frames.allocate_below(HEAP, PAGE, BOOT_MAPPED) else {
        refuse("no memory: the hypervisor needs 1 MiB below 4 GiB beside its image");
    };
    // SAFETY: just allocated, below 4 GiB and so mapped, and never released.
    unsafe { init_heap(heap) };
    let segments = cpu::init();
    local_apic::init();
    let has_1g_pages = ThisCpu.announced(0x8000_0001, 0)[3] & 1 << 26 != 0;
    if paging::protect(frames, has_1g_pages).is_none() {
        refuse("no memory for the hypervisor's page tables");
    }
    defmt::info!(
        "Paravane {=str}: {=u64} KiB of memory free",
        env!("CARGO_PKG_VERSION"),
        frames.free_bytes() / 1024
    );

    if info.crash_test {
        crash_test();
    }
    let found = match find::find(&ThisCpu, &ThisCpu) {
        Ok(found) => found,
        Err(refusal) => refuse(refusal),
    };
    let tsc_hz = time::tsc_hz(&ThisCpu);
    let timer = Timer::find(&ThisCpu, tsc_hz);
    let clock = Clock { tsc_hz, timer };
    match Extension::new(found, frames, timer) {
        Some(vendor) => bring_up(vendor, info, clock, segments, trampoline),
        None => refuse("no memory for the permission maps"),
    }
}

fn bring_up(
    vendor: Extension,
    mut info: BootInfo,
    clock: Clock,
    segments: HostSegments,
    trampoline: Option<Range>,
) -> ! {
    vendor.log();
    defmt::info!("TSC at {=u64} Hz", clock.tsc_hz);
    clock.timer.enable();

    let bundle = match info.bundle {
        Some(range) => Bundle::parse(bundle_bytes(range)),
        None => Err(BundleError::Missing),
    };
    let bundle = match bundle {
        Ok(bundle) => bundle,
        Err(error) => refuse(error),
    };
    crate::emulate::decode::prepare();

    let on = match vendor.enable(&mut info.frames, &segments, 0) {
        Some(Ok(on)) => on,
        Some(Err(why)) => refuse(why),
        None => refuse("no memory to turn virtualization on"),
    };
    let rsdp = info.rsdp;
    let machine = machine(vendor, clock, info.frames);
    let cpus = rsdp.and_then(|rsdp| acpi::cpus(&Physical, rsdp));
    smp::start(machine, cpus, trampoline);
    paging::close_trampoline();

    distribute(machine, &on, &bundle);
    machine.go.store(machine.busy.load(Ordering::Acquire), Ordering::Release);
    run_cpu(machine, Cpu { on, index: 0, last: 0, occupied: false })
}

/// What all CPUs share. Out of line: what it is made from would stay on this CPU's stack for ever.
#[inline(never)]
fn machine(vendor: Extension, clock: Clock, frames: Frames) -> &'static Machine {
    let Clock { tsc_hz, timer } = clock;
    let slice = (tsc_hz / 1_000_000).saturating_mul(SLICE_US);
    let cpus = 0..acpi::MAX_CPUS;
    let mails: Vec<Mail> = cpus.clone().map(|_| Mail::new()).collect();
    if let Some(mail) = mails.first() {
        mail.set_apic_id(local_apic::id());
    }
    Box::leak(Box::new(Machine {
        vendor,
        tsc_hz,
        speculation: Speculation::of(&ThisCpu),
        xsave: cpu::enable_xsave(&ThisCpu),
        rdtscp: ThisCpu.announced(0x8000_0001, 0)[3] & 1 << 27 != 0,
        epoch: wall_clock::seconds_since_1970(),
        timer,
        frames: Mutex::new(frames),
        mails: mails.leak(),
        peers: peers(),
        arrivals: cpus.clone().map(|_| Mutex::new(Vec::new())).collect(),
        queues: cpus.map(|cpu| Mutex::new(Queue::new(cpu, 0, slice))).collect(),
        board: Box::new(Board::new()),
        vcpus: AtomicU32::new(0),
        vms: AtomicU32::new(0),
        online: AtomicU32::new(1),
        go: AtomicU32::new(0),
        busy: AtomicU32::new(0),
    }))
}

/// Raises #UD, so that a test can see an exception of the hypervisor arrive at the host with registers
/// and a backtrace.
#[inline(never)]
fn crash_test() {
    // SAFETY: the handler reports and stops.
    unsafe { core::arch::asm!("ud2") };
}

fn bundle_bytes(range: Range) -> &'static [u8] {
    // SAFETY: the boot loader put the module there, within the mapped first 4 GiB, and the range
    // was reserved before anything was allocated, so nothing else is ever put there.
    unsafe { core::slice::from_raw_parts(range.start as *const u8, range.length() as usize) }
}

/// Whom each VM may reach. A description that cannot be read is refused later.
#[inline(never)]
fn links(bundle: &Bundle<'_>) -> Vec<u64> {
    bundle.vms().map(|bytes| VmDesc::read(bytes).map_or(0, |packed| packed.links)).collect()
}

/// Places for every VM that there can be.
#[inline(never)]
fn peers() -> &'static [Once<&'static Vm>] {
    (0..MAX_ENTRIES).map(|_| Once::new()).collect::<Vec<_>>().leak()
}

/// Makes every VM of the bundle and gives each of its vCPUs to a CPU: to those that it names in turn, else
/// to all in turn.
fn distribute(machine: &'static Machine, on: &extension::Cpu, bundle: &Bundle<'static>) {
    let online = machine.online.load(Ordering::Acquire);
    let there = u64::MAX.checked_shl(online).map_or(u64::MAX, |beyond| !beyond);
    let mut turn = 0usize;
    let links = links(bundle);
    let (mut number, mut all) = (0u8, 0usize);
    for bytes in bundle.vms() {
        let packed = match VmDesc::read(bytes) {
            Ok(packed) => packed,
            Err(error) => refuse(format_args!("VM {number}: {error}")),
        };
        let desc = match packed.validate() {
            Ok(desc) => desc,
            Err(error) => refuse(format_args!("VM {number}: {error}")),
        };
        if let Err(error) = check_links(number, &links) {
            refuse(format_args!("VM \"{}\": {error}", desc.name));
        }
        let mut beyond = if packed.cpus == ANY_CPU { 0 } else { desc.cpus & !there };
        if let Some(cpu) = lowest(&mut beyond) {
            refuse(format_args!("VM \"{}\": there is no CPU {cpu}, only {online}", desc.name));
        }
        let units = match Home::make(machine, on, bundle, &desc, number) {
            Ok(units) => units,
            Err(error) => refuse(format_args!("VM \"{}\": {error}", desc.name)),
        };
        let mut allowed = desc.cpus & there;
        let cpus: Vec<u16> = core::iter::from_fn(|| lowest(&mut allowed)).collect();
        let mut named = 0;
        for unit in units {
            let turn = if packed.cpus == ANY_CPU { &mut turn } else { &mut named };
            let cpu = cpus.iter().cycle().nth(turn.checked_rem(cpus.len()).unwrap_or(0));
            *turn = turn.wrapping_add(1);
            let Some(arrivals) = cpu.and_then(|&cpu| machine.arrivals.get(usize::from(cpu))) else {
                continue;
            };
            let mut arrivals = arrivals.lock();
            if all >= SLOTS {
                refuse(format_args!("VM \"{}\": there is room for {SLOTS} vCPUs", desc.name));
            }
            unit.payload.vcpu.cpu = cpu.copied().unwrap_or(0);
            arrivals.push(unit);
            all = all.wrapping_add(1);
        }
        number = number.wrapping_add(1);
    }
    if number == 0 {
        refuse("the bundle describes no VM");
    }
    // All of them can come to one CPU.
    machine.queues.iter().take(online as usize).for_each(|queue| queue.lock().reserve(all));
    machine.vcpus.store(all as u32, Ordering::Release);
    machine.vms.store(number.into(), Ordering::Release);
    machine.busy.store(online, Ordering::Release);
}

/// What every CPU does from here on. The last one to be done ends the run.
pub fn run_cpu(machine: &'static Machine, mut cpu: Cpu) -> ! {
    schedule(&mut cpu, machine);
    if machine.busy.fetch_sub(1, Ordering::AcqRel) == 1 {
        finish();
    }
    instructions::stop()
}
