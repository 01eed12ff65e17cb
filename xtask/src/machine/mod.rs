//! The machines that xtask can boot.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};
use clap::ValueEnum;
use hv_core::host::report::Vendor;

pub mod bochs;
pub mod choice;
pub mod kvm;
pub mod qemu;

pub use choice::{Choice, Purpose};

use crate::deps::{self, Need};

/// A machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    BochsVmx,
    BochsSvm,
    QemuTcg,
    QemuKvm,
}

/// The program that is the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Emulator {
    Bochs,
    /// QEMU, with what runs the guest's instructions.
    Qemu {
        accelerator: &'static str,
    },
}

/// Whether two runs are the same to the tick, with one instruction a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Repeatable {
    Always,
    /// At a price in speed.
    OnRequest,
    Never,
}

/// What is fixed of a machine.
struct Model {
    name: &'static str,
    about: &'static str,
    emulator: Emulator,
    /// `None` if the host's CPU decides.
    vendor: Option<Vendor>,
    cpu_model: &'static str,
    boot: BootPath,
    repeatable: Repeatable,
    /// `None` if it takes what the host has.
    most_memory_mib: Option<u64>,
    needs: &'static [Need],
}

const BOCHS_VMX: Model = Model {
    name: "bochs-vmx",
    about: "Bochs, emulated VT-x: one tick is one instruction",
    emulator: Emulator::Bochs,
    vendor: Some(Vendor::Vmx),
    cpu_model: bochs::REFERENCE_CPU,
    boot: BootPath::Iso,
    repeatable: Repeatable::Always,
    // Bochs 2.7 refuses more in `megs`.
    most_memory_mib: Some(2048),
    needs: deps::BOCHS,
};
const BOCHS_SVM: Model = Model {
    name: "bochs-svm",
    about: "Bochs, emulated AMD-V: one tick is one instruction",
    vendor: Some(Vendor::Svm),
    cpu_model: "trinity_apu",
    ..BOCHS_VMX
};
const QEMU_TCG: Model = Model {
    name: "qemu-tcg",
    about: "QEMU, emulated AMD-V: starts at once",
    emulator: Emulator::Qemu { accelerator: "tcg" },
    vendor: Some(Vendor::Svm),
    cpu_model: "max",
    boot: BootPath::Pvh,
    repeatable: Repeatable::OnRequest,
    most_memory_mib: None,
    needs: deps::QEMU,
};
const QEMU_KVM: Model = Model {
    name: "qemu-kvm",
    about: "QEMU with KVM, the CPU's own VT-x or AMD-V",
    emulator: Emulator::Qemu { accelerator: "kvm" },
    vendor: None,
    cpu_model: "host",
    repeatable: Repeatable::Never,
    ..QEMU_TCG
};

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
    /// The extension that the machine has for the hypervisor.
    pub vendor: Vendor,
    pub boot: BootPath,
    /// A CPU model in the words of the machine.
    pub cpu_model: String,
    pub cpus: u32,
    pub memory_mib: u64,
    /// Whether two runs are the same to the tick, with one instruction a tick.
    pub repeatable: bool,
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

impl BootPath {
    /// The packages that it takes.
    const fn needs(self) -> &'static [&'static [Need]] {
        match self {
            BootPath::Pvh => &[],
            BootPath::Iso => &[deps::ISO],
            BootPath::Uefi => &[deps::ISO, deps::UEFI],
        }
    }
}

