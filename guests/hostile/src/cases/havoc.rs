//! Everything at once, at random, on every CPU, until the VM's time is over. If the VM may be reset, it resets
//! itself every now and then, or one of its CPUs has it reset by a triple fault while the others go on.

use core::arch::asm;
use core::arch::x86_64::__cpuid;

use guest_kernel::interrupts;
use guest_kernel::probe::probe;
use guest_kernel::{info, println, smp, timer};
use pv_abi::call::{Number, console, event, sched, share, smp as calls, sys};
use x86_64::VirtAddr;
use x86_64::instructions::interrupts as flag;
use x86_64::instructions::port::Port;
use x86_64::instructions::tables::lidt;
use x86_64::registers::model_specific::Msr;
use x86_64::structures::DescriptorTablePointer;

use super::calls::{LOCAL_APIC, NOWHERE};
use super::smp::{VECTOR, begin, count, storm_once};
use super::{Action, Case, Expected, Verdict, Wrong};
use crate::ports;
use crate::random::Random;
use crate::raw::{Registers, call};

/// The cases.
pub const CASES: &[Case] = &[Case {
    name: "havoc",
    expected: Expected::Depends,
    needs_pv: true,
    action: Action::Run(havoc),
}];

/// Pages that calls may have the hypervisor write.
#[repr(C, align(4096))]
struct Junk([[u8; PAGE as usize]; JUNK_PAGES as usize]);
const PAGE: u64 = 4096;
const JUNK_PAGES: u64 = 16;
static mut JUNK: Junk = Junk([[0xa5; PAGE as usize]; JUNK_PAGES as usize]);

/// One thing out of so many has the VM reset.
const DISASTER: u64 = 500;
/// How often something is done that is felt only if there is much of it.
const FLOOD: u64 = 100;
/// Microseconds without interrupts.
const DEAF_US: u64 = 100;
/// Extensions, and functions of each, that are called.
const EXTENSIONS: u64 = 12;
const FUNCTIONS: u64 = 9;

/// What can be done.
const DEEDS: &[fn(&mut Random)] = &[
    any_call,
    any_call,
    call_flood,
    raise,
    lend,
    fill_console,
    |_| storm_once(),
    deaf,
    exit_flood,
    any_port,
    any_msr,
    any_memory,
];

fn havoc() -> Verdict {
    let n = begin();
    [32, 64, 128].into_iter().for_each(|vector| interrupts::handle(vector, count));
    println!("@hostile havoc on {n} CPUs");
    flag::enable();
    smp::run_on_all(n, |cpu| {
        let seed = info::options().number("seed").unwrap_or(1);
        // Another start for each time that the VM starts.
        let mut random = Random::new(seed << 32 ^ timer::now(), cpu as u64);
        loop {
            let deed = *random.of(DEEDS);
            deed(&mut random);
            if random.once_in(DISASTER) {
                disaster(&mut random);
            }
        }
    });
    Err(Wrong::Other("the guest does no more"))
}

fn junk(random: &mut Random) -> u64 {
    &raw const JUNK as u64 + random.below(JUNK_PAGES) * PAGE
}

/// A number that some call may take for something.
fn argument(random: &mut Random) -> u64 {
    match random.below(12) {
        0 => u64::from(VECTOR),
        1 => random.next(),
        // No vector of an exception.
        2 => 1 << (5 + random.below(59)),
        3 => *random.of(&[NOWHERE, LOCAL_APIC, !0xfff, u64::MAX]),
        4 => junk(random) + 8,
        5 | 6 => junk(random),
        7 => PAGE,
        8 => 32 + random.below(3) * 500,
        _ => random.below(4),
    }
}

/// Those that end the VM, or have this CPU wait for what may never come.
fn is_left_out(number: Number) -> bool {
    const WAITS: [Number; 3] = [sched::HALT_UNTIL, calls::WAIT, event::WAIT];
    number.extension() == sys::EXTENSION || WAITS.contains(&number)
}

