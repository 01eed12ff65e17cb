//! Which area is the calling CPU's: its registration, and how a CPU finds its own.

use core::arch::asm;
use core::mem::offset_of;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

use pv_abi::Status;
use pv_abi::area::{INFO_SIZE, VcpuInfo};
use x86_64::PhysAddr;

use super::{Area, SharedPage};
use crate::hypercall::{self, CallError};
use crate::site::{self, load};

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

/// Where the area of one CPU is, while it has one. A kernel with several CPUs has a slot in what it keeps for each,
/// so that GS finds it; see [`find_by_gs`].
#[derive(Debug)]
#[repr(C)]
pub struct Slot {
    /// Not null only while `info` is not.
    shared: AtomicPtr<SharedPage>,
    info: AtomicPtr<VcpuInfo>,
}

impl Slot {
    /// One of a CPU without an area.
    pub const fn new() -> Slot {
        Slot { shared: AtomicPtr::new(ptr::null_mut()), info: AtomicPtr::new(ptr::null_mut()) }
    }

    /// Forgets an area that was taken back without [`unregister`], as INIT does. A CPU that is started again does
    /// it before anything else of this crate, and then [registers](register) anew.
    pub fn clear(&self) {
        self.set(ptr::null_mut(), ptr::null_mut());
    }

    /// An interrupt of the CPU may come between any two of these, and finds an area or none.
    fn set(&self, shared: *mut SharedPage, info: *mut VcpuInfo) {
        self.shared.store(ptr::null_mut(), Ordering::Release);
        self.info.store(info, Ordering::Release);
        self.shared.store(shared, Ordering::Release);
    }
}

impl Default for Slot {
    fn default() -> Slot {
        Slot::new()
    }
}

/// That of the only CPU, as long as there is one.
static ONLY: Slot = Slot::new();
/// Where the slots are of several, from the GS base of each.
static OFFSET: AtomicI64 = AtomicI64::new(NONE);
const NONE: i64 = i64::MAX;

/// [`Slot::set`] of the slot that is `offset` bytes from GS.
///
/// # Safety
///
/// The calling CPU's is there.
unsafe fn set_by_gs(offset: i64, shared: *mut SharedPage, info: *mut VcpuInfo) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!(
            "mov qword ptr gs:[{offset} + {shared_at}], 0",
            "mov gs:[{offset} + {info_at}], {info}",
            "mov gs:[{offset} + {shared_at}], {shared}",
            offset = in(reg) offset,
            shared = in(reg) shared,
            shared_at = const offset_of!(Slot, shared),
            info = in(reg) info,
            info_at = const offset_of!(Slot, info),
            options(nostack, preserves_flags),
        );
    }
}

fn set(shared: *mut SharedPage, info: *mut VcpuInfo) {
    match OFFSET.load(Ordering::Relaxed) {
        NONE => ONLY.set(shared, info),
        // SAFETY: `find_by_gs` was promised that.
        offset => unsafe { set_by_gs(offset, shared, info) },
    }
}

/// The shared half of the calling CPU's area, if it has been registered.
#[inline]
pub(crate) fn shared() -> Option<&'static SharedPage> {
    let shared: *mut SharedPage = load!(ONLY, offset_of!(Slot, shared));
    // SAFETY: null, or from the static reference that `register` was given.
    unsafe { shared.as_ref() }
}

/// The calling CPU's area, if it has been registered.
#[inline]
pub fn current() -> Option<Area> {
    let shared = shared()?;
    let info: *mut VcpuInfo = load!(ONLY, offset_of!(Slot, info));
    // SAFETY: the other half is not null, see `Slot`.
    Some(Area { shared, info: unsafe { NonNull::new_unchecked(info) } })
}

/// Has each CPU use its own area from here on, by a [`Slot`] that is `offset` bytes from its GS base. What the
/// calling CPU has registered is put into its slot.
///
/// A kernel with one CPU does without. One with several calls it when GS is as it will be, before it starts the
/// others; those [register](register) when they have come. A CPU without an area is operated by calls and
/// instructions alone.
///
/// # Safety
///
/// As for [`init`](crate::init): called at CPL 0 in 64-bit mode, on the only CPU that runs this image, with the text
/// mapped at the address where it runs, and CR4.CET clear. Called once.
///
/// From here on, wherever an operation of this crate is executed, interrupt handlers included, a slot is `offset`
/// bytes from the GS base of the CPU that executes it, and that CPU executes the operation to its end, which is so
/// where it is not preempted. No two CPUs have one slot. That of a CPU that has been reset was [cleared](Slot::clear).
pub unsafe fn find_by_gs(offset: i32) {
    let (shared, info) = (ONLY.shared.load(Ordering::Relaxed), ONLY.info.load(Ordering::Relaxed));
    // First the slot: a handler that came between must not find none.
    // SAFETY: the caller's promise.
    unsafe {
        set_by_gs(offset.into(), shared, info);
        site::find_by_gs(offset);
    }
    OFFSET.store(offset.into(), Ordering::Relaxed);
}

/// Registers `page` as the calling vCPU's shared half, and clears it for that. `map` makes the read-only half, 8 KiB
/// at the address that it is given, accessible and returns where; an identity-mapped kernel casts.
///
/// Each CPU calls it for itself, with a page of its own. From then on its operations use the area. An interrupt
/// handler that arms the timer must not come before it returns: it would not find the area that counts.
///
/// # Errors
///
/// The call's, [`CallError::NoHypervisor`] among them, and [`RegisterError::Layout`].
/// [`Status::AlreadyDone`] if the CPU has an area, which stays as it was.
///
/// # Safety
///
/// `gpa` is the guest-physical address of `page`, which is no other CPU's, and `map` returns a valid mapping that
/// stays. Before another CPU executes this or an operation of this crate, the kernel calls [`find_by_gs`].
pub unsafe fn register(
    page: &'static SharedPage,
    gpa: PhysAddr,
    map: impl FnOnce(PhysAddr) -> NonNull<VcpuInfo>,
) -> Result<Area, RegisterError> {
    if shared().is_some() {
        return Err(RegisterError::Call(CallError::Status(Status::AlreadyDone)));
    }
    // A `deadline` or `armed` of an earlier registration would be taken for this one's.
    page.clear();
    // SAFETY: the page is static and made of atomics; that it is at `gpa` is the caller's promise.
    let info = unsafe { hypercall::area::register(gpa.as_u64()) }.map_err(RegisterError::Call)?;
    // SAFETY: the caller promises the mapping, the call made the two halves belong together.
    let area = unsafe { Area::from_parts(page, map(PhysAddr::new_truncate(info))) };
    let (version, size) = area.layout();
    if version != pv_abi::VERSION || (size as usize) < INFO_SIZE {
        // SAFETY: the area has not been given to anybody.
        let _ = unsafe { hypercall::area::unregister() };
        return Err(RegisterError::Layout { version, size });
    }
    set(ptr::from_ref(page).cast_mut(), area.info.as_ptr());
    Ok(area)
}

/// Takes the calling vCPU's registration back. Its operations that need the area fall back to calls or native
/// instructions; a timer that was armed is armed again by the caller, as the deadline that counts may have been in the
/// area alone. As with [`register`], no handler that arms it may come meanwhile.
///
/// # Errors
///
/// The call's.
///
/// # Safety
///
/// No copy of the calling vCPU's [`Area`] is used afterwards.
pub unsafe fn unregister() -> Result<(), CallError> {
    set(ptr::null_mut(), ptr::null_mut());
    // SAFETY: the caller's promise.
    unsafe { hypercall::area::unregister() }.map(drop)
}
