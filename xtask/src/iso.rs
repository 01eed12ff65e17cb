//! The bootable image: one ISO that BIOS and UEFI start, from a CD or a USB stick.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::{deps, elf};

/// Makes `folder/paravane.iso` from the hypervisor's ELF file, a bundle and the hypervisor's
/// command line.
pub fn make(
    folder: &Path,
    hypervisor: &Path,
    bundle: Option<&[u8]>,
    arguments: &str,
) -> Result<PathBuf> {
    deps::ensure(&[deps::ISO])?;
    ensure!(
        arguments.bytes().all(|b| b.is_ascii_graphic() && !b"'\"\\${};".contains(&b) || b == b' '),
        "the hypervisor's command line {arguments:?} has characters that GRUB would interpret"
    );
    let image =
        fs::read(hypervisor).with_context(|| format!("cannot read {}", hypervisor.display()))?;
    let tree = tempfile::Builder::new().prefix("iso-").tempdir_in(folder)?;
    let boot = tree.path().join("boot");
    fs::create_dir_all(boot.join("grub"))?;
    fs::write(boot.join("paravane"), elf::stripped(&image)?)?;
    if let Some(bundle) = bundle {
        fs::write(boot.join("bundle"), bundle)?;
    }
    fs::write(boot.join("grub/grub.cfg"), menu(arguments, bundle.is_some()))?;

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

fn menu(arguments: &str, has_bundle: bool) -> String {
    let module = if has_bundle { "\tmodule2 /boot/bundle\n" } else { "" };
    format!(
        "set timeout=0\nmenuentry Paravane {{\n\tmultiboot2 /boot/paravane {arguments}\n{module}}}\n"
    )
}