/// Makes a call with these arguments, and zeros behind them.
fn make(number: Number, arguments: impl IntoIterator<Item = u64>) {
    let mut arguments = arguments.into_iter();
    let mut argument = || arguments.next().unwrap_or(0);
    let registers = Registers {
        rax: number.0,
        rdi: argument(),
        // An event that waits for an answer is left out, too.
        rsi: argument() & if number == event::SEND { 0 } else { u64::MAX },
        rdx: argument(),
        rcx: argument(),
        ..Registers::default()
    };
    // SAFETY: what the hypervisor may write is junk, or not this VM's.
    unsafe { call(registers) };
}

fn any_call(random: &mut Random) {
    let number = Number::new(random.below(EXTENSIONS) as u16, random.below(FUNCTIONS) as u16);
    if !is_left_out(number) {
        make(number, core::iter::from_fn(|| Some(argument(random))));
    }
}

/// The same call many times.
fn call_flood(random: &mut Random) {
    let number = Number::new(random.below(EXTENSIONS) as u16, random.below(FUNCTIONS) as u16);
    if !is_left_out(number) {
        let argument = argument(random);
        (0..FLOOD).for_each(|_| make(number, [argument; 4]));
    }
}

/// As much as one call takes.
fn fill_console(random: &mut Random) {
    make(console::WRITE, [junk(random), random.below(PAGE)]);
}

/// Opens, connects, raises and closes ports, its own and those of the other VM.
fn raise(random: &mut Random) {
    let port = random.below(8);
    make(event::OPEN, [port, random.below(4), random.below(2)]);
    make(event::CONNECT, [port, random.below(8)]);
    make(event::VECTOR, [u64::from(VECTOR)]);
    (0..FLOOD).for_each(|_| make(event::SEND, [port]));
    if random.once_in(2) {
        make(event::CLOSE, [port]);
    }
}

/// Offers a page, maps what is offered, and takes back.
fn lend(random: &mut Random) {
    let slot = random.below(8);
    make(share::OFFER, [slot, junk(random), random.below(2), random.below(2)]);
    make(share::MAP, [random.below(2), random.below(8), random.below(8)]);
    let other = *random.of(&[share::UNMAP, share::REVOKE]);
    make(other, [slot, random.below(8)]);
}

fn deaf(random: &mut Random) {
    let end = timer::now() + random.below(timer::ticks(DEAF_US));
    flag::without_interrupts(|| while timer::now() < end {});
}

fn exit_flood(_: &mut Random) {
    (0..FLOOD).for_each(|_| {
        __cpuid(0);
    });
}

fn any_port(random: &mut Random) {
    let port = random.next() as u16;
    if !ports::ends(port) {
        let value = random.next();
        // SAFETY: these do not end the machine, and no device reaches memory.
        unsafe {
            Port::<u8>::new(port).write(value as u8);
            Port::<u32>::new(port).read();
        }
    }
}

/// Reads an MSR and writes it as it is.
fn any_msr(random: &mut Random) {
    let msr = *random.of(&[0, 0x800, 0x4000_0000, 0xc000_0000, 0xc001_0000])
        + random.below(0x1000) as u32;
    // SAFETY: what it is already harms nobody; a fault is what the probe is for.
    let _ = probe(|| unsafe { Msr::new(msr).write(Msr::new(msr).read()) });
}

/// Memory that is not there.
fn any_memory(random: &mut Random) {
    let address = (NOWHERE + random.below(1 << 28)) as *mut u64;
    // SAFETY: nothing of this guest is there.
    unsafe {
        address.write_volatile(random.next());
        address.read_volatile();
    }
}

/// The VM is reset, if it may be; `disaster=reset` has it ask for it each time.
fn disaster(random: &mut Random) {
    if random.once_in(2) || info::options().value("disaster") == Some("reset") {
        make(sys::RESET, []);
    }
    let nothing = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
    // SAFETY: to be without handlers is what is wanted.
    unsafe {
        lidt(&nothing);
        asm!("ud2");
    }
}
