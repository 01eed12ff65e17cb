//! Which virtualization extension to run on.

use core::fmt;

use super::{Cpuid, ReadMsr, svm, vmx};

/// The extension that the CPU has, and what it can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// VT-x.
    Vmx(vmx::capability::Capabilities),
    /// AMD-V.
    Svm(svm::capability::Capabilities),
}

/// Why the hypervisor cannot run on this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// CPUID shows no extension.
    Neither,
    /// VMX lacks something.
    Vmx(vmx::capability::Refusal),
    /// SVM lacks something.
    Svm(svm::capability::Refusal),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Neither => f.write_str(
                "CPUID shows neither VMX nor SVM: use a CPU with VT-x or AMD-V; in a virtual machine, turn nested virtualization on and give it the host's CPU model, or use an emulated machine that has one of them",
            ),
            Refusal::Vmx(refusal) => refusal.fmt(f),
            Refusal::Svm(refusal) => refusal.fmt(f),
        }
    }
}

/// Asks the CPU.
///
/// # Errors
///
/// Why the hypervisor cannot run on it.
pub fn find(msrs: &impl ReadMsr, cpuid: &impl Cpuid) -> Result<Found, Refusal> {
    if vmx::capability::announced(cpuid) {
        let caps = vmx::capability::Capabilities::read(msrs, cpuid);
        caps.map(Found::Vmx).map_err(Refusal::Vmx)
    } else if svm::capability::announced(cpuid) {
        let caps = svm::capability::Capabilities::read(msrs, cpuid);
        caps.map(Found::Svm).map_err(Refusal::Svm)
    } else {
        Err(Refusal::Neither)
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString;

    use super::*;
    use crate::hw::svm::capability::tests::rich;
    use crate::hw::vmx::capability::tests::Fake;

    #[test]
    fn cpuid_says_which_to_use() {
        let (intel, amd) = (Fake::rich(), rich());
        assert!(matches!(find(&intel, &intel), Ok(Found::Vmx(caps)) if caps.revision == 0x2b));
        assert!(matches!(find(&amd, &amd), Ok(Found::Svm(caps)) if caps.asids == 64));
    }

    #[test]
    fn a_cpu_with_neither_is_told_of_both_and_not_asked_for_msrs() {
        // A leaf that is not announced, or an MSR, would panic.
        let long_mode = (0x8000_0001, [0, 0, 0, 1 << 29]);
        for top in [0x8000_0001, 0x8000_0000] {
            let zero = [(0, [0; 4]), (0x8000_0000, [top, 0, 0, 0]), long_mode];
            let leaves = zero.into_iter().filter(|(leaf, _)| *leaf <= top).collect();
            let cpu = Fake { msrs: [].into(), leaves };
            let refusal = find(&cpu, &cpu).unwrap_err();
            assert_eq!(refusal, Refusal::Neither);
            let text = refusal.to_string();
            assert!(text.contains("VMX") && text.contains("SVM"), "{text}");
        }
    }

    #[test]
    fn what_the_extension_lacks_is_passed_on() {
        let mut intel = Fake::rich();
        intel.msrs.insert(0x3a, 1);
        let refusal = find(&intel, &intel).unwrap_err();
        assert_eq!(refusal, Refusal::Vmx(vmx::capability::Refusal::LockedOff));
        assert!(refusal.to_string().contains("VMX"));
        let mut amd = rich();
        amd.leaves.insert(0x8000_000a, [1, 64, 0, 0]);
        let refusal = find(&amd, &amd).unwrap_err();
        assert_eq!(refusal, Refusal::Svm(svm::capability::Refusal::NoNestedPaging));
        assert!(refusal.to_string().contains("SVM"));
    }
}
