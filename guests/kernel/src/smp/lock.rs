//! Spin locks, as small kernels have them. How a CPU waits is the business of [`super::Operations`].

use core::hint;
use core::sync::atomic::{AtomicU32, Ordering};

use super::{operations, pv, this};

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

/// How often a waiting CPU looks before it asks who has the lock: for longer than one who runs has it.
const LOOKS: u32 = 48;
/// How often a waiting CPU asks before nobody may come before it any more.
const PATIENCE: u32 = 16;

/// Whoever comes first when it is free has it, as with [`SpinLock`], so that it is never kept for one that does not
/// run. Who has waited for a while has the one run that has it, and after some more is the next. Natively it goes on
/// looking.
#[derive(Debug, Default)]
pub struct PvLock(AtomicU32);

/// [`PvLock`]: who has it, as its number plus one; 0 if it is free.
const OWNER: u32 = 0xff;
/// Who is next, likewise; 0 if it is whoever comes.
const NEXT: u32 = 0xff << NEXT_SHIFT;
const NEXT_SHIFT: u32 = 8;

impl PvLock {
    /// A free one.
    pub const fn new() -> PvLock {
        PvLock(AtomicU32::new(0))
    }

    /// Takes it if it is free and nobody else is next.
    #[inline]
    fn take(&self, me: u32) -> bool {
        let word = self.0.load(Ordering::Relaxed);
        (word == 0 || word == me << NEXT_SHIFT)
            && self.0.compare_exchange(word, me, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    #[cold]
    fn wait(&self, me: u32) {
        for round in 0_u32.. {
            for _ in 0..LOOKS {
                if self.take(me) {
                    return;
                }
                hint::spin_loop();
            }
            let word = self.0.load(Ordering::Relaxed);
            if round >= PATIENCE && word & NEXT == 0 {
                let next = word | me << NEXT_SHIFT;
                let _ = self.0.compare_exchange(word, next, Ordering::Relaxed, Ordering::Relaxed);
            }
            let ahead = if word & OWNER == 0 { word >> NEXT_SHIFT } else { word & OWNER };
            if let Some(cpu) = ahead.checked_sub(1) {
                pv::yield_to(cpu as usize);
            }
        }
    }
}

impl Lock for PvLock {
    #[inline]
    fn lock(&self) {
        let me = this() as u32 + 1;
        if !self.take(me) {
            self.wait(me);
        }
    }

    #[inline]
    fn try_lock(&self) -> bool {
        self.take(this() as u32 + 1)
    }

    #[inline]
    fn unlock(&self) {
        self.0.fetch_and(!OWNER, Ordering::Release);
    }
}
