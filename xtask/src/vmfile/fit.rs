//! Whether VMs fit together, and on the machine that is to run them: found before anything boots.

use std::path::Path;

use hv_core::host::bundle::{Kind, MAX_ENTRIES};
use hv_core::vm::desc::ANY_CPU;
use hv_core::vm::kind::ImageKind;
use hv_core::vm::post::SLOTS;

use super::VmSpec;
use crate::machine::{Hardware, needed_mib};
use crate::members::Files;
use crate::{build, linux};

/// What does not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    /// The VM, from 0.
    pub vm: usize,
    /// The key that has to change.
    pub key: &'static str,
    pub why: String,
}

/// Looks at the last of some VMs; the others have passed.
type Check = fn(&VmSpec, &[VmSpec]) -> Option<(&'static str, String)>;

/// What VMs are held against by themselves.
const TOGETHER: &[Check] =
    &[name_is_taken, too_many, same_file, initrd_of_rom, line_of_rom, marks_without_uart];

/// What needs the host's files.
const FILES: &[Check] = &[no_image, no_initrd];

/// Whether they make a bundle that the hypervisor takes.
///
/// # Errors
///
/// The first [`Misfit`].
pub fn together(vms: &[VmSpec]) -> Result<(), Misfit> {
    pass(vms, TOGETHER)?;
    links(vms).map(|_| ())
}

/// Whether the files that they name are there.
///
/// # Errors
///
/// The first [`Misfit`].
pub fn files(vms: &[VmSpec]) -> Result<(), Misfit> {
    pass(vms, FILES)
}

/// Whom each of them may reach, a bit for each by its place among them.
///
/// # Errors
///
/// The first [`Misfit`].
pub fn links(vms: &[VmSpec]) -> Result<Vec<u64>, Misfit> {
    let mut links = vec![0; vms.len()];
    for (index, vm) in vms.iter().enumerate() {
        let misfit = |why| Misfit { vm: index, key: "links", why };
        for name in &vm.links {
            let other = vms.iter().position(|other| other.name == *name);
            let other = other
                .ok_or_else(|| misfit(format!("there is no VM {name:?}: name one of this file")))?;
            if other == index {
                return Err(misfit(
                    "it is this VM itself, which needs no link: leave it out".into(),
                ));
            }
            if links[index] & 1 << other != 0 {
                return Err(misfit(format!(
                    "{name:?} is linked already: name a link once, by either of the two"
                )));
            }
            links[index] |= 1 << other;
            links[other] |= 1 << index;
        }
    }
    Ok(links)
}

fn pass(vms: &[VmSpec], checks: &[Check]) -> Result<(), Misfit> {
    for (index, vm) in vms.iter().enumerate() {
        let found = checks.iter().find_map(|check| check(vm, &vms[..index]));
        if let Some((key, why)) = found {
            return Err(Misfit { vm: index, key, why });
        }
    }
    Ok(())
}

fn name_is_taken(vm: &VmSpec, others: &[VmSpec]) -> Option<(&'static str, String)> {
    let taken = others.iter().any(|other| other.name == vm.name);
    taken.then(|| ("name", format!("two VMs have the name {:?}: each needs its own", vm.name)))
}

fn too_many(vm: &VmSpec, others: &[VmSpec]) -> Option<(&'static str, String)> {
    let mut files: Vec<_> =
        others.iter().chain([vm]).flat_map(|vm| [Some(&vm.image), vm.initrd.as_ref()]).collect();
    files.sort();
    files.dedup();
    let entries = others.len() + 1 + files.iter().flatten().count();
    let why = || format!("more than {MAX_ENTRIES} VMs, images and initial RAM disks together");
    (entries > MAX_ENTRIES).then(|| ("name", why()))
}

fn same_file(vm: &VmSpec, others: &[VmSpec]) -> Option<(&'static str, String)> {
    let mut files = Files::default();
    let mut add = |kind, called: &String| match linux::is_name(called) {
        // It stands for a file of another name.
        true => Ok(()),
        false => files.add(kind, called, called.into()),
    };
    for other in others {
        // These have passed.
        let _ = add(Kind::Image, &other.image);
        let _ = other.initrd.as_ref().map(|initrd| add(Kind::Initrd, initrd));
    }
    let image = add(Kind::Image, &vm.image).err().map(|error| ("image", error.to_string()));
    let initrd = vm.initrd.as_ref().and_then(|initrd| add(Kind::Initrd, initrd).err());
    image.or(initrd.map(|error| ("initrd", error.to_string())))
}

fn initrd_of_rom(vm: &VmSpec, _: &[VmSpec]) -> Option<(&'static str, String)> {
    let wrong = vm.kind.0 == ImageKind::Rom && vm.initrd.is_some();
    wrong.then(|| ("initrd", "a guest of kind `rom` has no place for one: leave it out".to_owned()))
}

fn line_of_rom(vm: &VmSpec, _: &[VmSpec]) -> Option<(&'static str, String)> {
    let wrong = vm.kind.0 == ImageKind::Rom && !vm.command_line.0.is_empty();
    let why = "a guest of kind `rom` has no place for one: leave it out";
    wrong.then(|| ("command-line", why.to_owned()))
}

fn marks_without_uart(vm: &VmSpec, _: &[VmSpec]) -> Option<(&'static str, String)> {
    let why = "its register is the UART's: set `uart` to true, or leave this out";
    (vm.scratch_marks && !vm.uart).then(|| ("scratch-marks", why.to_owned()))
}

fn no_image(vm: &VmSpec, _: &[VmSpec]) -> Option<(&'static str, String)> {
    let there = linux::is_name(&vm.image)
        || build::GUESTS.contains(&vm.image.as_str())
        || Path::new(&vm.image).is_file();
    let why = || {
        let names = build::GUESTS.join(", ");
        format!(
            "there is no file {:?}: give a path, linux, linux-generic or one of {names}",
            vm.image
        )
    };
    (!there).then(|| ("image", why()))
}

fn no_initrd(vm: &VmSpec, _: &[VmSpec]) -> Option<(&'static str, String)> {
    let missing = vm.initrd.as_ref().filter(|initrd| !Path::new(initrd).is_file())?;
    Some(("initrd", format!("there is no file {missing:?}: give the path of one")))
}

/// Whether they fit on a machine.
///
/// # Errors
///
/// The first [`Misfit`].
pub fn on(vms: &[VmSpec], hardware: &Hardware) -> Result<(), Misfit> {
    cpus(vms, hardware.cpus)?;
    memory(vms, hardware)
}

/// Deals the vCPUs to CPUs as the hypervisor does.
fn cpus(vms: &[VmSpec], cpus: u32) -> Result<(), Misfit> {
    let mut turn = 0;
    let mut taken = vec![0; cpus as usize];
    for (index, vm) in vms.iter().enumerate() {
        let misfit = |key, why| Misfit { vm: index, key, why };
        let named: Vec<usize> = (0..64).filter(|cpu| vm.cpus.0 >> cpu & 1 == 1).collect();
        if let Some(cpu) = named.iter().find(|&&cpu| cpu >= taken.len()) {
            let why = format!(
                "there is no CPU {cpu}: with --cpus {cpus} they are numbered from 0 to {}",
                cpus - 1
            );
            return Err(misfit("cpus", why));
        }
        let first = if vm.cpus.0 == ANY_CPU { turn } else { 0 };
        let all: Vec<usize> = if vm.cpus.0 == ANY_CPU { (0..taken.len()).collect() } else { named };
        for vcpu in 0..vm.vcpus.0 as usize {
            let count = &mut taken[all[(first + vcpu) % all.len()]];
            *count += 1;
            if *count > SLOTS {
                return Err(misfit("vcpus", format!("a CPU has room for {SLOTS} vCPUs")));
            }
        }
        if vm.cpus.0 == ANY_CPU {
            turn += vm.vcpus.0 as usize;
        }
    }
    Ok(())
}

fn memory(vms: &[VmSpec], hardware: &Hardware) -> Result<(), Misfit> {
    let most = hardware.machine.most_memory_mib();
    let all: u64 = vms.iter().map(|vm| vm.memory.0).sum();
    let mut so_far = 0;
    let beyond = vms.iter().position(|vm| {
        so_far += vm.memory.0;
        needed_mib(so_far) > most
    });
    let why = || {
        format!(
            "the VMs have {}M together, which with the hypervisor and the firmware take a machine of {}M: {} has {most}M at most",
            all >> 20,
            needed_mib(all),
            hardware.machine.name()
        )
    };
    match beyond {
        Some(vm) => Err(Misfit { vm, key: "memory", why: why() }),
        None => Ok(()),
    }
}
