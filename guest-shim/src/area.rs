//! The per-vCPU area: registration, and access to its two halves.
//!
//! Each CPU [registers](register) its own. The operations of this crate use that of the CPU which executes them: on
//! one CPU without more ado, and on several from what the kernel keeps for each, when it has said where that is:
//! [`find_by_gs`].
//!
//! Both halves are written by two parties, so the shared half is made of atomics and the read-only
//! half is read by volatile copies, never through a reference.

use core::mem::offset_of;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use pv_abi::area::{Clock, Counter, CpuidEntry, SHARED_SIZE, Steal};
use pv_abi::area::{VcpuInfo, VcpuShared, call_slot};
use pv_abi::call::Number;
use pv_abi::event;
use pv_abi::exit::Reason;

pub use current::{RegisterError, Slot, current, find_by_gs, register, unregister};

mod current;

pub(crate) use current::shared;

/// The shared half: a page that the kernel owns for each vCPU, in a `static` for instance.
#[derive(Debug)]
#[repr(C, align(4096))]
pub struct SharedPage {
    deadline: AtomicU64,
    reserved: [u64; 7],
    armed: AtomicU64,
    reserved2: [u64; 7],
    eoi: AtomicU32,
    reserved3: [u32; 15],
    pub(crate) selector: AtomicU64,
    reserved4: [u64; 7],
    pub(crate) pending: [AtomicU64; event::WORDS],
    pub(crate) masked: [AtomicU64; event::WORDS],
    rest: [u64; 448],
}

const _: () = {
    assert!(size_of::<SharedPage>() == SHARED_SIZE);
    assert!(offset_of!(SharedPage, deadline) == offset_of!(VcpuShared, deadline));
    assert!(offset_of!(SharedPage, armed) == offset_of!(VcpuShared, armed));
    assert!(offset_of!(SharedPage, eoi) == offset_of!(VcpuShared, eoi));
    assert!(offset_of!(SharedPage, selector) == offset_of!(VcpuShared, selector));
    assert!(offset_of!(SharedPage, pending) == offset_of!(VcpuShared, pending));
    assert!(offset_of!(SharedPage, masked) == offset_of!(VcpuShared, masked));
    assert!(offset_of!(SharedPage, rest) == size_of::<VcpuShared>());
};

impl SharedPage {
    /// A page as it must be when it is registered: zero.
    pub const fn new() -> SharedPage {
        SharedPage {
            deadline: AtomicU64::new(0),
            reserved: [0; 7],
            armed: AtomicU64::new(0),
            reserved2: [0; 7],
            eoi: AtomicU32::new(0),
            reserved3: [0; 15],
            selector: AtomicU64::new(0),
            reserved4: [0; 7],
            pending: [const { AtomicU64::new(0) }; event::WORDS],
            masked: [const { AtomicU64::new(0) }; event::WORDS],
            rest: [0; 448],
        }
    }

    /// Makes it what it must be when it is registered. What is reserved nobody has written.
    fn clear(&self) {
        let words = [&self.deadline, &self.armed, &self.selector];
        for word in words.into_iter().chain(&self.pending).chain(&self.masked) {
            word.store(0, Ordering::Relaxed);
        }
        self.eoi.store(0, Ordering::Release);
    }

    /// The guest TSC of the next timer interrupt, 0 for none. Written by the guest.
    #[inline]
    pub fn deadline(&self) -> &AtomicU64 {
        &self.deadline
    }

    /// The guest TSC at which the hypervisor looks at the deadline next, 0 for never. Written by
    /// the hypervisor.
    #[inline]
    pub fn armed(&self) -> u64 {
        self.armed.load(Ordering::Acquire)
    }

    /// Takes the flag that says that the interrupt in service can be ended without an exit. `true`
    /// means that this has ended it.
    #[inline]
    pub fn take_eoi(&self) -> bool {
        self.eoi.swap(0, Ordering::AcqRel) != 0
    }
}

impl Default for SharedPage {
    fn default() -> SharedPage {
        SharedPage::new()
    }
}

