//! `linux`: a distribution's kernel as it is, with an initial RAM file system that comes from here.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use hv_core::host::report::Vendor;
use hv_core::vm::kind::ImageKind;
use hv_core::vm::policy::Policy;

mod cpio;
mod initramfs;
mod mark;
mod packages;

pub use initramfs::{CLOCK_CHECK, GREETING, MARK_BEGIN, MARK_END, MARK_INIT, PROMPT, WORKLOADS};

use crate::vmfile::{CommandLine, KindName, Memory, PolicyName, VmSpec};
use crate::workspace::Workspace;

/// The names that stand for a kernel instead of a path, and Debian's packages with it.
const KERNELS: [(&str, &str); 2] =
    [("linux", "linux-image-cloud-amd64"), ("linux-generic", "linux-image-amd64")];
/// The package with the programs of the initial RAM file system.
const PROGRAMS: &str = "busybox-static";

/// Enough for any of the kernels: 128 MiB do for the one for VMs, 64 do not.
const MEMORY: u64 = 256 << 20;

/// The start of the kernel's command line: where the console is, to restart at once after a panic, which
/// ends the VM, and to leave out tests of the kernel's own that take longer than the rest of the boot.
const LINE: &str = "console=ttyS0 panic=-1 cryptomgr.notests";

/// The word by which the kernel is told how fast its TSC is. The hypervisor puts the number in.
const CLOCK: &str = "tsc_early_khz=$tsc_khz";

/// What to do where the kernel or the programs cannot be fetched.
const OWN: &str = "cannot get Debian's kernel and busybox; yours do as well, with \
                   `cargo xtask run linux --kernel PATH --initrd PATH`";

/// Whether this name stands for a kernel.
pub fn is_name(image: &str) -> bool {
    KERNELS.iter().any(|(name, _)| *name == image)
}

/// A VM with a kernel by name, and everything else as it comes.
pub fn vm() -> VmSpec {
    VmSpec {
        command_line: CommandLine(line("")),
        memory: Memory(MEMORY),
        policy: PolicyName(Policy::HwAssist),
        ..VmSpec::guest("linux")
    }
}

/// Puts the files in the place of a name that stands for a kernel: the kernel, and the initial RAM
/// file system if the VM has none.
pub fn resolve(workspace: &Workspace, vm: &mut VmSpec) -> Result<()> {
    let Some((_, package)) = KERNELS.iter().find(|(name, _)| *name == vm.image) else {
        return Ok(());
    };
    let cache = workspace.target.join("linux");
    vm.image = text(&kernel(&cache, package).context(OWN)?)?;
    if vm.kind.0 == ImageKind::Auto {
        vm.kind = KindName(ImageKind::Linux);
    }
    if vm.initrd.is_none() {
        vm.initrd = Some(text(&initial_files(&cache).context(OWN)?)?);
    }
    Ok(())
}

/// A path as a VM's description has it.
pub fn text(path: &Path) -> Result<String> {
    let text = path.to_str();
    Ok(text.with_context(|| format!("the path {} is not UTF-8", path.display()))?.to_owned())
}

fn kernel(cache: &Path, package: &str) -> Result<PathBuf> {
    let boot = packages::unpacked(cache, package, "boot")?.join("boot");
    let files = fs::read_dir(&boot).with_context(|| format!("cannot read {}", boot.display()))?;
    let mut kernels = files.flatten().map(|file| file.path());
    let is_kernel = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("vmlinuz-"))
    };
    kernels.find(is_kernel).with_context(|| format!("there is no kernel in {}", boot.display()))
}

