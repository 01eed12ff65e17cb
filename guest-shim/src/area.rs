//! The per-vCPU area: registration, and access to its two halves.
//!
//! Both halves are written by two parties, so the shared half is made of atomics and the read-only
//! half is read by volatile copies, never through a reference.

use core::mem::offset_of;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering, fence};

use pv_abi::area::{Clock, Counter, CpuidEntry, INFO_SIZE, SHARED_SIZE, Steal};
use pv_abi::area::{VcpuInfo, VcpuShared, call_slot};
use pv_abi::call::Number;
use pv_abi::event;
use pv_abi::exit::Reason;
use x86_64::PhysAddr;

use crate::hypercall::{self, CallError};

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

/// Why an area could not be registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegisterError {
    /// The call failed.
    Call(CallError),
    /// The read-only half is not laid out as this crate knows it; the registration was taken back.
    Layout {
        /// The version that it states.
        version: u32,
        /// The size that it states.
        size: u32,
    },
}

impl core::fmt::Display for RegisterError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            RegisterError::Call(error) => write!(f, "area.register: {error}"),
            RegisterError::Layout { version, size } => write!(
                f,
                "the area is of version {version:#x} and {size} bytes: build kernel and hypervisor from one release"
            ),
        }
    }
}

impl core::error::Error for RegisterError {}

static SHARED: AtomicPtr<SharedPage> = AtomicPtr::new(ptr::null_mut());
static INFO: AtomicPtr<VcpuInfo> = AtomicPtr::new(ptr::null_mut());
static LOCATE: AtomicPtr<()> = AtomicPtr::new(ptr::null_mut());

/// Registers `page` as the calling vCPU's shared half. `map` makes the read-only half, 8 KiB at
/// the address that it is given, accessible and returns where; an identity-mapped kernel casts.
///
/// A kernel calls it on each of its vCPUs, with a page for each. Unless [`set_locator`] was called, the first
/// area is the one that all operations use, which is right for a kernel on one CPU; what others register is
/// theirs through the [`Area`] and the page.
///
/// # Errors
///
/// The call's, [`CallError::NoHypervisor`] among them, and [`RegisterError::Layout`].
///
/// # Safety
///
/// `gpa` is the guest-physical address of `page`, and `map` returns a valid mapping that stays.
pub unsafe fn register(
    page: &'static SharedPage,
    gpa: PhysAddr,
    map: impl FnOnce(PhysAddr) -> NonNull<VcpuInfo>,
) -> Result<Area, RegisterError> {
    // SAFETY: the page is static and made of atomics; that it is at `gpa` is the caller's promise.
    let info = unsafe { hypercall::area::register(gpa.as_u64()) }.map_err(RegisterError::Call)?;
    // SAFETY: the caller promises the mapping, the call made the two halves belong together.
    let area = unsafe { Area::from_parts(page, map(PhysAddr::new_truncate(info))) };
    let (version, size) = (peek!(area, version), peek!(area, size));
    if version != pv_abi::VERSION || (size as usize) < INFO_SIZE {
        // SAFETY: the area has not been given to anybody.
        let _ = unsafe { hypercall::area::unregister() };
        return Err(RegisterError::Layout { version, size });
    }
    if LOCATE.load(Ordering::Relaxed).is_null() && INFO.load(Ordering::Relaxed).is_null() {
        SHARED.store(ptr::from_ref(page).cast_mut(), Ordering::Relaxed);
        INFO.store(area.info.as_ptr(), Ordering::Release);
    }
    Ok(area)
}

/// Takes the calling vCPU's registration back. Operations that need the area fall back to calls or
/// native instructions. Unless [`set_locator`] was called, that is the vCPU whose area they use.
///
/// # Errors
///
/// The call's.
///
/// # Safety
///
/// No copy of the calling vCPU's [`Area`] is used afterwards, and the locator does not return it.
pub unsafe fn unregister() -> Result<(), CallError> {
    if LOCATE.load(Ordering::Relaxed).is_null() {
        INFO.store(ptr::null_mut(), Ordering::Release);
    }
    // SAFETY: the caller's promise.
    unsafe { hypercall::area::unregister() }.map(drop)
}

/// Tells how to find the calling CPU's area, on kernels with several CPUs: from per-CPU data that
/// the kernel keeps. To be called before the first [`register`].
pub fn set_locator(locate: fn() -> Option<Area>) {
    LOCATE.store(locate as *mut (), Ordering::Release);
}

/// The calling CPU's area, if it has been registered.
#[inline]
pub fn current() -> Option<Area> {
    let locate = LOCATE.load(Ordering::Acquire);
    if !locate.is_null() {
        // SAFETY: only `set_locator` stores here, and it stores a function of this type.
        let locate = unsafe { core::mem::transmute::<*mut (), fn() -> Option<Area>>(locate) };
        return locate();
    }
    let info = NonNull::new(INFO.load(Ordering::Acquire))?;
    // SAFETY: stored before INFO, by `register`, from a static reference.
    let shared = unsafe { SHARED.load(Ordering::Relaxed).as_ref() }?;
    Some(Area { shared, info })
}

#[cfg(test)]
mod tests;
