//! Spin locks, as small kernels have them. How a CPU waits is the business of [`super::Operations`].

use core::sync::atomic::{AtomicU32, Ordering};

use super::operations;

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
