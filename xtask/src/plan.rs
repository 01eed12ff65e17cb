//! From VM descriptions to something that boots.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hv_core::vm::desc::VmDesc;

use crate::boot::{Boot, Payload};
use crate::cli::{CompareArgs, GuestArgs, HardwareArgs};
use crate::machine::{Choice, Hardware, Machine, Purpose};
use crate::transcript::Images;
use crate::vmfile::{CommandLine, FeatureName, Memory, PolicyName, VmSpec};
use crate::workspace::Workspace;
use crate::{build, bundle};

/// Images that are built, and the VMs that run them.
#[derive(Clone, Debug)]
pub struct Plan {
    pub vms: Vec<VmSpec>,
    pub bundle: Vec<u8>,
    pub images: Images,
    /// Image names in the bundle: what the VMs call them, and their ELF files.
    files: BTreeMap<String, (String, PathBuf)>,
}

/// Builds the hypervisor and every guest that `vms` name, and packs the bundle.
pub fn make(workspace: &Workspace, vms: Vec<VmSpec>) -> Result<Plan> {
    let hypervisor = build::hypervisor(workspace)?;
    let mut paths: BTreeMap<String, (String, PathBuf)> = BTreeMap::new();
    let mut running = Vec::new();
    for vm in &vms {
        let path = build::guest(workspace, &vm.image)?;
        running.push((vm.name.clone(), path.clone()));
        let (image, _) = paths.entry(vm.image_name()).or_insert_with(|| (vm.image.clone(), path));
        if *image != vm.image {
            bail!("{image} and {} have the same file name: rename one", vm.image);
        }
    }
    let bundle = pack(&vms, &paths, |_| {})?;
    let images = Images { hypervisor: Some(hypervisor), vms: running };
    Ok(Plan { vms, bundle, images, files: paths })
}

fn pack(
    vms: &[VmSpec],
    paths: &BTreeMap<String, (String, PathBuf)>,
    change: fn(&mut VmDesc),
) -> Result<Vec<u8>> {
    let mut descs = vms.iter().map(VmSpec::packed).collect::<Result<Vec<_>>>()?;
    descs.iter_mut().for_each(change);
    let mut images = Vec::new();
    let used = |name: &String| vms.iter().any(|vm| vm.image_name() == *name);
    for (name, (_, path)) in paths.iter().filter(|(name, _)| used(name)) {
        let elf = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        // Debugging information would only make the boot longer.
        let image = crate::elf::stripped(&elf).unwrap_or(elf);
        images.push((name.clone(), image));
    }
    bundle::pack(&descs, &images)
}

impl Plan {
    /// The same images with these VMs.
    pub fn with_vms(&self, vms: Vec<VmSpec>) -> Result<Plan> {
        let mut running = Vec::new();
        for vm in &vms {
            let found = self.files.get(&vm.image_name()).filter(|(image, _)| *image == vm.image);
            let (_, path) = found.with_context(|| format!("{} was not built", vm.image))?;
            running.push((vm.name.clone(), path.clone()));
        }
        Ok(Plan {
            bundle: pack(&vms, &self.files, |_| {})?,
            images: Images { vms: running, ..self.images.clone() },
            vms,
            files: self.files.clone(),
        })
    }

    /// Packs the bundle again after changing its descriptions in ways that no description file
    /// can: what the hypervisor makes of them is a test.
    pub fn change_descriptions(&mut self, change: fn(&mut VmDesc)) -> Result<()> {
        self.bundle = pack(&self.vms, &self.files, change)?;
        Ok(())
    }

    /// A boot of these VMs on `hardware`, with its files in `folder`.
    pub fn boot(&self, hardware: Hardware, folder: &Path, limit: Duration) -> Result<Boot> {
        fs::create_dir_all(folder)?;
        Ok(Boot {
            hardware,
            payload: Payload::Hypervisor {
                bundle: Some(self.bundle.clone()),
                arguments: String::new(),
            },
            images: self.images.clone(),
            limit,
            input: false,
            folder: folder.to_owned(),
            log: folder.join("log.txt"),
        })
    }
}

/// A boot of one guest without the hypervisor, on QEMU's own emulation.
pub fn bare(
    elf: &Path,
    arguments: &str,
    memory: u64,
    folder: &Path,
    limit: Duration,
) -> Result<Boot> {
    fs::create_dir_all(folder)?;
    let name = elf.file_stem().map_or("guest".into(), |stem| stem.to_string_lossy().into_owned());
    Ok(Boot {
        hardware: Hardware { memory_mib: (memory >> 20).max(64), ..Machine::QemuTcg.hardware(0) },
        payload: Payload::Bare { arguments: arguments.to_owned() },
        images: Images { hypervisor: None, vms: vec![(name, elf.to_owned())] },
        limit,
        input: false,
        folder: folder.to_owned(),
        log: folder.join("log.txt"),
    })
}

/// The machine that a user asked for, large enough for these VMs, with its packages installed.
pub fn hardware(
    choice: Choice,
    args: &HardwareArgs,
    purpose: Purpose,
    vms: &[VmSpec],
) -> Result<Hardware> {
    let standard = standard_hardware(Machine::choose(choice, purpose)?, vms);
    let standard = if purpose == Purpose::Run { standard } else { standard.for_figures() };
    let hardware = Hardware {
        boot: args.boot.unwrap_or(standard.boot),
        cpu_model: args.cpu_model.clone().unwrap_or(standard.cpu_model.clone()),
        cpus: args.cpus,
        ..standard
    };
    hardware.ensure()?;
    Ok(hardware)
}

/// The machines of a comparison, each once, in the order in which they were given.
pub fn compared(args: &CompareArgs, vms: &[VmSpec]) -> Result<Vec<Hardware>> {
    let purpose = if args.quick { Purpose::QuickFigures } else { Purpose::Figures };
    let choices = if args.machines.is_empty() { &[Choice::Auto][..] } else { &args.machines };
    ensure!(
        choices.len() == 1 || args.hardware.is_default(),
        "--cpu-model, --cpus and --boot are asked of one machine, and --machine names {}: leave them out, or compare each machine by itself",
        choices.len()
    );
    let mut all: Vec<Hardware> = Vec::new();
    for &choice in choices {
        let hardware = hardware(choice, &args.hardware, purpose, vms)?;
        if !all.contains(&hardware) {
            all.push(hardware);
        }
    }
    Ok(all)
}

/// A machine as it comes, large enough for these VMs.
pub fn standard_hardware(machine: Machine, vms: &[VmSpec]) -> Hardware {
    machine.hardware(vms.iter().map(|vm| vm.memory.0).sum())
}

/// The VM that a command line asks for.
pub fn vm(image: &str, args: &GuestArgs) -> VmSpec {
    VmSpec {
        command_line: CommandLine(args.append.clone()),
        memory: Memory(args.memory),
        policy: PolicyName(args.policy),
        without: args.without.iter().copied().map(FeatureName).collect(),
        ..VmSpec::guest(image)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn what_is_asked_of_one_machine_is_refused_for_several() {
        for option in ["--cpu-model bx_generic", "--cpus 2", "--boot uefi"] {
            let line = format!("x compare --machine bochs-vmx,qemu-tcg {option}");
            let Command::Compare(args) = Cli::parse_from(line.split(' ')).command else { panic!() };
            let error = compared(&args, &[]).unwrap_err().to_string();
            assert!(error.contains("--machine names 2"), "{option}: {error}");
        }
    }
}
