//! The vendors' own exit codes behind a neutral reason.

use hv_core::host::report::Vendor;
use hv_core::hw::svm::exit_code::{self, code};
use hv_core::hw::vmx::exit_reason::Basic;
use pv_abi::exit::Reason;
use serde::Serialize;

/// An exit code as its manual writes it, or a range of codes that have one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Code {
    pub code: String,
    pub name: &'static str,
}

/// The codes that `reason` stands for. Some share a code, and more than the code tells them apart.
pub fn of(vendor: Vendor, reason: Reason) -> Vec<Code> {
    match vendor {
        Vendor::Vmx => vmx(reason),
        Vendor::Svm => svm(reason),
    }
}

fn vmx(reason: Reason) -> Vec<Code> {
    /// What the qualification makes of an exit reason that is commonly another.
    const ALSO: &[(Reason, Basic)] = &[
        (Reason::PortIn, Basic::Io),
        (Reason::CrRead, Basic::ControlRegister),
        (Reason::Nmi, Basic::ExceptionOrNmi),
    ];
    let stands = |basic: &&Basic| basic.neutral() == reason || ALSO.contains(&(reason, **basic));
    let code = |basic: &Basic| Code { code: (*basic as u16).to_string(), name: basic.name() };
    Basic::ALL.iter().filter(stands).map(code).collect()
}

fn svm(reason: Reason) -> Vec<Code> {
    /// What the host's own timer makes of an interrupt.
    const ALSO: &[(Reason, u64)] =
        &[(Reason::TimeSlice, code::INTR), (Reason::NmiWindow, code::INTR)];
    /// EXITINFO1 in all ways that a reason depends on.
    const INFO: [u64; 3] = [0, 1 << 0, 1 << 3];
    let stands = |&code: &u64| {
        INFO.iter().any(|&info| exit_code::neutral(code, info) == Some(reason))
            || ALSO.contains(&(reason, code))
    };
    let codes: Vec<u64> =
        (0..=code::VMGEXIT).chain([code::BUSY, code::INVALID]).filter(stands).collect();
    let ranges = codes.chunk_by(|a, b| exit_code::name(*a) == exit_code::name(*b));
    let named = ranges.filter_map(|range| {
        let code = match range {
            [first, .., last] => format!("{first:#x}-{last:#x}"),
            _ => format!("{:#x}", range.first()?),
        };
        Some(Code { code, name: exit_code::name(*range.first()?)? })
    });
    named.collect()
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
