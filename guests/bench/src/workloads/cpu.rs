//! Single instructions: what they cost when they exit, and when the shim replaces them.

use core::hint::black_box;

use guest_kernel::scratch;
use x86_64::cpuid;
use x86_64::hypercall::base;
use x86_64::registers::control::Cr4;

use crate::measure::Meter;

/// `base.nop`: the price of a call.
pub fn null_hypercall(meter: &mut Meter, ops: u64) {
    meter.section(ops, || {
        let _ = base::nop();
    });
}

/// CPUID leaf 0.
pub fn cpuid_leaf(meter: &mut Meter, ops: u64) {
    meter.section(ops, op::cpuid_leaf);
}

/// The time in nanoseconds.
pub fn clock_read(meter: &mut Meter, ops: u64) {
    meter.section(ops, op::clock_read);
}

/// RDMSR of IA32_APIC_BASE, which no hypervisor passes through.
pub fn msr_read(meter: &mut Meter, ops: u64) {
    meter.section(ops, op::msr_read);
}

/// WRMSR of a register that is always emulated, with the value that it has.
pub fn msr_write(meter: &mut Meter, ops: u64) {
    // CPUID.7.0:EBX bit 1. IA32_TSC_ADJUST moves the physical TSC, so it is emulated everywhere,
    // and it is what is published for other hypervisors; where it is missing, IA32_APIC_BASE.
    let msr = if cpuid::cpuid(7, 0).ebx & 1 << 1 != 0 { op::TSC_ADJUST } else { op::APIC_BASE };
    let value = op::read(msr);
    meter.section(ops, || op::write(msr, value));
}

/// CR0.TS and CR4.DE on and off: a read of each register and four writes.
pub fn cr_toggle(meter: &mut Meter, ops: u64) {
    meter.section(ops, op::cr_toggle);
}

/// A write of CR4 that changes nothing.
pub fn cr_redundant(meter: &mut Meter, ops: u64) {
    let cr4 = Cr4::read_raw();
    // SAFETY: it is the value that CR4 has.
    meter.section(ops, || unsafe { Cr4::write_raw(cr4) });
}

/// OUT to the UART's scratch register.
pub fn port_io(meter: &mut Meter, ops: u64) {
    meter.section(ops, op::port_io);
}

/// In the page, as the local APIC's registers are: an access to the first bytes of one may be the second
/// half of another.
const REGISTER: u64 = scratch::PAGE + 0x20;

/// MOV from a device's register of 32 bits, which is nothing but memory.
pub fn mmio_read(meter: &mut Meter, ops: u64) {
    let register = REGISTER as *const u32;
    // SAFETY: memory is identity mapped, and the page is there: the table says so.
    meter.section(ops, || unsafe {
        black_box(register.read_volatile());
    });
}

/// MOV to one.
pub fn mmio_write(meter: &mut Meter, ops: u64) {
    let register = REGISTER as *mut u32;
    // SAFETY: as in `mmio_read`; nobody else uses it.
    meter.section(ops, || unsafe { register.write_volatile(0x55) });
}

/// One operation each.
pub mod op {
    use core::hint::black_box;

    use guest_kernel::{apic, serial};
    use x86_64::instructions::port::Port;
    use x86_64::registers::control::{Cr0, Cr0Flags, Cr4, Cr4Flags};
    use x86_64::registers::model_specific::Msr;
    use x86_64::{clock, cpuid};

    pub const APIC_BASE: u32 = apic::APIC_BASE_MSR;
    pub const TSC_ADJUST: u32 = 0x3b;

    pub fn read(msr: u32) -> u64 {
        // SAFETY: the callers name MSRs that the CPU has, and reading them changes nothing.
        unsafe { Msr::new(msr).read() }
    }

    pub fn write(msr: u32, value: u64) {
        // SAFETY: the callers write back the value that was read.
        unsafe { Msr::new(msr).write(value) }
    }

    pub fn cpuid_leaf() {
        black_box(cpuid::cpuid(0, 0));
    }

    pub fn clock_read() {
        black_box(clock::now());
    }

    pub fn msr_read() {
        black_box(read(APIC_BASE));
    }

    /// IA32_APIC_BASE, which every machine has, keeps its value.
    pub fn msr_write() {
        write(APIC_BASE, read(APIC_BASE));
    }

    pub fn cr_toggle() {
        let (cr0, cr4) = (Cr0::read_raw(), Cr4::read_raw());
        let (task_switched, debugging) =
            (Cr0Flags::TASK_SWITCHED.bits(), Cr4Flags::DEBUGGING_EXTENSIONS.bits());
        // SAFETY: the guest uses neither the FPU nor I/O breakpoints, and both bits are restored.
        unsafe {
            Cr0::write_raw(cr0 | task_switched);
            Cr0::write_raw(cr0 & !task_switched);
            Cr4::write_raw(cr4 | debugging);
            Cr4::write_raw(cr4 & !debugging);
        }
    }

    pub fn port_io() {
        // SAFETY: the scratch register has no effect.
        unsafe { Port::<u8>::new(serial::SCRATCH).write(0x55) }
    }
}
