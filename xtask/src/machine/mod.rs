//! The machines that xtask can boot.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::ValueEnum;

pub mod bochs;
pub mod kvm;
pub mod qemu;

use crate::deps;

/// What a user asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Choice {
    /// qemu-kvm where nested VMX is really there, else bochs-vmx
    Auto,
    /// Bochs with emulated VT-x: exact and repeatable, needs no KVM
    BochsVmx,
    /// QEMU with KVM and nested VMX
    QemuKvm,
    /// QEMU's own emulation; it has no VT-x, so the hypervisor only says that it refuses
    QemuTcg,
}

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    BochsVmx,
    QemuKvm,
    QemuTcg,
}

/// How the hypervisor gets into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BootPath {
    /// QEMU loads the ELF file itself (-kernel)
    Pvh,
    /// GRUB from the ISO image, BIOS
    Iso,
    /// GRUB from the ISO image, UEFI
    Uefi,
}

/// The hardware that is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hardware {
    pub machine: Machine,
    pub boot: BootPath,
    /// A CPU model in the words of the machine.
    pub cpu_model: String,
    pub cpus: u32,
    pub memory_mib: u64,
}

/// What stands ready on disk for the machine to boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// An ISO image.
    Iso(PathBuf),
    /// An ELF file, a module for it, and its command line.
    Kernel { elf: PathBuf, module: Option<PathBuf>, arguments: String },
}

/// Where the first serial port leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Serial {
    /// Output into a file, no input.
    File(PathBuf),
    /// A terminal device, both ways.
    Terminal(PathBuf),
    /// The machine's own standard input and output: for guests that run bare.
    Stdio,
}

impl Machine {
    /// The machine for a user's choice.
    pub fn choose(choice: Choice) -> Result<Machine> {
        match choice {
            Choice::BochsVmx => Ok(Machine::BochsVmx),
            Choice::QemuTcg => Ok(Machine::QemuTcg),
            Choice::Auto => Ok(match kvm::usable(&kvm::facts()) {
                Ok(()) => Machine::QemuKvm,
                Err(_) => Machine::BochsVmx,
            }),
            Choice::QemuKvm => match kvm::usable(&kvm::facts()) {
                Ok(()) => Ok(Machine::QemuKvm),
                Err(reasons) => bail!(
                    "machine qemu-kvm cannot be used here:\n  - {}\nUse --machine bochs-vmx, which needs no KVM.",
                    reasons.join("\n  - ")
                ),
            },
        }
    }

    /// The name that users type.
    pub fn name(self) -> &'static str {
        match self {
            Machine::BochsVmx => "bochs-vmx",
            Machine::QemuKvm => "qemu-kvm",
            Machine::QemuTcg => "qemu-tcg",
        }
    }

    /// What one tick of its TSC is.
    pub fn tick(self) -> &'static str {
        match self {
            Machine::BochsVmx => "instructions",
            Machine::QemuKvm | Machine::QemuTcg => "cycles",
        }
    }

    /// Hardware for a hypervisor whose VMs have `vm_memory` bytes, as it comes.
    pub fn hardware(self, vm_memory: u64) -> Hardware {
        Hardware {
            machine: self,
            boot: match self {
                Machine::BochsVmx => BootPath::Iso,
                Machine::QemuKvm | Machine::QemuTcg => BootPath::Pvh,
            },
            cpu_model: match self {
                Machine::BochsVmx => bochs::REFERENCE_CPU,
                Machine::QemuKvm => "host",
                Machine::QemuTcg => "max",
            }
            .to_owned(),
            cpus: 1,
            // Room for the hypervisor, the bundle and the firmware beside the VMs.
            memory_mib: ((vm_memory >> 20) + 192).next_multiple_of(256).max(512),
        }
    }
}

impl Hardware {
    /// Makes sure that the packages for it are here.
    pub fn ensure(&self) -> Result<()> {
        let machine = match self.machine {
            Machine::BochsVmx => deps::BOCHS,
            Machine::QemuKvm | Machine::QemuTcg => deps::QEMU,
        };
        match (self.machine, self.boot) {
            (Machine::BochsVmx, BootPath::Pvh) => {
                bail!("Bochs cannot load an ELF file: use --boot iso or --boot uefi")
            }
            (_, BootPath::Uefi) => deps::ensure(&[machine, deps::ISO, deps::UEFI]),
            (_, BootPath::Iso) => deps::ensure(&[machine, deps::ISO]),
            (_, BootPath::Pvh) => deps::ensure(&[machine]),
        }
    }

    /// The process that is the machine. `folder` is its own, for the files that it makes.
    pub fn command(
        &self,
        folder: &Path,
        medium: &Medium,
        serial: &Serial,
    ) -> Result<std::process::Command> {
        match self.machine {
            Machine::BochsVmx => bochs::command(self, folder, medium, serial),
            Machine::QemuKvm | Machine::QemuTcg => {
                let mut command = std::process::Command::new("qemu-system-x86_64");
                command.args(qemu::arguments(self, medium, serial)).current_dir(folder);
                Ok(command)
            }
        }
    }
}
