//! The vendors' own exit codes behind a neutral reason.

use hv_core::host::report::Vendor;
use hv_core::hw::exit_codes::Row;
use hv_core::hw::svm::exit_code;
use hv_core::hw::vmx::exit_reason;
use pv_abi::exit::Reason;
use serde::Serialize;

/// An exit code as its manual writes it, or a range of codes that have one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Code {
    pub code: String,
    pub name: &'static str,
}

/// What the details make of a code that commonly has another reason, and the host's own timer of an
/// interrupt.
const VMX_ALSO: &[(Reason, u64)] = &[
    (Reason::PortIn, exit_reason::code::IO),
    (Reason::CrRead, exit_reason::code::CONTROL_REGISTER),
    (Reason::Nmi, exit_reason::code::EXCEPTION_OR_NMI),
];
const SVM_ALSO: &[(Reason, u64)] = &[
    (Reason::PortIn, exit_code::code::IOIO),
    (Reason::MsrWrite, exit_code::code::MSR),
    (Reason::NestedMisconfig, exit_code::code::NPF),
    (Reason::TimeSlice, exit_code::code::INTR),
    (Reason::NmiWindow, exit_code::code::INTR),
];

/// The codes that `reason` stands for. Some share a code, and more than the code tells them apart.
pub fn of(vendor: Vendor, reason: Reason) -> Vec<Code> {
    let (all, also) = match vendor {
        Vendor::Vmx => (exit_reason::ALL, VMX_ALSO),
        Vendor::Svm => (exit_code::ALL, SVM_ALSO),
    };
    let stands = |row: &&Row| row.3 == reason || also.contains(&(reason, row.0));
    let number = |code: u64| match vendor {
        Vendor::Vmx => code.to_string(),
        Vendor::Svm => format!("{code:#x}"),
    };
    let code = |&(first, last, name, _): &Row| match first == last {
        true => Code { code: number(first), name },
        false => Code { code: format!("{}-{}", number(first), number(last)), name },
    };
    all.iter().filter(stands).map(code).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(vendor: Vendor, reason: Reason) -> Vec<String> {
        of(vendor, reason).into_iter().map(|c| format!("{} {}", c.code, c.name)).collect()
    }

    #[test]
    fn a_reason_has_the_codes_of_both_vendors() {
        assert_eq!(codes(Vendor::Vmx, Reason::Hypercall), ["18 VMCALL"]);
        assert_eq!(codes(Vendor::Svm, Reason::Hypercall), ["0x81 VMMCALL"]);
        assert_eq!(codes(Vendor::Vmx, Reason::Rdtsc), ["16 RDTSC", "51 RDTSCP"]);
        assert_eq!(codes(Vendor::Svm, Reason::Rdtsc), ["0x6e RDTSC", "0x87 RDTSCP"]);
    }

    #[test]
    fn what_the_details_tell_apart_shares_a_code() {
        for reason in [Reason::PortIn, Reason::PortOut] {
            assert_eq!(codes(Vendor::Vmx, reason), ["30 I/O instruction"]);
            assert_eq!(codes(Vendor::Svm, reason), ["0x7b IOIO"]);
        }
        assert_eq!(codes(Vendor::Svm, Reason::NestedMisconfig), ["0x400 NPF"]);
        assert_eq!(codes(Vendor::Svm, Reason::TimeSlice), ["0x60 INTR"]);
    }

    #[test]
    fn codes_of_one_name_are_a_range() {
        assert_eq!(codes(Vendor::Svm, Reason::CrRead), ["0x0-0xf CR_READ"]);
        assert_eq!(
            codes(Vendor::Svm, Reason::CrWrite),
            ["0x10-0x1f CR_WRITE", "0x65 CR0_SEL_WRITE", "0x90-0x9f CR_WRITE_TRAP"]
        );
    }

    #[test]
    fn every_reason_that_hardware_has_is_somewhere() {
        // Software makes the one, and the other comes from codes without a name too.
        let made = [Reason::Mark, Reason::Other];
        for &reason in Reason::ALL.iter().filter(|reason| !made.contains(reason)) {
            let both = [Vendor::Vmx, Vendor::Svm].map(|vendor| of(vendor, reason).len());
            assert_ne!(both, [0, 0], "{}", reason.name());
        }
    }
}
