//! The shim: its initialisation, and the areas of the vCPUs.

use core::ptr::NonNull;

use spin::Once;
use x86_64::area::{self, Area, SharedPage};
use x86_64::detect::{Found, Paravane};
use x86_64::{InitOptions, Mode, Operations, PhysAddr, Selection, VirtAddr};

use crate::smp::{self, CPUS};
use crate::{apic, end};

/// Of each CPU.
static SHARED: [SharedPage; CPUS] = [const { SharedPage::new() }; CPUS];
static SELECTION: Once<Selection> = Once::new();

pub(crate) fn init(command_line: &str) {
    let mode = Mode::from_command_line(command_line);
    let options = InitOptions {
        mode: mode.unwrap_or_default(),
        xapic: (!apic::has_x2apic()).then(|| VirtAddr::new(apic::MMIO)),
        debug_exit: Some(end::DEBUG_EXIT),
    };
    // SAFETY: this is the only CPU, at CPL 0, identity mapped; the options say what CPUID says, and
    // a debug exit that is not there is a port that nobody has.
    let selection = unsafe { x86_64::init(options) }.unwrap_or_else(|error| panic!("{error}"));
    SELECTION.call_once(|| selection);
    if let Err(error) = mode {
        panic!("{error}");
    }
    if present() {
        register();
    }
}

/// Registers the area of the CPU that executes this. Its counters are read in every mode; the shim decides what else
/// it is for.
///
/// # Panics
///
/// If the hypervisor refuses, or the read-only half is above the identity mapping.
pub fn register() {
    let page = &SHARED[smp::this()];
    let gpa = PhysAddr::new(&raw const *page as u64);
    // SAFETY: memory is identity mapped, the page is this vCPU's alone; `smp` has said how each finds its area.
    let registered = unsafe {
        area::register(page, gpa, |info| {
            let at = info.as_u64();
            assert!(at < 4 << 30, "the read-only half is beyond 4 GiB");
            NonNull::new(at as *mut _).expect("the read-only half is not at 0")
        })
    };
    if let Err(error) = registered {
        panic!("{error}");
    }
}

/// The page that the CPU that executes this shares with the hypervisor.
///
/// # Panics
///
/// If it is not registered.
pub fn shared() -> &'static SharedPage {
    area::current().expect("no area is registered").shared()
}

/// Takes this CPU's registration back.
pub fn unregister() {
    // SAFETY: the guests keep no copy of the area.
    if let Err(error) = unsafe { area::unregister() } {
        panic!("area.unregister: {error}");
    }
}

/// What CPUID says of Paravane; `None` without it.
pub fn paravane() -> Option<&'static Paravane> {
    match &SELECTION.get()?.found {
        Found::Paravane(paravane) => Some(paravane),
        _ => None,
    }
}

/// Whether Paravane is there, so that calls can be made in every mode.
pub fn present() -> bool {
    x86_64::operations().contains(Operations::CALL)
}

/// Whether anything but measuring is paravirtual.
pub fn active() -> bool {
    !(x86_64::operations() - (Operations::CALL | Operations::XAPIC | Operations::ONE_SHOT))
        .is_empty()
}

/// The exits of the vCPU that executes this so far, marks left out, from the area: reading them takes none.
#[inline]
pub fn exits() -> Option<u64> {
    area::current().map(|area| area.total_exits())
}

/// The guest-physical addresses of its shared and its read-only half, while they are registered.
pub fn area_addresses() -> Option<(u64, u64)> {
    let address = |area: Area| (&raw const *area.shared() as u64, area.info().as_ptr() as u64);
    area::current().map(address)
}
