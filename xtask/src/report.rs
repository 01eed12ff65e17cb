//! End and panic reports in readable form.

use std::fmt::Write;

use hv_core::host::link::HYPERVISOR;
use hv_core::host::report::{Cause, End, NO_VECTOR, Panic, Registers, Vendor};
use hv_core::hw::svm::exit_code;
use hv_core::hw::vmx::exit_reason::{Basic, ExitReason};
use pv_abi::exit::Reason;

use crate::symbols::Symbols;

const GPR: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];

const EXCEPTIONS: [&str; 22] = [
    "#DE divide error",
    "#DB debug",
    "NMI",
    "#BP breakpoint",
    "#OF overflow",
    "#BR bound range",
    "#UD invalid opcode",
    "#NM device not available",
    "#DF double fault",
    "coprocessor overrun",
    "#TS invalid TSS",
    "#NP segment not present",
    "#SS stack fault",
    "#GP general protection",
    "#PF page fault",
    "reserved",
    "#MF x87 error",
    "#AC alignment check",
    "#MC machine check",
    "#XM SIMD error",
    "#VE virtualization",
    "#CP control protection",
];

/// Why a VM ended, in words.
pub fn cause(cause: u32) -> &'static str {
    match Cause::from_number(cause) {
        Some(Cause::Shutdown) => "shut down",
        Some(Cause::Crash) => "crashed, as it says itself",
        Some(Cause::TripleFault) => "triple fault",
        Some(Cause::EntryFailure) => "the CPU refused to enter it",
        Some(Cause::Unsupported) => "did what this hypervisor does not support",
        Some(Cause::BadMemory) => "used memory in a way that cannot be completed",
        Some(Cause::HaltedForEver) => "halted for ever",
        Some(Cause::Refused) => "was not started",
        Some(Cause::TimeLimit) => "ran longer than its time limit",
        None => "ended for a cause that this tool does not know",
    }
}

/// The end of a VM.
pub fn end(vm: u8, name: &str, end: &End, message: &str, symbols: Option<&Symbols>) -> String {
    let kind = Cause::from_number(end.cause);
    if vm == HYPERVISOR && kind == Some(Cause::Refused) {
        return format!("The hypervisor refuses to run: {}", message.trim_end());
    }
    let mut text = format!("VM {name}: {}", cause(end.cause));
    if kind == Some(Cause::Shutdown) {
        let _ = write!(text, ", code {}", end.code);
    }
    if !message.is_empty() {
        let _ = write!(text, ": {}", message.trim_end());
    }
    let _ = write!(text, "\n  {} exits", end.exits);
    if matches!(kind, Some(Cause::Shutdown | Cause::Refused)) {
        return text;
    }
    let reason = u8::try_from(end.reason).ok().and_then(Reason::from_index);
    let _ = write!(
        text,
        ", the last: {} ({}, details {:#x}, {:#x})",
        reason.map_or("unknown", Reason::name),
        vendor_exit(end.vendor, end.vendor_code),
        end.vendor_detail[0],
        end.vendor_detail[1]
    );
    for (name, value) in [("address", end.address), ("code", end.code)] {
        if value != 0 {
            let _ = write!(text, ", {name} {value:#x}");
        }
    }
    registers(&mut text, &end.registers);
    place(&mut text, "at", end.registers.rip, symbols);
    text
}

/// The vendor's own exit code, by the name in its manual.
fn vendor_exit(vendor: u64, code: u64) -> String {
    let (vendor, name) = match Vendor::from_number(vendor) {
        Some(Vendor::Vmx) => {
            let reason = u32::try_from(code).map(|field| ExitReason(field).basic());
            ("VMX ", reason.map_or(Some("not entered"), |r| r.ok().map(Basic::name)))
        }
        Some(Vendor::Svm) => ("SVM ", exit_code::name(code)),
        None => ("", None),
    };
    format!("{vendor}{} {code:#x}", name.unwrap_or("exit code"))
}

/// A failure of the hypervisor.
pub fn panic(panic: &Panic, message: &str, symbols: Option<&Symbols>) -> String {
    let what = match panic.vector {
        NO_VECTOR => "panic".to_owned(),
        vector => {
            let name = usize::try_from(vector).ok().and_then(|v| EXCEPTIONS.get(v));
            let name = name.copied().unwrap_or("exception");
            format!("{name} (vector {vector}, error code {:#x})", panic.error_code)
        }
    };
    let mut text = format!("The hypervisor failed on CPU {}: {what}", panic.cpu);
    if !message.is_empty() {
        let _ = write!(text, ": {}", message.trim_end());
    }
    // Code that panics has no registers to report, only the way that it came.
    if panic.vector != NO_VECTOR {
        registers(&mut text, &panic.registers);
        place(&mut text, "at", panic.registers.rip, symbols);
    }
    for &address in panic.backtrace.iter().take_while(|&&address| address != 0) {
        // A return address belongs to the instruction behind the call.
        place(&mut text, "from", address.wrapping_sub(1), symbols);
    }
    text
}

