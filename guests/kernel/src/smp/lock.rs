//! Spin locks, as small kernels have them. How a CPU waits is the business of [`super::Operations`].

use core::hint;
use core::sync::atomic::{AtomicU32, Ordering};

use super::{CPUS, operations, pv, this};

/// A lock that guards nothing but a section of code.
pub trait Lock: Sync {
    /// Waits for the lock and takes it.
    fn lock(&self);
    /// Takes the lock if it is free.
    fn try_lock(&self) -> bool;
    /// Gives it back. The CPU that calls it has it.
    fn unlock(&self);
}

/// Waits until `word` may be other than `seen`.
#[cold]
fn wait(word: &AtomicU32, seen: u32) {
    (operations().wait)(word, seen);
}

#[inline]
fn wake(word: &AtomicU32) {
    if let Some(wake) = operations().wake {
        wake(word);
    }
}

/// Test, and test-and-set: whoever comes first when it is free has it.
#[derive(Debug, Default)]
pub struct SpinLock(AtomicU32);

impl SpinLock {
    /// A free one.
    pub const fn new() -> SpinLock {
        SpinLock(AtomicU32::new(0))
    }
}

impl Lock for SpinLock {
    #[inline]
    fn lock(&self) {
        while !self.try_lock() {
            // Reading leaves the cache line where it is.
            while self.0.load(Ordering::Relaxed) != 0 {
                wait(&self.0, 1);
            }
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.0.swap(1, Ordering::Acquire) == 0
    }

    #[inline]
    fn unlock(&self) {
        self.0.store(0, Ordering::Release);
        wake(&self.0);
    }
}

/// Whoever drew a ticket first has it next.
#[derive(Debug, Default)]
pub struct TicketLock {
    next: AtomicU32,
    serving: AtomicU32,
}

impl TicketLock {
    /// A free one.
    pub const fn new() -> TicketLock {
        TicketLock { next: AtomicU32::new(0), serving: AtomicU32::new(0) }
    }
}

impl Lock for TicketLock {
    #[inline]
    fn lock(&self) {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        loop {
            let serving = self.serving.load(Ordering::Acquire);
            if serving == ticket {
                return;
            }
            wait(&self.serving, serving);
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        let serving = self.serving.load(Ordering::Acquire);
        let next = serving.wrapping_add(1);
        self.next.compare_exchange(serving, next, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn unlock(&self) {
        let next = self.serving.load(Ordering::Relaxed).wrapping_add(1);
        self.serving.store(next, Ordering::Release);
        wake(&self.serving);
    }
}

/// How often a waiting CPU looks before it lets its CPU go: for as long as a few others take who run.
const LOOKS: u32 = 256;

/// As [`TicketLock`], where who has waited for a while lets its CPU go, as whoever has the lock may not run,
/// and is roused when it is its turn. Natively it goes on looking.
#[derive(Debug)]
pub struct PvTicketLock {
    next: AtomicU32,
    serving: AtomicU32,
    /// Who sleeps with a ticket, as its number plus one, or 0. There are no more tickets at a time than CPUs.
    asleep: [AtomicU32; CPUS],
}

impl PvTicketLock {
    /// A free one.
    pub const fn new() -> PvTicketLock {
        PvTicketLock {
            next: AtomicU32::new(0),
            serving: AtomicU32::new(0),
            asleep: [const { AtomicU32::new(0) }; CPUS],
        }
    }

    fn sleeper(&self, ticket: u32) -> &AtomicU32 {
        &self.asleep[ticket as usize % CPUS]
    }

    /// Waits for a ticket that has not come up after some looks.
    #[cold]
    fn sleep(&self, ticket: u32) {
        let sleeper = self.sleeper(ticket);
        // Who unlocks says whose turn it is and then looks here, and this looks there after this.
        sleeper.store(this() as u32 + 1, Ordering::SeqCst);
        while self.serving.load(Ordering::SeqCst) != ticket {
            pv::wait();
        }
        sleeper.store(0, Ordering::Relaxed);
    }
}

impl Default for PvTicketLock {
    fn default() -> PvTicketLock {
        PvTicketLock::new()
    }
}

impl Lock for PvTicketLock {
    #[inline]
    fn lock(&self) {
        let ticket = self.next.fetch_add(1, Ordering::Relaxed);
        for _ in 0..LOOKS {
            if self.serving.load(Ordering::Acquire) == ticket {
                return;
            }
            hint::spin_loop();
        }
        self.sleep(ticket);
    }

    #[inline]
    fn try_lock(&self) -> bool {
        let serving = self.serving.load(Ordering::Acquire);
        let next = serving.wrapping_add(1);
        self.next.compare_exchange(serving, next, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[inline]
    fn unlock(&self) {
        let next = self.serving.load(Ordering::Relaxed).wrapping_add(1);
        self.serving.store(next, Ordering::SeqCst);
        if let Some(cpu) = self.sleeper(next).load(Ordering::SeqCst).checked_sub(1) {
            (operations().rouse)(cpu as usize);
        }
    }
}
