//! What a guest kernel links to run on Paravane: privileged operations that become hypercalls,
//! shared memory or nothing at all where that pays, and stay native instructions elsewhere.
//!
//! # Linking it into a kernel
//!
//! A kernel that uses the [`x86_64`](https://docs.rs/x86_64) crate changes one line of its
//! `Cargo.toml`; its `use x86_64::...` lines stay:
//!
//! ```toml
//! x86_64 = { package = "guest-shim", path = "…/guest-shim" }
//! ```
//!
//! and calls [`init`] early, on the boot CPU:
//!
//! ```no_run
//! # mod kernel { pub fn command_line() -> &'static str { "" } }
//! # use guest_shim as x86_64;
//! use x86_64::{InitOptions, Mode, area::{self, SharedPage}};
//!
//! static SHARED: SharedPage = SharedPage::new();
//!
//! let mode = Mode::from_command_line(kernel::command_line()).unwrap_or_default();
//! // SAFETY: first code on the only CPU that runs, at CPL 0, text mapped where it is linked.
//! let shim = unsafe { x86_64::init(InitOptions { mode, ..InitOptions::default() }) }.unwrap();
//! if shim.operations.contains(x86_64::Operations::CALL) {
//!     let gpa = x86_64::PhysAddr::new(&raw const SHARED as u64);
//!     // SAFETY: this kernel is identity mapped.
//!     unsafe { area::register(&SHARED, gpa, |gpa| {
//!         core::ptr::NonNull::new(gpa.as_u64() as *mut _).unwrap()
//!     }) }.unwrap();
//! }
//! ```
//!
//! The same binary then runs on bare metal, under another hypervisor, and on Paravane. `shim=native`
//! or `shim=pv` on its command line forces one way of operation; see [`Mode`].
//!
//! # Several CPUs
//!
//! An area belongs to one vCPU. Each CPU registers its own when it starts, and the kernel says once, before it starts
//! the others, where in what GS leads to an operation finds the area of the CPU that executes it:
//!
//! ```no_run
//! # use guest_shim as x86_64;
//! use core::mem::offset_of;
//! use x86_64::area::{self, SharedPage, Slot};
//!
//! struct Cpu {
//!     number: u32,
//!     area: Slot,
//!     page: SharedPage,
//! }
//!
//! // SAFETY: the only CPU that runs so far; its GS base is that of its `Cpu`, as each other's will be.
//! unsafe { area::find_by_gs(offset_of!(Cpu, area) as i32) };
//! ```
//!
//! What GS leads to belongs to the CPU, so an operation is executed where its thread stays on the CPU, and where GS is
//! the kernel's: behind SWAPGS. A CPU that is sent INIT loses its area; when it is started again it [clears its
//! slot](area::Slot::clear) and registers anew.
//!
//! # What is replaced, and by what
//!
//! | operation | where | paravirtual |
//! |---|---|---|
//! | CPUID | [`cpuid::cpuid`] | mirror in the read-only half: no exit |
//! | timer | [`timer::arm`], a write of IA32_TSC_DEADLINE by `Msr` | shared deadline: no exit if later, else one call |
//! | end of interrupt | [`apic::eoi`], a write of x2APIC EOI by `Msr` | shared flag: no exit |
//! | idling | [`idle::halt_until`], `hlt`, `enable_and_hlt` | one call |
//! | CR0, CR4, XCR0 | `Cr0`, `Cr4`, `XCr0` | writes that change nothing are dropped |
//! | time | [`clock::now`] | clock in the read-only half: no exit |
//! | console | the crate `drivers` | call or ring |
//! | reset, shutdown | [`power`] | call |
//! | other CPUs | [`smp`] | one call for a set of them |
//! | other VMs | [`event`], [`share`] | one call, and bits in shared memory; pages of memory, with a ring of messages |
//!
//! # What is not, and why
//!
//! Everything else is re-exported from `x86_64`, so that its types are the same types for every
//! crate that uses it:
//!
//! - CR3, INVLPG, INVPCID and page-table writes do not exit under nested paging with tagged TLBs; a
//!   call in their place only loses.
//! - CLI, STI and RFLAGS never exit.
//! - Port accesses and most MSRs exit or not as the policy says; a call in their place would exit
//!   as well. What they are used for is replaced, see above.
//! - `GS`, `FS` base, STAR and their like are passed through.
//! - `RdRand::new` and `Smap::new` execute CPUID themselves.
//!
//! Each replacement is taken only where the hypervisor recommends it (or `shim=pv` forces it),
//! because what pays depends on the policy that the VM runs under.
//!
//! # What it costs on bare metal
//!
//! One 5-byte NOP per call site. [`init`] overwrites the NOPs of the operations that it selects by
//! jumps, once, and [`area::find_by_gs`] the loads of where an area is by loads by GS. So they must
//! run before other CPUs start, with the text mapped where it runs; it may be mapped read-only,
//! since CR0.WP is cleared meanwhile. A linker script need not mention the
//! section `shim_sites`, but must neither discard it nor put it outside what is loaded.
//!
//! On a host, in tests, the NOPs stay and every operation is native.
#![no_std]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod apic;
pub mod area;
pub mod clock;
pub mod cpuid;
pub mod detect;
pub mod event;
pub mod hypercall;
pub mod idle;
mod init;
pub mod instructions;
mod mode;
pub mod power;
pub mod registers;
pub mod share;
mod site;
pub mod smp;
pub mod stat;
pub mod timer;

pub use init::{InitError, InitOptions, Selection, init, init_as, operations};
pub use mode::{Mode, Unavailable, UnknownMode, select};
pub use pv_abi;
pub use site::Operations;

pub use x86_64::{PhysAddr, PrivilegeLevel, VirtAddr, addr, align_down, align_up, structures};
