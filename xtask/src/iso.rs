//! The bootable image: one ISO that BIOS and UEFI start, from a CD or a USB stick.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{deps, elf};

/// What is on the image, with its command line.
#[derive(Clone, Copy, Debug)]
pub enum Contents<'a> {
    /// The hypervisor's ELF file and its bundle.
    Hypervisor { elf: &'a Path, bundle: Option<&'a [u8]>, arguments: &'a str },
    /// A Linux kernel and its initial RAM disk.
    Linux { kernel: &'a Path, initrd: Option<&'a Path>, arguments: &'a str },
}

/// Makes `folder/paravane.iso`.
pub fn make(folder: &Path, contents: Contents<'_>) -> Result<PathBuf> {
    deps::ensure(&[deps::ISO])?;
    let (Contents::Hypervisor { arguments, .. } | Contents::Linux { arguments, .. }) = contents;
    ensure!(
        arguments.bytes().all(|b| b.is_ascii_graphic() && !b"'\"\\${};".contains(&b) || b == b' '),
        "the command line {arguments:?} has characters that GRUB would interpret"
    );
    let tree = tempfile::Builder::new().prefix("iso-").tempdir_in(folder)?;
    let boot = tree.path().join("boot");
    fs::create_dir_all(boot.join("grub"))?;
    let read =
        |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    match contents {
        Contents::Hypervisor { elf, bundle, .. } => {
            fs::write(boot.join(HYPERVISOR), elf::stripped(&read(elf)?)?)?;
            if let Some(bundle) = bundle {
                fs::write(boot.join(BUNDLE), bundle)?;
            }
        }
        Contents::Linux { kernel, initrd, .. } => {
            fs::write(boot.join(KERNEL), read(kernel)?)?;
            if let Some(initrd) = initrd {
                fs::write(boot.join(INITRD), read(initrd)?)?;
            }
        }
    }
    fs::write(boot.join("grub/grub.cfg"), menu(contents))?;

    let iso = folder.join("paravane.iso");
    let output = Command::new("grub-mkrescue")
        .arg("-o")
        .arg(&iso)
        .arg(tree.path())
        .output()
        .context("cannot start grub-mkrescue")?;
    if !output.status.success() {
        bail!("grub-mkrescue failed:\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(iso)
}

const HYPERVISOR: &str = "paravane";
const BUNDLE: &str = "bundle";
const KERNEL: &str = "kernel";
const INITRD: &str = "initrd";

fn menu(contents: Contents<'_>) -> String {
    let line = |command: &str, file: &str, arguments: &str| {
        format!("\t{command} /boot/{file} {arguments}").trim_end().to_owned() + "\n"
    };
    let (first, second) = match contents {
        Contents::Hypervisor { bundle, arguments, .. } => {
            (line("multiboot2", HYPERVISOR, arguments), bundle.map(|_| line("module2", BUNDLE, "")))
        }
        Contents::Linux { initrd, arguments, .. } => {
            (line("linux", KERNEL, arguments), initrd.map(|_| line("initrd", INITRD, "")))
        }
    };
    let second = second.unwrap_or_default();
    format!("set timeout=0\nmenuentry Paravane {{\n{first}{second}}}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_menu_loads_what_is_there_with_its_command_line() {
        let elf = Path::new("hv");
        let menu_of = |bundle, arguments| menu(Contents::Hypervisor { elf, bundle, arguments });
        assert!(
            menu_of(Some(&[]), "a b")
                .contains("{\n\tmultiboot2 /boot/paravane a b\n\tmodule2 /boot/bundle\n}")
        );
        assert!(menu_of(None, "").contains("{\n\tmultiboot2 /boot/paravane\n}"));
        let linux = Contents::Linux { kernel: elf, initrd: Some(elf), arguments: "quiet" };
        assert!(menu(linux).contains("{\n\tlinux /boot/kernel quiet\n\tinitrd /boot/initrd\n}"));
    }

    #[test]
    fn what_grub_would_interpret_is_refused() {
        let contents = Contents::Linux { kernel: Path::new("k"), initrd: None, arguments: "a=$b" };
        let folder = tempfile::tempdir().unwrap();
        let error = make(folder.path(), contents).unwrap_err().to_string();
        assert!(error.contains("a=$b"), "{error}");
    }
}