/// Makes the initial RAM file system anew: it takes no time, and the script in it may have changed.
fn initial_files(cache: &Path) -> Result<PathBuf> {
    let program = packages::unpacked(cache, PROGRAMS, "bin")?.join("bin/busybox");
    let output = Command::new(&program).arg("--list").output();
    let output = output.with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(output.status.success(), "{} --list failed", program.display());
    let list = String::from_utf8_lossy(&output.stdout);
    let applets: Vec<&str> = list.lines().collect();
    let archive = initramfs::make(&fs::read(&program)?, &applets);
    let path = cache.join("initramfs.cpio");
    // Another run may read it at the same time.
    let mut file = tempfile::NamedTempFile::new_in(cache)?;
    file.write_all(&archive)?;
    file.persist(&path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

/// Tells the kernel the frequency of its TSC unless the CPU says it in CPUID, as Intel's do: a minimal
/// machine has no other clock to measure it by, and with those of a PC the kernel gives up where the
/// machine is an emulator on a busy host. `vendor` is that of the machine, if it is known. Gives whether
/// there was a need.
pub fn tell_the_clock(vm: &mut VmSpec, vendor: Option<Vendor>) -> bool {
    let line = &mut vm.command_line.0;
    let knows = vendor == Some(Vendor::Vmx)
        || line.split(' ').any(|word| word.starts_with("tsc_early_khz="));
    if !knows {
        *line = format!("{line} {CLOCK}");
    }
    !knows
}

/// [`tell_the_clock`], and says on standard error what it did.
pub fn tell_the_clock_aloud(vm: &mut VmSpec, vendor: Option<Vendor>) {
    if tell_the_clock(vm, vendor) {
        eprintln!(
            "The kernel's command line gets {CLOCK}, with the number from the hypervisor: only on Intel's CPUs \
             does Linux read the frequency of its clock. Append tsc_early_khz=0 to have it measured by a PIT."
        );
    }
}

/// The command line for a kernel by name: what it needs, and behind it the user's words.
pub fn line(append: &str) -> String {
    if append.is_empty() { LINE.to_owned() } else { format!("{LINE} {append}") }
}

/// Refuses words of `paravane.run=` that the script in the initial RAM file system does not know.
pub fn check_work(line: &str) -> Result<()> {
    let asked = line.split(' ').filter_map(|word| word.strip_prefix("paravane.run="));
    for name in asked.flat_map(|names| names.split(',')) {
        if !WORKLOADS.contains(&name) && name != CLOCK_CHECK {
            bail!(
                "unknown workload {name:?} in paravane.run=: it is one of {}, {CLOCK_CHECK}",
                WORKLOADS.join(", ")
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(line: &str, vendor: Option<Vendor>) -> String {
        let mut vm = VmSpec { command_line: line.into(), ..VmSpec::guest("linux") };
        tell_the_clock(&mut vm, vendor);
        vm.command_line.0
    }

    #[test]
    fn the_clock_is_told_where_the_kernel_cannot_find_it() {
        assert_eq!(with("a", Some(Vendor::Svm)), "a tsc_early_khz=$tsc_khz");
        assert_eq!(with("a", None), "a tsc_early_khz=$tsc_khz");
        assert_eq!(with("a", Some(Vendor::Vmx)), "a");
        let own = "tsc_early_khz=1000 a";
        assert_eq!(with(own, Some(Vendor::Svm)), own);
    }

    #[test]
    fn the_users_words_stand_behind_those_that_are_needed() {
        assert_eq!(line(""), LINE);
        assert_eq!(line("quiet"), format!("{LINE} quiet"));
    }

    #[test]
    fn unknown_work_is_refused_with_what_is_known() {
        check_work("quiet paravane.run=boot,forks x=y").unwrap();
        let error = check_work("paravane.run=boot,work").unwrap_err().to_string();
        assert!(error.contains("\"work\"") && error.contains("forks"), "{error}");
    }

    #[test]
    fn other_images_are_left_alone() {
        let workspace = Workspace { root: "/".into(), target: "/nowhere".into() };
        let mut vm = VmSpec::guest("bench");
        resolve(&workspace, &mut vm).unwrap();
        assert_eq!(vm, VmSpec::guest("bench"));
        assert!(is_name("linux") && is_name("linux-generic") && !is_name("bench"));
    }
}
