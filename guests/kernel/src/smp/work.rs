//! Work for CPUs.

use core::hint;
use core::mem::transmute;
use core::sync::atomic::{AtomicBool, Ordering};

use x86_64::instructions::interrupts as flag;

use super::cpu::{ALL, Cpu};
use super::{CpuSet, online, operations, relax, this};

/// The vector that ends a CPU's halt.
pub const WAKE: u8 = 0xf0;

/// How the other CPUs wait for work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Halted, until an interrupt.
    Halt,
    /// Looking.
    Spin,
}

static SPINS: AtomicBool = AtomicBool::new(false);

/// What a CPU does that was started: work, and wait for more.
pub(super) fn serve(cpu: &Cpu) -> ! {
    loop {
        flag::enable();
        work(cpu);
        flag::disable();
        if !SPINS.load(Ordering::Relaxed) {
            // Whoever gives work looks at `asleep` after that, and this at the work after this.
            cpu.asleep.store(true, Ordering::SeqCst);
            if cpu.job.load(Ordering::SeqCst) == 0 {
                (operations().halt)();
            }
            cpu.asleep.store(false, Ordering::Relaxed);
        } else {
            hint::spin_loop();
        }
    }
}

/// Does the work that this CPU has, if any.
fn work(cpu: &Cpu) {
    let job = cpu.job.load(Ordering::Acquire);
    if job != 0 {
        // SAFETY: `run_on` is what stores anything but 0.
        let job = unsafe { transmute::<usize, fn(usize)>(job) };
        job(cpu.index());
        cpu.job.store(0, Ordering::Release);
    }
}

/// Says how the other CPUs wait for work from here on.
pub fn wait_by(wait: Wait) {
    SPINS.store(wait == Wait::Spin, Ordering::Relaxed);
    if wait == Wait::Spin {
        online().without(CpuSet::of(this())).iter().for_each(operations().rouse);
    }
}

/// Has another CPU execute `job`, after [`join`] of what it had before. What was written before is seen there.
pub fn run_on(number: usize, job: fn(usize)) {
    join(number);
    let cpu = &ALL[number];
    cpu.job.store(job as usize, Ordering::SeqCst);
    if cpu.asleep.load(Ordering::SeqCst) {
        (operations().rouse)(number);
    }
}

/// Waits until a CPU has done its work. What it wrote is seen after that.
pub fn join(number: usize) {
    while ALL[number].job.load(Ordering::Acquire) != 0 {
        relax();
    }
}

/// Executes `job` on CPUs 0 to `n` - 1, of which this is one, at the same time, and waits for all of them.
pub fn run_on_all(n: usize, job: fn(usize)) {
    let others = CpuSet::first(n).without(CpuSet::of(this()));
    others.iter().for_each(|cpu| run_on(cpu, job));
    job(this());
    others.iter().for_each(join);
}