/// A registered area: both halves of one vCPU.
#[derive(Clone, Copy, Debug)]
pub struct Area {
    shared: &'static SharedPage,
    info: NonNull<VcpuInfo>,
}

// SAFETY: everything behind it is accessed by atomics or volatile copies.
unsafe impl Send for Area {}
// SAFETY: as above.
unsafe impl Sync for Area {}

/// Copies one field out of the read-only half.
macro_rules! peek {
    ($area:expr, $($field:tt)+) => {{
        let info: *const VcpuInfo = $area.info.as_ptr();
        // SAFETY: `Area::from_parts` was promised that the half stays mapped; the field is within
        // it, and any bit pattern is a value of its type.
        unsafe { (&raw const (*info).$($field)+).read_volatile() }
    }};
}

impl Area {
    /// An area that was registered by other means.
    ///
    /// # Safety
    ///
    /// `info` points at the read-only half, which stays mapped as long as a copy of the value is
    /// used, and `shared` is the other half of the same vCPU.
    pub const unsafe fn from_parts(shared: &'static SharedPage, info: NonNull<VcpuInfo>) -> Area {
        Area { shared, info }
    }

    /// The shared half.
    #[inline]
    pub fn shared(&self) -> &'static SharedPage {
        self.shared
    }

    /// Where the read-only half is mapped.
    pub fn info(&self) -> NonNull<VcpuInfo> {
        self.info
    }

    /// The version and the size that the read-only half states.
    fn layout(&self) -> (u32, u32) {
        (peek!(self, version), peek!(self, size))
    }

    /// The vCPU's number in its VM.
    pub fn vcpu(&self) -> u32 {
        peek!(self, vcpu)
    }

    /// The clock, in one piece.
    #[inline]
    pub fn clock(&self) -> Clock {
        read_consistently(|| peek!(self, clock.sequence), || peek!(self, clock))
    }

    /// Stolen time. The two fields are each current, not of one moment.
    pub fn steal(&self) -> Steal {
        peek!(self, steal)
    }

    /// Guest TSC of the last entry.
    #[inline]
    pub fn entered(&self) -> u64 {
        peek!(self, entered)
    }

    /// Exits for this reason so far, and the ticks that they took.
    #[inline]
    pub fn exits(&self, reason: Reason) -> Counter {
        peek!(self, exits[reason as usize])
    }

    /// All exits so far, marks left out. Reading them takes none.
    pub fn total_exits(&self) -> u64 {
        let reasons = Reason::ALL.iter().filter(|&&reason| reason != Reason::Mark);
        reasons.fold(0, |sum: u64, &reason| sum.wrapping_add(self.exits(reason).count))
    }

    /// How often this call was made, and the ticks that it took.
    #[inline]
    pub fn calls(&self, number: Number) -> Counter {
        peek!(self, calls[call_slot(number.extension(), number.function())])
    }

    /// VMREADs done for this vCPU.
    pub fn vmreads(&self) -> u64 {
        peek!(self, vmreads)
    }

    /// VMWRITEs done for this vCPU.
    pub fn vmwrites(&self) -> u64 {
        peek!(self, vmwrites)
    }

    /// Entry `index` of the CPUID mirror.
    #[inline]
    pub(crate) fn cpuid_entry(&self, index: usize) -> Option<CpuidEntry> {
        let valid = (peek!(self, cpuid_entries) as usize).min(pv_abi::area::CPUID_ENTRIES);
        if index < valid { Some(peek!(self, cpuid[index])) } else { None }
    }
}

/// Reads what a sequence lock guards: again while the sequence is odd or has moved on.
#[inline]
fn read_consistently<T>(mut sequence: impl FnMut() -> u32, mut read: impl FnMut() -> T) -> T {
    loop {
        let before = sequence();
        // The writer makes the sequence odd, writes, makes it even: what is read must lie between
        // the two looks at it.
        fence(Ordering::Acquire);
        let value = read();
        fence(Ordering::Acquire);
        if before.is_multiple_of(2) && sequence() == before {
            return value;
        }
        core::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests;
