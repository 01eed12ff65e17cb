//! The time of a vCPU on a CPU, until it leaves.

use spin::Mutex;

use super::home::Instance;
use super::machine::Machine;
use super::sleep::{halt, next, send_output, wakes_at_once};
use crate::hw::instructions::tsc;
use crate::hw::vendor::Visit;
use crate::sched::Queue;
use crate::vm::exit::Leave;
use crate::vm::hardware::Backend;
use crate::vm::post::{Mail, Place};
use crate::vm::run::run;
use crate::vm::{Features, Vcpu};

/// A turn of a vCPU: it runs until it leaves; and for how long it has halted meanwhile.
pub(super) struct Turn {
    /// The TSC at which it makes room; `u64::MAX` for never.
    pub(super) yield_at: u64,
    /// The TSC.
    pub(super) began: u64,
    /// The TSC at which something is due for another that sleeps here.
    pub(super) until: u64,
    /// Where it may halt without leaving the CPU.
    pub(super) here: &'static Here,
}

impl Visit for Turn {
    type Answer = (Leave, u64);

    #[inline]
    fn visit(self, vcpu: &mut Vcpu, guest: &mut impl Backend) -> (Leave, u64) {
        let before = vcpu.halted_ticks;
        vcpu.begin_slice(self.yield_at, self.began);
        loop {
            vcpu.info.steal.preempted = 0;
            let leave = run(vcpu, guest);
            vcpu.info.steal.preempted = 1;
            let halted = vcpu.halted_ticks.wrapping_sub(before);
            if leave != Leave::Halted || !self.halts_here(halted, vcpu) {
                return (leave, vcpu.halted_ticks.wrapping_sub(before));
            }
            guest.has_halted();
        }
    }
}

/// What a vCPU that halts has to know of its CPU.
pub(super) struct Here {
    pub(super) machine: &'static Machine,
    pub(super) mail: &'static Mail,
    pub(super) queue: &'static Mutex<Queue<Instance>>,
    pub(super) index: u16,
    /// There are other CPUs.
    pub(super) shares: bool,
}

impl Turn {
    /// A vCPU that has its CPU for itself halts there: what is in the CPU of it stays there. Whether it has something to
    /// do, and then has what is left of a slice where there are other CPUs; it has not if somebody else wants to run,
    /// nothing of its own is left that could end the halt, something is due for another, or the CPU is told something.
    ///
    /// It has been halted for so many ticks of its turn already. What it had of the others is charged when it leaves,
    /// and who comes from another CPU meanwhile comes to a queue that knows nothing of it: it is a slice at most.
    #[inline(never)]
    fn halts_here(&self, halted: u64, vcpu: &mut Vcpu) -> bool {
        let &Here { machine, mail, queue, index, shares } = self.here;
        let (since, until) = (tsc(), self.until);
        let used = since.wrapping_sub(self.began).wrapping_sub(halted);
        let left = vcpu.vm.slice.saturating_sub(used);
        if shares && left == 0 {
            return false;
        }
        vcpu.post.set_place(Place::Resting(index));
        let stays = match shares {
            true => queue.lock().rests(&machine.board),
            false => queue.lock().is_empty(),
        };
        if !stays {
            return false;
        }
        if vcpu.vm.features.contains(Features::VIRTUAL_INTERRUPTS) {
            vcpu.apic.resume_software();
        }
        let mut now = since;
        let mut woken = loop {
            if wakes_at_once(vcpu, now) {
                break true;
            }
            let due = next(vcpu, now);
            if due == u64::MAX || until <= now || mail.waits() {
                break false;
            }
            send_output(vcpu);
            now = halt(machine, mail, due.min(until));
        };
        if shares {
            // Somebody who was sent here has announced it.
            woken &= machine.board.resume(index.into());
            vcpu.slice_end = until.min(now.saturating_add(left));
        }
        vcpu.go_on(now);
        vcpu.post.set_place(Place::Running(index));
        if mail.waits() {
            // The halt took the interrupt that came with it.
            vcpu.attend();
        }
        vcpu.halted_ticks = vcpu.halted_ticks.wrapping_add(now.wrapping_sub(since));
        woken
    }
}
