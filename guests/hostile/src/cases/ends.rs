//! Ways to end a VM. What must happen stands in the table and is judged from the report.

use core::arch::asm;

use guest_kernel::apic::APIC_BASE_MSR;
use guest_kernel::pv;
use x86_64::VirtAddr;
use x86_64::hypercall::{base, sys};
use x86_64::instructions::interrupts;
use x86_64::instructions::tables::lidt;
use x86_64::registers::control::Cr3;
use x86_64::registers::model_specific::Msr;
use x86_64::structures::DescriptorTablePointer;

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
    ends_here("root-nowhere", Expected::BadMemory, root_nowhere),
    // With APIC virtualization Bochs takes the walk for an access by the instruction.
    ends_here("table-in-apic", Expected::Depends, table_in_apic),
    ends_here("jump-nowhere", Expected::BadMemory, jump_nowhere),
    ends_here("write-read-only", Expected::BadMemory, write_read_only),
    ends_here("read-unregistered", Expected::BadMemory, read_unregistered),
    ends("halt", Expected::HaltedForEver, halt),
    ends("loop", Expected::TimeLimit, endless),
    ends_here("call-flood", Expected::TimeLimit, call_flood),
    ends_here("exit-flood", Expected::TimeLimit, exit_flood),
    ends_here("crash", Expected::Crash, || crash(b"the hostile guest says so\n")),
    ends_here("crash-in-silence", Expected::Crash, || crash(&[])),
];

/// Identity mapped, and RAM of no VM.
const NOWHERE: u64 = 0xd000_0000;

const SURVIVED: Verdict = Err(Wrong::Other("the guest goes on"));

/// An exception with an empty interrupt table.
fn triple_fault() -> Verdict {
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

/// The root of the page tables is where there is no memory.
fn root_nowhere() -> Verdict {
    // SAFETY: none; see above.
    unsafe { asm!("mov cr3, {}", in(reg) NOWHERE) };
    SURVIVED
}

/// A page table is in the local APIC's page, where the walk finds no memory: that a load makes it is
/// no reason to answer the load instead.
fn table_in_apic() -> Verdict {
    /// Of IA32_APIC_BASE: the APIC is on, and in x2APIC mode.
    const MODE: u64 = 0b11 << 10;
    const XAPIC: u64 = 1 << 11;
    const APIC: u64 = 0xfee0_0000;
    const PRESENT_AND_WRITABLE: u64 = 0b11;
    /// An entry of the root that no address space uses.
    const ENTRY: usize = 200;
    let root = Cr3::read().0.start_address().as_u64() as *mut u64;
    // SAFETY: to be off is what both modes are reached from, and nothing uses the APIC any more. The
    // load is from addresses that nobody has.
    unsafe {
        let mut base = Msr::new(APIC_BASE_MSR);
        let off = base.read() & !MODE;
        base.write(off);
        base.write(off | XAPIC);
        root.add(ENTRY).write_volatile(APIC | PRESENT_AND_WRITABLE);
        ((ENTRY << 39) as *const u32).read_volatile();
    }
    SURVIVED
}

/// Code where there is no memory.
fn jump_nowhere() -> Verdict {
    // SAFETY: none; see above.
    unsafe { asm!("call {}", in(reg) NOWHERE) };
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

/// The same half when it is no longer there.
fn read_unregistered() -> Verdict {
    let (_, info) = pv::area_addresses().ok_or(Wrong::Other("the area is not registered"))?;
    pv::unregister();
    // SAFETY: nothing is mapped there.
    unsafe { (info as *const u64).read_volatile() };
    SURVIVED
}

fn halt() -> Verdict {
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

fn crash(message: &[u8]) -> Verdict {
    let _ = sys::crash(message.as_ptr() as u64, message.len() as u64);
    SURVIVED
}