fn registers(text: &mut String, r: &Registers) {
    for (index, (name, value)) in GPR.iter().zip(r.gpr).enumerate() {
        let lead = if index.is_multiple_of(4) { "\n  " } else { "  " };
        let _ = write!(text, "{lead}{name:3} {value:016x}");
    }
    let _ = write!(text, "\n  rip {:016x}  rflags {:08x}  efer {:x}", r.rip, r.rflags, r.efer);
    let _ = write!(text, "\n  cr0 {:x}  cr2 {:x}  cr3 {:x}  cr4 {:x}", r.cr0, r.cr2, r.cr3, r.cr4);
    let _ = write!(
        text,
        "\n  cs {:x} (rights {:x}, base {:x})  ss {:x} (rights {:x})",
        r.cs & 0xffff,
        r.cs >> 32,
        r.cs_base,
        r.ss & 0xffff,
        r.ss >> 32
    );
}

fn place(text: &mut String, lead: &str, address: u64, symbols: Option<&Symbols>) {
    let frames = symbols.map(|s| s.frames(address)).unwrap_or_default();
    if frames.is_empty() {
        let _ = write!(text, "\n  {lead} {address:#x}");
    }
    for frame in frames {
        let _ = write!(text, "\n  {lead} {address:#x} {frame}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> End {
        End {
            cause: Cause::TripleFault as u32,
            reason: Reason::TripleFault as u32,
            vendor: Vendor::Vmx as u64,
            vendor_code: 2,
            vendor_detail: [0; 2],
            code: 0,
            address: 0,
            exits: 12,
            registers: Registers { rip: 0x1234, ..Registers::default() },
        }
    }

    #[test]
    fn a_crash_shows_cause_reason_message_and_registers() {
        let text = end(0, "bench", &sample(), "stack gone", None);
        for part in ["VM bench: triple fault: stack gone", "12 exits", "triple-fault", "at 0x1234"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn the_last_exit_has_its_neutral_and_its_vendors_name() {
        let fault = End {
            cause: Cause::BadMemory as u32,
            reason: Reason::NestedPageFault as u32,
            vendor: Vendor::Svm as u64,
            vendor_code: 0x400,
            vendor_detail: [0x1_0000_0004, 0xfed0_0000],
            address: 0xfed0_0000,
            ..sample()
        };
        let line = |end: &End| self::end(0, "vm", end, "", None).lines().nth(1).unwrap().to_owned();
        assert_eq!(
            line(&fault),
            "  12 exits, the last: nested-page-fault (SVM NPF 0x400, details 0x100000004, 0xfed00000), address 0xfed00000"
        );
        let vmx = End { vendor: Vendor::Vmx as u64, vendor_code: 48, code: 2, ..fault };
        assert!(line(&vmx).contains("(VMX EPT violation 0x30, details"), "{}", line(&vmx));
        assert!(line(&vmx).ends_with(", code 0x2"), "{}", line(&vmx));
    }

    #[test]
    fn a_vendors_code_without_a_name_is_shown_as_a_number() {
        assert_eq!(vendor_exit(Vendor::Vmx as u64, 35), "VMX exit code 0x23");
        assert_eq!(vendor_exit(Vendor::Svm as u64, 0x404), "SVM exit code 0x404");
        assert_eq!(vendor_exit(7, 1), "exit code 0x1");
        let failed = "VMX VM-entry failure due to invalid guest state 0x80000021";
        assert_eq!(vendor_exit(Vendor::Vmx as u64, 0x8000_0021), failed);
        assert!(vendor_exit(Vendor::Vmx as u64, u64::MAX).starts_with("VMX not entered"));
    }

    #[test]
    fn a_shutdown_is_short() {
        let shutdown = End { cause: Cause::Shutdown as u32, code: 3, ..sample() };
        assert_eq!(end(0, "bench", &shutdown, "", None), "VM bench: shut down, code 3\n  12 exits");
        let refused = End { cause: Cause::Refused as u32, ..sample() };
        let text = end(HYPERVISOR, "hypervisor", &refused, "no EPT", None);
        assert_eq!(text, "The hypervisor refuses to run: no EPT");
    }

    #[test]
    fn a_panic_names_the_exception_and_stops_its_backtrace_at_zero() {
        let mut backtrace = [0; 16];
        backtrace[..2].copy_from_slice(&[0x11, 0x22]);
        let report =
            Panic { cpu: 1, vector: 14, error_code: 2, registers: Registers::default(), backtrace };
        let text = panic(&report, "", None);
        assert!(text.contains("on CPU 1: #PF page fault (vector 14, error code 0x2)"), "{text}");
        assert_eq!(text.matches("from").count(), 2, "{text}");
        let text = panic(&Panic { vector: NO_VECTOR, ..report }, "index out of range", None);
        assert!(text.contains("panic: index out of range"), "{text}");
        assert!(!text.contains("rax") && text.contains("from 0x10"), "{text}");
    }
}
