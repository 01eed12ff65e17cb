//! Random steps: instructions in every mode of the CPU, with random registers, flags and bytes.
//!
//! `case=steps seed=N steps=M` takes M of them. A step ends by the single step behind it, by whatever
//! exception it raises, by the INT3s around it, or by the timer. The same seed gives the same steps;
//! `first=N` begins with another one than number 0, and `trace=1` says how each ended.
//!
//! With `wild=1` there are also steps that take away what brings control back. What is left is an NMI
//! ([`watchdog`]), and a triple fault, which resets the machine: how far it got is kept in
//! [`progress`], and it goes on behind the step that reset it. That takes a machine of type `pc`, with
//! the right to reset itself. What no PC comes back from, or the hypervisor is known to end a VM for,
//! is left out: the list is in [`generate`]. The other steps have the same way back on such a machine: in a
//! mode without protection one may stop with interrupts off.

use core::arch::asm;

use guest_kernel::apic::{self, TIMER_VECTOR};
use guest_kernel::interrupts::{self, Frame};
use guest_kernel::probe::probe;
use guest_kernel::{info, println, timer};
use x86_64::instructions::port::Port;
use x86_64::registers::control::Cr4;
use x86_64::registers::model_specific::Msr;

use crate::raw::is_amd;
use crate::trip::{self, ARENA, End, MAPPED};

pub mod forms;
pub mod generate;
pub mod modes;
mod progress;
mod watchdog;

use generate::{Choice, Step};
use modes::MODES;
use watchdog::{NMI, Watchdog};

/// TSC ticks after which a step is interrupted.
const PATIENCE: u64 = 20_000_000;
/// The same for one that may wait for the interrupt.
const SOON: u64 = 50_000;
/// Steps after which the timer is armed anew.
const OFTEN: u64 = 256;
/// Steps after which it is said how far they have come.
const HEARTBEAT: u64 = 1 << 16;
/// How often a step is interrupted before it counts as one that does not end.
const ATTEMPTS: u32 = 3;
const FIRST_INTERRUPT: u8 = 32;

#[derive(Default)]
struct Counts {
    modes: [u64; MODES.len()],
    endless: u64,
    /// When the timer comes.
    due: u64,
}

/// Takes the steps that the command line asks for.
pub fn run() {
    let options = info::options();
    let number = |name, standard| options.number(name).unwrap_or(standard);
    let choice =
        Choice { seed: number("seed", 1), wild: number("wild", 0) != 0, cr4: bits_of_cr4() };
    let (first, steps) = (number("first", 0), number("steps", 1_000_000));
    let trace = number("trace", 0) != 0;
    let watchdog = Watchdog::find();
    let recovers = choice.wild || watchdog.is_some();
    let mut progress = recovers.then(|| progress::find(choice.seed));
    let begin = progress.as_ref().map_or(first, |p| p.next(first));
    let mut counts = Counts::default();
    let mut vectors = [0u64; 256];
    handle_exceptions(choice.wild);
    prepare(watchdog);
    set_msrs();
    for number in begin..first + steps {
        if let Some(progress) = &mut progress {
            progress.enter(number);
        }
        if number % HEARTBEAT == 0 && number != begin {
            println!("@hostile steps: {number}");
        }
        if number % OFTEN == 0 || number == begin {
            counts.arm(PATIENCE);
            watchdog.inspect(|w| w.wire());
        }
        let step = generate::step(choice, number);
        if trace {
            announce(number, &step);
        }
        let end = take(&step, watchdog, choice.wild, &mut counts);
        vectors[usize::from(end.vector)] += 1;
        if trace {
            tell(&end);
        }
    }
    watchdog.inspect(|w| w.stop());
    (0..FIRST_INTERRUPT).for_each(interrupts::forget);
    for number in first..first + steps {
        let step = generate::step(choice, number);
        counts.modes[mode_index(&step)] += 1;
    }
    for (mode, count) in MODES.iter().zip(counts.modes) {
        println!("@hostile steps {count} {}", mode.name);
    }
    let (exceptions, interrupts) = vectors.split_at(FIRST_INTERRUPT.into());
    for (vector, count) in exceptions.iter().enumerate().filter(|&(_, &count)| count != 0) {
        println!("@hostile steps {count} ended by vector {vector}");
    }
    println!("@hostile steps {} ended by other vectors", interrupts.iter().sum::<u64>());
    let resets = progress.map_or(0, |p| p.finish());
    println!("@hostile steps {steps} in all, {} without end, {resets} resets", counts.endless);
}

