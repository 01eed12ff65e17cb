//! The one-time selection of native or paravirtual operation.

use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use x86_64::VirtAddr;

use crate::detect::{Found, detect};
use crate::hypercall::{CallError, base};
use crate::mode::{Mode, Unavailable, select};
use crate::site::{Operations, patch};
use crate::{apic, clock, cpuid, power, timer};

/// What [`init`] is to know.
#[derive(Clone, Copy, Debug, Default)]
pub struct InitOptions {
    /// What the user asks for.
    pub mode: Mode,
    /// Where the xAPIC's page is mapped, uncached, if the local APIC is to be reached by memory.
    /// Without it, it is reached by the x2APIC's MSRs.
    pub xapic: Option<VirtAddr>,
    /// The port of QEMU's isa-debug-exit device, for [`power::shutdown`] on bare metal.
    pub debug_exit: Option<u16>,
}

/// What [`init`] found and decided.
#[derive(Clone, Copy, Debug)]
pub struct Selection {
    /// Who runs us.
    pub found: Found,
    /// What was asked for.
    pub mode: Mode,
    /// What is done otherwise than by the native instruction.
    pub operations: Operations,
    /// How many call sites were patched.
    pub sites: usize,
}

/// Why [`init`] gave up. Everything stays native.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InitError {
    /// It has run before.
    AlreadyDone,
    /// Paravirtual operation was asked for and cannot be had.
    Unavailable(Unavailable),
    /// The hypervisor does not acknowledge this crate's ABI version. Hypercalls can be made.
    Refused(CallError),
}

impl fmt::Display for InitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitError::AlreadyDone => f.write_str("the shim is initialised already: call it once"),
            InitError::Unavailable(reason) => reason.fmt(f),
            InitError::Refused(error) => {
                write!(f, "base.acknowledge: {error}: build kernel and hypervisor from one release")
            }
        }
    }
}

impl core::error::Error for InitError {}

static DONE: AtomicBool = AtomicBool::new(false);
static SELECTED: AtomicU32 = AtomicU32::new(0);

/// CPUID.01H:ECX: the timer has TSC-deadline mode.
const TSC_DEADLINE: u32 = 1 << 24;

/// How this CPU is operated natively: a property of the CPU, not of the hypervisor.
fn native_operations(options: &InitOptions) -> Operations {
    let mut operations = Operations::empty();
    operations.set(Operations::XAPIC, options.xapic.is_some());
    operations.set(Operations::ONE_SHOT, cpuid::native(1, 0).ecx & TSC_DEADLINE == 0);
    operations
}

/// Whether the hypercall instruction is VMMCALL. Hygon's CPUs are AMD's in this.
fn is_amd() -> bool {
    let vendor = cpuid::native(0, 0);
    let name = [vendor.ebx, vendor.edx, vendor.ecx].map(u32::to_le_bytes);
    matches!(name.as_flattened(), b"AuthenticAMD" | b"HygonGenuine")
}

/// Finds out who runs us, selects the operations and patches their call sites.
///
/// On Paravane it also takes the frequencies that CPUID tells for [`clock`] and [`timer`].
///
/// # Errors
///
/// See [`InitError`]. The native operations ([`Operations::XAPIC`], [`Operations::ONE_SHOT`]) are
/// in effect even then, except after [`InitError::AlreadyDone`].
///
/// # Safety
///
/// Called at CPL 0 in 64-bit mode, on the only CPU that runs this image, with the text mapped at
/// the address where it runs, and CR4.CET clear. What the options say of the machine is so.
pub unsafe fn init(options: InitOptions) -> Result<Selection, InitError> {
    // SAFETY: the caller's promise; what CPUID says is so.
    unsafe { init_as(options, detect(cpuid::native)) }
}

/// As [`init`], for a kernel that has found out by itself who runs it.
///
/// # Errors
///
/// As [`init`].
///
/// # Safety
///
/// As [`init`], and `found` is true.
pub unsafe fn init_as(options: InitOptions, found: Found) -> Result<Selection, InitError> {
    if DONE.swap(true, Ordering::Relaxed) {
        return Err(InitError::AlreadyDone);
    }
    power::set_debug_exit(options.debug_exit);
    if let Some(base) = options.xapic {
        apic::set_xapic(base);
    }
    let native = native_operations(&options);
    let (operations, error) = match select(&found, options.mode) {
        Ok(operations) => (operations, None),
        Err(error) => (Operations::empty(), Some(InitError::Unavailable(error))),
    };

    // First what calls need, because the acknowledgement is one.
    let first = native | operations & Operations::CALL;
    // SAFETY: the caller's promise; no paravirtual site is patched unless Paravane was found.
    let mut sites = unsafe { patch(first, is_amd()) };
    SELECTED.store(first.bits(), Ordering::Relaxed);
    if let Some(error) = error {
        return Err(error);
    }
    if let Found::Paravane(paravane) = &found {
        clock::set_tsc_hz(paravane.tsc_hz);
        timer::set_rate(paravane.apic_hz.into(), paravane.tsc_hz);
    }
    if operations.contains(Operations::CALL) {
        base::acknowledge(pv_abi::VERSION.into()).map_err(InitError::Refused)?;
        // SAFETY: as above; the sites of the first round are not patched again.
        sites += unsafe { patch(operations - first, false) };
    }
    let operations = operations | native;
    SELECTED.store(operations.bits(), Ordering::Relaxed);
    Ok(Selection { found, mode: options.mode, operations, sites })
}

/// The operations in effect; empty before [`init`].
pub fn operations() -> Operations {
    Operations::from_bits_truncate(SELECTED.load(Ordering::Relaxed))
}
