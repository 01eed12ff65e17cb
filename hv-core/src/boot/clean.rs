//! What is left to do when the vCPUs of a VM have stopped: nobody else is to reach its RAM, which is to be zeros
//! before anybody has it.
//!
//! The first vCPU does it, in turns with others, so that it counts as the VM's own time. However large a VM is and
//! however often it resets itself, none waits for it longer than for any vCPU.

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::home::{Home, Unit};
use super::machine::Machine;
use super::sched::Vcpus;
use crate::hw::instructions::tsc;
use crate::hw::output;
use crate::vm::Vm;
use crate::vm::ipi::Flush;
use crate::vm::post::lowest;

/// Bytes that are zeroed between two looks at the time.
const PIECE: u64 = 64 << 10;

/// How far it is.
pub struct Cleaning {
    /// The VM's other vCPUs.
    pub others: Vec<Unit>,
    /// VMs that were lent pages of its RAM, a bit for each, and one of them that is waited for.
    users: u64,
    flush: Option<Flush<'static>>,
    /// Bytes that are zeros.
    zeroed: u64,
}

impl Cleaning {
    /// That of this VM, none of whose vCPUs will run.
    pub fn begin(vm: &Vm, others: Vec<Unit>) -> Box<Cleaning> {
        Box::new(Cleaning { others, users: vm.take_all_back(), flush: None, zeroed: 0 })
    }

    /// Goes one step on; whether that was the last, and whether another can follow at once.
    fn step(&mut self, vm: &Vm, machine: &Machine) -> (bool, bool) {
        if let Some(flush) = &mut self.flush {
            // Those that run were interrupted, and leave guest mode at the end of their slices at last.
            let waits = flush.missing() != 0;
            if waits {
                core::hint::spin_loop();
            } else {
                self.flush = None;
            }
            return (false, !waits);
        }
        if let Some(user) = lowest(&mut self.users) {
            let link = &mut output::Host { vm: vm.number };
            self.flush = vm
                .peer(user.into())
                .map(|user| Flush::ask(user.posts, u64::MAX, machine.mails, None, link));
            return (false, true);
        }
        let length = PIECE.min(vm.memory.size().saturating_sub(self.zeroed));
        // The whole RAM is in range by its own size.
        let _ = vm.memory.zero(self.zeroed, length);
        self.zeroed = self.zeroed.saturating_add(length);
        (length < PIECE, true)
    }

    /// Goes on until the TSC `until`, or until it is done, which is the answer.
    #[inline(never)]
    fn turn(&mut self, home: &Home, machine: &Machine, until: u64) -> bool {
        loop {
            match self.step(home.vm, machine) {
                (true, _) => return true,
                (false, true) if tsc() < until => {}
                (false, _) => return false,
            }
        }
    }
}

impl Vcpus<'_> {
    /// A vCPU that cleans up behind its VM has so many ticks from `began` on.
    #[inline(never)]
    pub(super) fn clean(&mut self, mut unit: Unit, began: u64, ticks: u64) {
        let (home, until) = (unit.payload.home, began.saturating_add(ticks));
        let done = match &mut unit.payload.cleaning {
            Some(cleaning) => cleaning.turn(home, self.machine, until),
            None => true,
        };
        let ran = tsc().saturating_sub(began);
        if done {
            self.queue.lock().leave(&mut unit, ran);
            home.cleaned(self.machine, unit);
        } else {
            self.queue.lock().put_back(unit, ran);
        }
    }
}
