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
            memory_mib: memory_for(vm_memory),
            repeatable: model.repeatable == Repeatable::Always,
        }
    }
}

/// The memory in MiB of a machine for so many bytes of VMs and bundle: with room for the hypervisor and the
/// firmware.
fn memory_for(bytes: u64) -> u64 {
    (bytes.div_ceil(1 << 20) + 192).next_multiple_of(256).max(512)
}

impl Hardware {
    /// The same for figures: repeatable where the machine can be.
    pub fn for_figures(self) -> Hardware {
        Hardware { repeatable: self.machine.model().repeatable != Repeatable::Never, ..self }
    }

    /// The same with memory for so many bytes of VMs and bundle at least.
    pub fn holding(self, bytes: u64) -> Hardware {
        Hardware { memory_mib: self.memory_mib.max(memory_for(bytes)), ..self }
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
