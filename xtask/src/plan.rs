//! From VM descriptions to something that boots.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hv_core::host::bundle::Kind;
use hv_core::vm::desc::VmDesc;
use hv_core::vm::kind::ImageKind;

use crate::boot::{Boot, Payload};
use crate::bundle::Member;
use crate::cli::{CompareArgs, GuestArgs, HardwareArgs};
use crate::machine::{Choice, Hardware, Machine, Purpose};
use crate::members::Files;
use crate::transcript::Images;
use crate::vmfile::{
    CommandLine, FeatureName, KindName, MachineName, Memory, PolicyName, Vcpus, VmSpec,
};
use crate::workspace::Workspace;
use crate::{build, bundle, linux, members, vmfile};

/// Images that are built, and the VMs that run them.
#[derive(Clone, Debug)]
pub struct Plan {
    pub vms: Vec<VmSpec>,
    pub bundle: Vec<u8>,
    pub images: Images,
    /// What the VMs name.
    files: Files,
}

/// Builds the hypervisor and every guest that `vms` name, and packs the bundle.
pub fn make(workspace: &Workspace, mut vms: Vec<VmSpec>) -> Result<Plan> {
    let hypervisor = build::hypervisor(workspace)?;
    let mut files = Files::default();
    for vm in &mut vms {
        linux::resolve(workspace, vm)?;
        let path = build::guest(workspace, &vm.image)?;
        if vm.kind.0 == ImageKind::Auto && is_bzimage(&path)? {
            vm.kind = KindName(ImageKind::Linux);
        }
        files.add(Kind::Image, &vm.image, path)?;
        files.add_paths(vm)?;
    }
    let images = Images { hypervisor: Some(hypervisor), vms: running(&vms, &files)? };
    Ok(Plan { bundle: pack(&vms, &files, |_| {})?, vms, images, files })
}

/// Whether a file starts as the Linux boot protocol says.
fn is_bzimage(path: &Path) -> Result<bool> {
    const MAGIC: (u64, &[u8; 4]) = (0x202, b"HdrS");
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut found = [0; 4];
    Ok(file.read_exact_at(&mut found, MAGIC.0).is_ok() && found == *MAGIC.1)
}

/// Name and image of each VM.
fn running(vms: &[VmSpec], files: &Files) -> Result<Vec<(String, PathBuf)>> {
    let place = |vm: &VmSpec| {
        let path = files.path(Kind::Image, &vm.image);
        let path = path.with_context(|| format!("{} was not built", vm.image))?;
        Ok((vm.name.clone(), path.to_owned()))
    };
    vms.iter().map(place).collect()
}

fn pack(vms: &[VmSpec], files: &Files, change: fn(&mut VmDesc)) -> Result<Vec<u8>> {
    let mut descs = vmfile::packed(vms)?;
    descs.iter_mut().for_each(change);
    let images = vms.iter().map(|vm| (Kind::Image, &vm.image));
    let initrds = vms.iter().filter_map(|vm| Some((Kind::Initrd, vm.initrd.as_ref()?)));
    let mut members: Vec<Member> = Vec::new();
    for (kind, called) in images.chain(initrds) {
        let name = members::name(called);
        if !members.iter().any(|m| m.kind == kind && m.name == name) {
            members.push(files.read(kind, called)?);
        }
    }
    bundle::pack(&descs, &members)
}

impl Plan {
    /// The same images with these VMs; what else they name are paths.
    pub fn with_vms(&self, vms: Vec<VmSpec>) -> Result<Plan> {
        let mut files = self.files.clone();
        for vm in &vms {
            files.add_paths(vm)?;
        }
        Ok(Plan {
            bundle: pack(&vms, &files, |_| {})?,
            images: Images { vms: running(&vms, &files)?, ..self.images.clone() },
            vms,
            files,
        })
    }

    /// Where the image is that VMs call `called`.
    pub fn image(&self, called: &str) -> Option<&Path> {
        self.files.path(Kind::Image, called)
    }

    /// The first VM with the path of its image, to be run without a hypervisor.
    pub fn standalone(&self) -> Result<VmSpec> {
        let vm = self.vms.first().zip(self.images.vms.first());
        let (vm, (_, path)) = vm.context("there is no VM")?;
        Ok(VmSpec { image: linux::text(path)?, ..vm.clone() })
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
        let memory = self.vms.iter().map(|vm| vm.memory.0).sum::<u64>();
        Ok(Boot {
            // Kernels and RAM disks are in memory twice: in the bundle, and in their VMs.
            hardware: hardware.holding(memory + self.bundle.len() as u64),
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

/// A boot of one guest without the hypervisor. Its image is a path, and nothing but its command line, its
/// initial RAM disk and its memory counts. Several CPUs take turns by counted instructions: at once they
/// would wait for each other as long as the host lets them.
pub fn bare(vm: &VmSpec, hardware: Hardware, folder: &Path, limit: Duration) -> Result<Boot> {
    fs::create_dir_all(folder)?;
    let hardware = if hardware.cpus > 1 { hardware.for_figures() } else { hardware };
    Ok(Boot {
        hardware: Hardware { memory_mib: (vm.memory.0 >> 20).max(64), ..hardware },
        payload: Payload::Bare {
            arguments: vm.command_line.0.clone(),
            initrd: vm.initrd.as_ref().map(PathBuf::from),
        },
        images: Images { hypervisor: None, vms: vec![(vm.name.clone(), PathBuf::from(&vm.image))] },
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
pub fn vm(image: &str, args: &GuestArgs) -> Result<VmSpec> {
    let called = if args.generic { "linux-generic" } else { image };
    let linux = linux::is_name(called);
    ensure!(
        linux && linux::is_name(image) || !args.generic && args.kernel.is_none(),
        "--kernel and --generic are for the image linux, and this is {image}"
    );
    let standard = if linux { linux::vm() } else { VmSpec::guest(image) };
    let vm = VmSpec {
        image: match &args.kernel {
            Some(kernel) => linux::text(kernel)?,
            None => called.to_owned(),
        },
        kind: KindName(args.kind),
        initrd: args.initrd.as_deref().map(linux::text).transpose()?,
        command_line: match linux {
            true => CommandLine(linux::line(&args.append)),
            false => CommandLine(args.append.clone()),
        },
        machine: MachineName(args.machine_type),
        vcpus: Vcpus(args.vcpus),
        memory: args.memory.map_or(standard.memory, Memory),
        policy: args.policy.map_or(standard.policy, PolicyName),
        without: args.without.iter().copied().map(FeatureName).collect(),
        ..standard
    };
    if linux && vm.initrd.is_none() && args.kernel.is_none() {
        linux::check_work(&vm.command_line.0)?;
    }
    Ok(vm)
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
