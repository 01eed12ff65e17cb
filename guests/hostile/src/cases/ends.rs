//! Ways to end a VM. What must happen stands in the table and is judged from the report.

use core::arch::asm;

use guest_kernel::pv;
use x86_64::VirtAddr;
use x86_64::hypercall::{base, sys};
use x86_64::instructions::interrupts;
use x86_64::instructions::tables::lidt;
use x86_64::registers::control::{Cr3, Cr4, Cr4Flags};
use x86_64::structures::DescriptorTablePointer;

use super::nowhere::NOWHERE;
use super::{Action, Case, Expected, Verdict, Wrong};

const fn ends(name: &'static str, expected: Expected, run: fn() -> Verdict) -> Case {
    Case { name, expected, needs_pv: false, action: Action::Run(run) }
}

const fn ends_here(name: &'static str, expected: Expected, run: fn() -> Verdict) -> Case {
    Case { needs_pv: true, ..ends(name, expected, run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    ends("triple-fault", Expected::TripleFault, triple_fault),
    ends("page-tables", Expected::TripleFault, page_tables),
    ends("root-nowhere", Expected::TripleFault, root_nowhere),
    ends_here("write-read-only", Expected::BadMemory, write_read_only),
    ends_here("sse-nowhere", Expected::Unsupported, sse_nowhere),
    ends("halt", Expected::HaltedForEver, halt),
    ends("loop", Expected::TimeLimit, endless),
    ends_here("call-flood", Expected::TimeLimit, call_flood),
    ends_here("exit-flood", Expected::TimeLimit, exit_flood),
    ends_here("crash", Expected::Crash, || crash(b"the hostile guest says so\n")),
    ends_here("crash-in-silence", Expected::Crash, || crash(&[])),
];

const SURVIVED: Verdict = Err(Wrong::Other("the guest goes on"));

/// An exception with an empty interrupt table.
pub(super) fn triple_fault() -> Verdict {
    let nothing = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
    // SAFETY: to be without handlers is what is wanted.
    unsafe {
        lidt(&nothing);
        asm!("ud2");
    }
    SURVIVED
}

/// The root of the page tables is overwritten; then the TLB is flushed.
fn page_tables() -> Verdict {
    let (root, flags) = Cr3::read();
    // SAFETY: none; that nothing is mapped any more is what is wanted.
    unsafe {
        core::ptr::write_bytes(root.start_address().as_u64() as *mut u8, 0, 4096);
        Cr3::write(root, flags);
    }
    SURVIVED
}

/// The root of the page tables is where there is no memory: every entry is ones, and no exception can
/// be delivered.
fn root_nowhere() -> Verdict {
    // SAFETY: none; see above.
    unsafe { asm!("mov cr3, {}", in(reg) NOWHERE) };
    SURVIVED
}

/// Vector registers, to where nobody is.
fn sse_nowhere() -> Verdict {
    // SAFETY: as `page_tables`; no code of the guests uses XMM0.
    unsafe {
        Cr4::write(Cr4::read() | Cr4Flags::OSFXSR);
        asm!("movups [{}], xmm0", in(reg) NOWHERE);
    }
    SURVIVED
}

/// The half of the area that belongs to the hypervisor.
fn write_read_only() -> Verdict {
    let info = pv::area_addresses()
        .map(|(_, info)| info)
        .ok_or(Wrong::Other("the area is not registered"))?;
    // SAFETY: the hypervisor's mapping refuses it.
    unsafe { (info as *mut u64).write_volatile(0) };
    SURVIVED
}

pub(super) fn halt() -> Verdict {
    // The instruction, not the shim's call, which waits for an interrupt that is only pending. An
    // NMI would end it; nobody sends one.
    // SAFETY: nothing is touched.
    unsafe { asm!("cli", "hlt") };
    SURVIVED
}

fn endless() -> Verdict {
    interrupts::disable();
    loop {
        // SAFETY: no instruction; the loop must not be taken for one without effect.
        unsafe { asm!("") };
    }
}

fn call_flood() -> Verdict {
    loop {
        let _ = base::nop();
    }
}

fn exit_flood() -> Verdict {
    loop {
        core::hint::black_box(core::arch::x86_64::__cpuid(0));
    }
}

pub(super) fn crash(message: &[u8]) -> Verdict {
    let _ = sys::crash(message.as_ptr() as u64, message.len() as u64);
    SURVIVED
}
