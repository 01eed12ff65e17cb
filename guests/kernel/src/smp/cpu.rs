//! What there is of each CPU, and how a CPU finds its own.

use core::arch::asm;
use core::mem::offset_of;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use x86_64::area::{self, Slot};
use x86_64::registers::model_specific::Msr;

/// The most CPUs that are used.
pub const CPUS: usize = 32;
const GS_BASE: u32 = 0xc000_0101;

/// What is known of a CPU. Two of them share no cache line, nor a pair that is fetched together.
#[repr(C, align(128))]
pub(super) struct Cpu {
    /// First, where GS finds it.
    index: u32,
    /// Of its own, once it has started.
    area: Slot,
    pub apic_id: AtomicU32,
    /// It may be halted, so whoever has work for it sends [`super::WAKE`].
    pub asleep: AtomicBool,
    /// The work that it has, a `fn(usize)`; 0 for none.
    pub job: AtomicUsize,
    /// The lowest address of its stacks; 0 before it is started for the first time.
    pub stacks: AtomicU64,
}

pub(super) static ALL: [Cpu; CPUS] = {
    let mut all = [const {
        Cpu {
            index: 0,
            area: Slot::new(),
            apic_id: AtomicU32::new(0),
            asleep: AtomicBool::new(false),
            job: AtomicUsize::new(0),
            stacks: AtomicU64::new(0),
        }
    }; CPUS];
    let mut i = 0;
    while i < CPUS {
        all[i].index = i as u32;
        i += 1;
    }
    all
};

/// Whether another CPU was ever started. Before that GS is the guest's to play with.
static SEVERAL: AtomicBool = AtomicBool::new(false);

impl Cpu {
    pub fn index(&self) -> usize {
        self.index as usize
    }

    /// Has the CPU that executes this know that it is this one. No area of it is registered, or CPU 0's.
    pub fn is_here(&'static self) {
        self.area.clear();
        // SAFETY: nothing else uses the GS base of a guest that starts CPUs.
        unsafe { Msr::new(GS_BASE).write(&raw const *self as u64) };
        SEVERAL.store(true, Ordering::Release);
    }

    /// Prepares this CPU, which is the only one, for others.
    pub fn is_first(&'static self) {
        self.is_here();
        // SAFETY: the only CPU, identity mapped; each has GS at its `Cpu` before it does anything else.
        unsafe { area::find_by_gs(offset_of!(Cpu, area) as i32) };
    }
}

/// The number of the CPU that executes this, 0 for the one that the guest began on.
#[inline]
pub fn this() -> usize {
    if !SEVERAL.load(Ordering::Relaxed) {
        return 0;
    }
    let index: u32;
    // SAFETY: whoever set `SEVERAL`, and each CPU since before it did anything else, has GS at its `Cpu`.
    unsafe {
        asm!("mov {:e}, gs:[0]", out(reg) index, options(nostack, readonly, preserves_flags))
    };
    index as usize
}
