//! The machine as all CPUs see it.

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::sync::atomic::{AtomicU32, Ordering};

use spin::{Mutex, Once};

use super::home::{Instance, Unit};
use crate::hw::extension::Extension;
use crate::hw::local_apic::{self, Timer};
use crate::hw::speculation::Speculation;
use crate::mem::frames::Frames;
use crate::sched::{Board, Queue};
use crate::vm::Vm;
use crate::vm::image::ImageError;
use crate::vm::post::Mail;

/// What all CPUs share. It is built by the first CPU and then only read, but for what says
/// otherwise by its type.
pub struct Machine {
    /// The virtualization extension.
    pub vendor: Extension,
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
    /// What each CPU is told about its vCPUs.
    pub mails: &'static [Mail],
    /// The VMs, by their numbers, as they are made.
    pub peers: &'static [Once<&'static Vm>],
    /// vCPUs that each CPU is given.
    pub arrivals: Vec<Mutex<Vec<Unit>>>,
    /// Those that want to run, by CPU.
    pub queues: Vec<Mutex<Queue<Instance>>>,
    /// What CPUs tell each other of their queues.
    pub board: Box<Board>,
    /// All vCPUs.
    pub vcpus: AtomicU32,
    /// VMs that have not ended.
    pub vms: AtomicU32,
    /// CPUs that have come up.
    pub online: AtomicU32,
    /// The CPUs that run VMs, once the queues are filled; 0 before.
    pub go: AtomicU32,
    /// CPUs that still run VMs.
    pub busy: AtomicU32,
}

impl Machine {
    /// Gives a vCPU to the CPU that it is for.
    pub fn send(&self, unit: Unit) {
        let cpu = unit.payload.vcpu.cpu;
        if let Some(arrivals) = self.arrivals.get(usize::from(cpu)) {
            arrivals.lock().push(unit);
        }
        self.call(usize::from(cpu));
    }

    /// One VM has ended. The CPUs hear of it when none is left.
    pub fn ended(&self) {
        if self.vms.fetch_sub(1, Ordering::AcqRel) == 1 {
            (0..self.go.load(Ordering::Acquire) as usize).for_each(|cpu| self.call(cpu));
        }
    }

    /// Has a CPU look at what it was given.
    pub fn call(&self, cpu: usize) {
        if let Some(mail) = self.mails.get(cpu) {
            mail.announce();
            local_apic::interrupt(mail.apic_id());
        }
    }
}

/// Why a VM cannot be made.
#[derive(Debug)]
pub enum MakeError {
    /// The bundle has no image of this name.
    NoImage,
    /// The bundle has no initial ramdisk of this name.
    NoInitrd,
    /// The image is no good.
    Image(ImageError),
    /// There is no free memory of that size.
    NoMemory(u64),
    /// The CPU lacks what the policy needs: this.
    Missing(String),
}

impl fmt::Display for MakeError {
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