impl Machine {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Machine; 4] =
        [Machine::BochsVmx, Machine::BochsSvm, Machine::QemuTcg, Machine::QemuKvm];

    const fn model(self) -> &'static Model {
        match self {
            Machine::BochsVmx => &BOCHS_VMX,
            Machine::BochsSvm => &BOCHS_SVM,
            Machine::QemuTcg => &QEMU_TCG,
            Machine::QemuKvm => &QEMU_KVM,
        }
    }

    /// The name that users type.
    pub const fn name(self) -> &'static str {
        self.model().name
    }

    /// What it is, in a few words.
    pub const fn about(self) -> &'static str {
        self.model().about
    }

    /// Whether its program ends when the hypervisor has nothing left to run.
    pub fn ends_by_itself(self) -> bool {
        self.model().emulator == Emulator::Bochs
    }

    /// What keeps it from being used here as it comes; nothing if it is ready.
    pub fn obstacles(self) -> Vec<String> {
        let model = self.model();
        let needs = std::iter::once(model.needs).chain(model.boot.needs().iter().copied());
        let missing = needs.flatten().filter(|need| !need.is_met());
        let mut obstacles: Vec<String> =
            missing.map(|need| format!("package {} is missing", need.package)).collect();
        if self == Machine::QemuKvm {
            obstacles.extend(kvm::here().err().into_iter().flatten());
        }
        obstacles
    }

    /// The most memory in MiB that it can have on this computer.
    pub fn most_memory_mib(self) -> u64 {
        self.model().most_memory_mib.unwrap_or(u64::MAX).min(host_memory_mib())
    }

    /// Hardware for a hypervisor whose VMs have `vm_memory` bytes, as it comes.
    pub fn hardware(self, vm_memory: u64) -> Hardware {
        let model = self.model();
        Hardware {
            machine: self,
            // Where KVM offers nothing the machine is not used; its command line has either form.
            vendor: model.vendor.or_else(|| kvm::here().ok()).unwrap_or(Vendor::Vmx),
            boot: model.boot,
            cpu_model: model.cpu_model.to_owned(),
            cpus: 1,
            memory_mib: self.memory_for(vm_memory),
            repeatable: model.repeatable == Repeatable::Always,
        }
    }

    /// Its memory in MiB for so many bytes of VMs and bundle, as far as it can have that.
    fn memory_for(self, bytes: u64) -> u64 {
        needed_mib(bytes).next_multiple_of(256).max(512).min(self.most_memory_mib())
    }
}

/// The memory in MiB that a machine has to have for so many bytes of VMs and bundle: the hypervisor and the
/// firmware need some beside them.
pub fn needed_mib(bytes: u64) -> u64 {
    const ROOM: u64 = 192;
    let needed = bytes.div_ceil(1 << 20) + ROOM;
    // QEMU's q35 puts memory of 2816 MiB or more in two pieces, of which the lower ends at 2 GiB. The RAM of
    // a VM is in one.
    if needed > 2560 { needed + 2048 } else { needed }
}

/// The memory of this computer (proc(5)), or no limit if it is not known.
fn host_memory_mib() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kib = total.and_then(|total| total.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.map_or(u64::MAX, |kib| kib >> 10)
}

impl Hardware {
    /// The same for figures: repeatable where the machine can be.
    pub fn for_figures(self) -> Hardware {
        Hardware { repeatable: self.machine.model().repeatable != Repeatable::Never, ..self }
    }

    /// The same with memory for so many bytes of VMs and bundle at least.
    pub fn holding(self, bytes: u64) -> Hardware {
        Hardware { memory_mib: self.memory_mib.max(self.machine.memory_for(bytes)), ..self }
    }

    /// What one tick of its TSC is.
    pub const fn tick(&self) -> &'static str {
        if self.repeatable { "instructions" } else { "cycles" }
    }

    /// Makes sure that the packages for it are here.
    pub fn ensure(&self) -> Result<()> {
        let model = self.machine.model();
        if model.emulator == Emulator::Bochs && self.boot == BootPath::Pvh {
            bail!("Bochs cannot load an ELF file: use --boot iso or --boot uefi");
        }
        deps::ensure(&[&[model.needs], self.boot.needs()].concat())
    }

    /// The process that is the machine. `folder` is its own, for the files that it makes.
    pub fn command(&self, folder: &Path, medium: &Medium, serial: &Serial) -> Result<Command> {
        match self.machine.model().emulator {
            Emulator::Bochs => bochs::command(self, folder, medium, serial),
            Emulator::Qemu { accelerator } => {
                let mut command = Command::new("qemu-system-x86_64");
                command
                    .args(qemu::arguments(self, accelerator, medium, serial))
                    .current_dir(folder);
                Ok(command)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_for_the_largest_vm_is_in_one_piece_beyond_the_lower_two_gib() {
        assert_eq!(needed_mib(64 << 20), 256);
        assert_eq!(needed_mib(2368 << 20), 2560);
        let three = Machine::QemuTcg.hardware(3 << 30).memory_mib;
        assert!(three >= 2048 + 3072 || three == Machine::QemuTcg.most_memory_mib(), "{three}");
    }

    #[test]
    fn bochs_is_never_given_more_than_it_takes() {
        let hardware = Machine::BochsSvm.hardware(3 << 30);
        assert!(hardware.memory_mib <= 2048);
        assert!(hardware.holding(4 << 30).memory_mib <= 2048);
    }
}
