//! Which machine a command takes.

use anyhow::{Result, bail};
use clap::ValueEnum;
use hv_core::host::report::Vendor;

use super::{Machine, kvm};

/// What a user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// qemu-kvm where it can be used, else an emulator: bochs-vmx for figures, qemu-tcg for runs
    Auto,
    /// Bochs with emulated VT-x: exact and repeatable, needs no KVM
    BochsVmx,
    /// Bochs with emulated AMD-V: exact and repeatable, needs no KVM
    BochsSvm,
    /// QEMU's own emulation of AMD-V: starts at once, needs no KVM
    QemuTcg,
    /// QEMU with KVM and nested VT-x or AMD-V, as the CPU has it
    QemuKvm,
}

/// What a machine is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Figures that can be compared with others.
    Figures,
    /// Figures at once.
    QuickFigures,
    /// Something to look at.
    Run,
}

impl Purpose {
    /// The machine where KVM cannot be used, and why it is that one.
    const fn without_kvm(self) -> (Machine, &'static str) {
        match self {
            Purpose::Figures => (Machine::BochsVmx, "its figures are those of the documentation"),
            Purpose::QuickFigures | Purpose::Run => (Machine::QemuTcg, "it starts at once"),
        }
    }
}

impl Machine {
    /// The machine for a user's choice, on this computer. Says on standard error what
    /// [`Choice::Auto`] became.
    ///
    /// # Errors
    ///
    /// Why the machine cannot be used.
    pub fn choose(choice: Choice, purpose: Purpose) -> Result<Machine> {
        if choice == Choice::Auto {
            let (machine, why) = automatic(purpose, &kvm::here());
            eprintln!("Machine {}: {why}", machine.name());
            return Ok(machine);
        }
        named(choice, &kvm::here())
    }
}

/// What [`Choice::Auto`] becomes, and why.
pub fn automatic(purpose: Purpose, kvm: &Result<Vendor, Vec<String>>) -> (Machine, String) {
    match kvm {
        Ok(vendor) => (Machine::QemuKvm, format!("KVM offers nested {}", kvm::technology(*vendor))),
        Err(reasons) => {
            let (machine, why) = purpose.without_kvm();
            (machine, format!("{why}, and KVM cannot be used ({})", reasons.join("; ")))
        }
    }
}

fn named(choice: Choice, kvm: &Result<Vendor, Vec<String>>) -> Result<Machine> {
    Ok(match (choice, kvm) {
        (Choice::Auto, _) => automatic(Purpose::Run, kvm).0,
        (Choice::BochsVmx, _) => Machine::BochsVmx,
        (Choice::BochsSvm, _) => Machine::BochsSvm,
        (Choice::QemuTcg, _) => Machine::QemuTcg,
        (Choice::QemuKvm, Ok(_)) => Machine::QemuKvm,
        (Choice::QemuKvm, Err(reasons)) => bail!(
            "machine qemu-kvm cannot be used here:\n  - {}\nThe other machines need no KVM: --machine bochs-vmx, bochs-svm or qemu-tcg.",
            reasons.join("\n  - ")
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn no_kvm() -> Result<Vendor, Vec<String>> {
        Err(vec!["there is no /dev/kvm".into(), "the CPU shows nothing".into()])
    }

    #[test]
    fn kvm_is_taken_for_every_purpose_where_it_is_usable() {
        for purpose in [Purpose::Figures, Purpose::QuickFigures, Purpose::Run] {
            let (machine, why) = automatic(purpose, &Ok(Vendor::Svm));
            assert_eq!((machine, why.as_str()), (Machine::QemuKvm, "KVM offers nested AMD-V"));
        }
    }

    #[test]
    fn without_kvm_the_purpose_decides_and_the_obstacles_are_told() {
        let (machine, why) = automatic(Purpose::Figures, &no_kvm());
        assert_eq!(machine, Machine::BochsVmx);
        assert!(why.ends_with("(there is no /dev/kvm; the CPU shows nothing)"), "{why}");
        for purpose in [Purpose::QuickFigures, Purpose::Run] {
            assert_eq!(automatic(purpose, &no_kvm()).0, Machine::QemuTcg);
        }
    }

    #[test]
    fn a_machine_is_called_by_its_name() {
        for machine in Machine::ALL {
            let choice = Choice::from_str(machine.name(), false).unwrap();
            assert_eq!(named(choice, &Ok(Vendor::Vmx)).unwrap(), machine);
        }
        let error = named(Choice::QemuKvm, &no_kvm()).unwrap_err().to_string();
        assert!(error.contains("- there is no /dev/kvm") && error.contains("bochs-svm"), "{error}");
        assert_eq!(named(Choice::BochsSvm, &no_kvm()).unwrap(), Machine::BochsSvm);
    }
}
