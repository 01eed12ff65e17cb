//! Models of what CPUs do to each other without locks, in every order that the memory model of x86-64 allows.
//!
//! Each CPU is a thread. What the machine does by an interrupt is [`Line`]: a CPU that sleeps although it has
//! something to do is a deadlock, which the checker reports with the order that led there. A model that needs more
//! orders than can be tried is bounded in how often a thread is left before it waits, and says so.
#![cfg(loom)]

mod board;
mod flush;
mod kick;
mod mail;
mod post;
mod start;
mod stop;
mod tlb;

use hv_core::device::apic::ApicPage;
use hv_core::vm::post::{Mail, Place, Post};
use loom::cell::UnsafeCell;
use loom::sync::{Condvar, Mutex};
use loom::thread;
use std::sync::Arc;

/// Tries all orders.
fn all_orders(model: impl Fn() + Sync + Send + 'static) {
    orders(None, model);
}

/// Tries the orders in which threads are left at most so often before they wait.
fn orders(bound: Option<usize>, model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = bound;
    builder.max_branches = 10_000;
    builder.check(model);
}

/// Runs threads, the last of them as the first one, and waits for all.
fn together<const N: usize>(threads: [Box<dyn FnOnce() + Send>; N], last: impl FnOnce()) {
    let threads = threads.map(thread::spawn);
    last();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// What the checker lets nobody write while others reach it.
struct Guarded<T>(UnsafeCell<T>);

// SAFETY: the checker ends the run at an access that has no order against another one of which one writes, before
// the access is made.
unsafe impl<T: Send> Sync for Guarded<T> {}

impl<T: Copy> Guarded<T> {
    fn new(value: T) -> Guarded<T> {
        Guarded(UnsafeCell::new(value))
    }

    fn read(&self) -> T {
        // SAFETY: nobody writes meanwhile, see above.
        self.0.with(|value| unsafe { *value })
    }

    fn write(&self, value: T) {
        // SAFETY: nobody reaches it meanwhile, see above.
        self.0.with_mut(|place| unsafe { *place = value });
    }
}

/// The interrupts of a CPU: one waits until it is taken, more than one are one.
#[derive(Default)]
struct Line {
    waits: Mutex<bool>,
    came: Condvar,
}

impl Line {
    fn interrupt(&self) {
        *self.waits.lock().unwrap() = true;
        self.came.notify_one();
    }

    /// What waits is taken.
    fn take(&self) {
        *self.waits.lock().unwrap() = false;
    }

    /// Halts until one is there, and takes it.
    fn halt(&self) {
        let mut waits = self.waits.lock().unwrap();
        while !*waits {
            waits = self.came.wait(waits).unwrap();
        }
        *waits = false;
    }
}

/// The number of the CPU on which the vCPU of the models is.
const CPU: u16 = 1;
/// Its number there while it sleeps.
const SLOT: u16 = 5;

/// A vCPU on a CPU of its own.
struct Home {
    post: Post,
    mail: Mail,
    line: Line,
}

impl Home {
    fn new() -> Arc<Home> {
        static PAGE: ApicPage = ApicPage::new();
        Arc::new(Home { post: Post::new(1, &PAGE), mail: Mail::new(), line: Line::default() })
    }

    /// What who tells it something has to do then.
    fn fetch(&self, place: Place) {
        match place {
            Place::Queued => return,
            Place::Running(cpu) | Place::Resting(cpu) => assert_eq!(cpu, CPU),
            Place::Asleep { cpu, slot } => {
                assert_eq!(cpu, CPU);
                self.mail.put(slot);
            }
        }
        self.line.interrupt();
    }

    /// It halts, and sleeps until it is woken.
    fn sleep(&self) {
        self.post.set_place(Place::Queued);
        self.post.set_place(Place::Asleep { cpu: CPU, slot: SLOT });
        while !self.post.waits() && !self.woken() {
            self.line.halt();
        }
        self.post.set_place(Place::Queued);
        self.post.set_place(Place::Running(CPU));
    }

    /// It halts, and stays on its CPU until it has something.
    fn rest(&self) {
        self.post.set_place(Place::Resting(CPU));
        while !self.post.waits() {
            self.line.halt();
        }
        self.post.set_place(Place::Running(CPU));
    }

    fn woken(&self) -> bool {
        let mut woken = false;
        self.mail.take(|slot| woken |= slot == SLOT);
        woken
    }
}