fn mode_index(step: &Step) -> usize {
    MODES.iter().position(|mode| mode.name == step.mode.name).unwrap_or(0)
}

/// Says what a step is, before it is taken: it may be the last.
fn announce(number: u64, step: &Step) {
    println!(
        "{number} {} {:x?} at {:#x} flags {:#x} cr0 {:#x} cr4 {:#x} registers {:x?}",
        step.mode.name,
        step.bytes,
        step.offset,
        step.start.flags,
        step.start.cr0,
        step.start.cr4,
        step.start.registers
    );
}

fn tell(end: &End) {
    /// RF, which QEMU 7.2 does not set.
    const RESUME: u64 = 1 << 16;
    println!(
        "    vector {} error {:x?} ip {:#x} flags {:#x} registers {:x?}",
        end.vector,
        end.error,
        end.ip,
        end.flags & !RESUME,
        end.registers
    );
}

/// Makes what trips need anew, and with a watchdog leads its NMI to a reset.
fn prepare(watchdog: Option<Watchdog>) {
    trip::prepare();
    if watchdog.is_some() {
        trip::reset_by_nmi();
    }
}

/// Takes a step, and repairs what it may have damaged.
fn take(step: &Step, watchdog: Option<Watchdog>, wild: bool, counts: &mut Counts) -> End {
    let mut attempts = 0;
    loop {
        trip::clear(ARENA.start, MAPPED);
        trip::put(&step.bytes, step.offset);
        set_breakpoints(step.breakpoints);
        if step.halts {
            counts.arm(SOON);
        }
        watchdog.inspect(|w| w.arm());
        let end = trip::go(&step.start);
        set_breakpoints(None);
        if step.mode.is_unconfined() || wild && step.mode.level == 0 {
            prepare(watchdog);
        }
        if step.writes_ports {
            watchdog.inspect(|w| w.wire());
        }
        if step.writes_msrs && step.mode.level == 0 {
            set_msrs();
            if wild {
                set_apic();
            }
        }
        if end.vector < FIRST_INTERRUPT {
            return end;
        }
        apic::end_of_interrupt();
        attempts += 1;
        // INT n may have the timer's vector before its time.
        if end.vector != TIMER_VECTOR || timer::now() < counts.due {
            return end;
        }
        counts.arm(PATIENCE);
        if step.halts {
            return end;
        }
        if attempts == ATTEMPTS {
            counts.endless += 1;
            return end;
        }
    }
}

/// The kernel's own code may meet breakpoints that a step has set, and an NMI that is late. What else
/// it meets comes of damage by a wild step, which a reset repairs.
fn handle_exceptions(wild: bool) {
    interrupts::handle(1, |_: &mut Frame| {});
    interrupts::handle(NMI, |_| {});
    if wild {
        (0..FIRST_INTERRUPT).filter(|&v| v != 1 && v != NMI).for_each(|vector| {
            interrupts::handle(vector, |_| reset());
        });
    }
}

/// Resets the machine by its keyboard controller.
fn reset() {
    const PULSE_RESET: u8 = 0xfe;
    loop {
        // SAFETY: it is what is wanted.
        unsafe { Port::<u8>::new(0x64).write(PULSE_RESET) };
    }
}

impl Counts {
    /// Has the timer come after this time. An interrupt whose delivery failed is in service still.
    fn arm(&mut self, ticks: u64) {
        apic::end_of_interrupt();
        self.due = timer::now() + ticks;
        timer::arm(self.due);
    }
}

/// Bits of CR4 that concern instructions, as far as this CPU has them.
fn bits_of_cr4() -> u32 {
    /// VME, PVI, TSD, DE, PSE, MCE, PGE, PCE, OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE, OSXSAVE.
    const BITS: [u32; 13] = [0, 1, 2, 3, 4, 6, 7, 8, 9, 10, 11, 16, 18];
    let before = Cr4::read_raw();
    let has = |bit: &u32| {
        // SAFETY: none of them concerns the kernel's code; what the CPU lacks is refused.
        let taken = probe(|| unsafe { Cr4::write_raw(before | 1 << *bit) }).is_ok();
        // SAFETY: as it was.
        unsafe { Cr4::write_raw(before) };
        taken
    };
    BITS.iter().filter(|bit| has(bit)).fold(0, |bits, bit| bits | 1 << bit)
}

/// Where system calls lead, and whatever else a step may have written. AMD's CPUs have SYSENTER in
/// legacy mode alone; QEMU 7.2 has it in compatibility mode too, and there it loads a CS that VMRUN
/// refuses after the next exit: so it is off on such a CPU.
fn set_msrs() {
    use trip::code::TRAP;
    use trip::tables::{STACK_TOP, segment};
    const EFER: u32 = 0xc000_0080;
    const CALLS: u64 = 1;
    /// The segments that SYSCALL and SYSRET count from, and the target in protected mode.
    const STAR: u64 =
        TRAP | (segment::CODE_64 as u64) << 32 | (segment::USER_CODE_64 as u64 - 16) << 48;
    /// TF, IF, DF.
    const MASK: u64 = 0x700;
    // SAFETY: the MSRs concern system calls, which the kernel has none of, and bases that no code of
    // it uses.
    unsafe {
        let mut efer = Msr::new(EFER);
        if efer.read() & CALLS == 0 {
            efer.write(efer.read() | CALLS);
        }
        for (msr, value) in [
            (0x174, if is_amd() { 0 } else { segment::CODE_32.into() }),
            (0x175, STACK_TOP - 0x100),
            (0x176, TRAP),
            (0xc000_0081, STAR),
            (0xc000_0082, TRAP),
            (0xc000_0083, TRAP),
            (0xc000_0084, MASK),
            (0xc000_0102, 0),
        ] {
            Msr::new(msr).write(value);
        }
    }
}

/// What a wild step may have written beyond that: the local APIC, and what single steps are. Where it
/// is no longer in its mode, a write is a fault, and so a reset.
fn set_apic() {
    const DEBUGCTL: u32 = 0x1d9;
    const PRIORITY: u32 = 0x808;
    // SAFETY: as they are after a reset.
    unsafe {
        Msr::new(DEBUGCTL).write(0);
        Msr::new(PRIORITY).write(0);
    }
    apic::init();
    timer::init();
}

/// Sets DR0 to DR3, DR6 and DR7.
fn set_breakpoints(breakpoints: Option<([u64; 4], u32)>) {
    const DR6: u64 = 0xffff_0ff0;
    const DR7: u32 = 0x400;
    let ([a, b, c, d], control) = breakpoints.unwrap_or(([0; 4], DR7));
    // SAFETY: the addresses are the arena's, where the kernel executes nothing; those of ports and
    // data come back by a handler that does nothing.
    unsafe {
        asm!("mov dr7, {}", in(reg) u64::from(DR7));
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}", "mov dr6, {}",
            in(reg) a, in(reg) b, in(reg) c, in(reg) d, in(reg) DR6);
        if control != DR7 {
            asm!("mov dr7, {}", in(reg) u64::from(control));
        }
    }
}
