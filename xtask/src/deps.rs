//! What a command needs from this machine, and how it gets there.

use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// The Rust target of the bare-metal images.
pub const TARGET: &str = "x86_64-unknown-none";
/// UEFI firmware for QEMU, from Debian's `ovmf`.
pub const OVMF: &str = "/usr/share/ovmf/OVMF.fd";

/// Something that is there when a program or file is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The Debian package that has it.
    pub package: &'static str,
    /// A program in the path, or the absolute path of a file.
    pub sign: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

const fn need(package: &'static str, sign: &'static str, purpose: &'static str) -> Need {
    Need { package, sign, purpose }
}

/// For the bootable image.
pub const ISO: &[Need] = &[
    need("grub-common", "grub-mkrescue", "bootable image"),
    need("grub-pc-bin", "/usr/lib/grub/i386-pc/boot.img", "bootable image, BIOS"),
    need("grub-efi-amd64-bin", "/usr/lib/grub/x86_64-efi/multiboot2.mod", "bootable image, UEFI"),
    need("xorriso", "xorriso", "bootable image"),
    need("mtools", "mformat", "bootable image, UEFI"),
];
/// For the machines `bochs-vmx` and `bochs-svm`.
pub const BOCHS: &[Need] = &[
    need("bochs", "bochs", "machines bochs-vmx and bochs-svm"),
    need("bochsbios", "/usr/share/bochs/BIOS-bochs-latest", "Bochs, BIOS"),
    need("vgabios", "/usr/share/bochs/VGABIOS-lgpl-latest", "Bochs, BIOS"),
    need("bochs-term", BOCHS_TERM, "Bochs without a screen"),
];
const BOCHS_TERM: &str = "/usr/lib/x86_64-linux-gnu/bochs/plugins/libbx_term_gui.so";
/// For the machines `qemu-tcg` and `qemu-kvm`.
pub const QEMU: &[Need] =
    &[need("qemu-system-x86", "qemu-system-x86_64", "machines qemu-tcg and qemu-kvm")];
/// For UEFI boots.
pub const UEFI: &[Need] = &[need("ovmf", OVMF, "UEFI boot in QEMU")];

impl Need {
    /// Whether it is here.
    pub fn is_met(&self) -> bool {
        let sign = Path::new(self.sign);
        if sign.is_absolute() { sign.exists() } else { program(self.sign).is_some() }
    }
}

/// The program with this name in the path.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file())
}

/// The command that installs `packages` by hand.
pub fn install_command(packages: &[&str]) -> String {
    format!("sudo apt-get install -y --no-install-recommends {}", packages.join(" "))
}

/// Makes sure that everything in `needs` is here: installs it as root, or by sudo after asking.
pub fn ensure(needs: &[&[Need]]) -> Result<()> {
    let missing: Vec<Need> =
        needs.iter().flat_map(|group| group.iter()).filter(|n| !n.is_met()).copied().collect();
    if missing.is_empty() {
        return Ok(());
    }
    let packages: Vec<&str> = missing.iter().map(|n| n.package).collect();
    let by_hand = install_command(&packages);
    if program("apt-get").is_none() {
        bail!(
            "this machine lacks {}, and has no apt-get. Install what these Debian packages hold by hand: {}",
            missing.iter().map(|n| n.sign).collect::<Vec<_>>().join(", "),
            packages.join(" ")
        );
    }
    let root = nix::unistd::geteuid().is_root();
    let question = format!("Packages are missing: {}. Install them with sudo?", packages.join(" "));
    let may_install = root || (program("sudo").is_some() && agreed(&question)?);
    if !may_install {
        bail!("packages are missing. Install them with\n    {by_hand}");
    }
    eprintln!("Installing packages: {}", packages.join(" "));
    // Package lists may be old or absent; the first try tells.
    let done = apt(root, &install_args(&packages))
        || (apt(root, &["update"]) && apt(root, &install_args(&packages)));
    if !done {
        bail!("apt-get failed. Try it by hand:\n    sudo apt-get update && {by_hand}");
    }
    match missing.iter().find(|n| !n.is_met()) {
        None => Ok(()),
        Some(n) => bail!("{} is installed and yet there is no {}", n.package, n.sign),
    }
}

fn install_args<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    [&["install", "-y", "-q", "--no-install-recommends"], packages].concat()
}

fn apt(root: bool, args: &[&str]) -> bool {
    let mut command = Command::new(if root { "apt-get" } else { "sudo" });
    if !root {
        command.arg("apt-get");
    }
    // The output of apt belongs to the log of what happens, not to a command's result.
    command.args(args).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    command.stdout(io::stderr()).status().is_ok_and(|status| status.success())
}

/// Updates the lists of packages, as root, or by sudo after asking; gives whether it was done.
pub fn update_lists() -> Result<bool> {
    let root = nix::unistd::geteuid().is_root();
    let may = root || (program("sudo").is_some() && agreed("Update the package lists with sudo?")?);
    Ok(may && apt(root, &["update", "-q"]))
}

fn agreed(question: &str) -> Result<bool> {
    if !io::stdin().is_terminal() {
        return Ok(false);
    }
    eprint!("{question} [y/N] ");
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Whether the Rust target of the images is installed.
pub fn has_rust_target() -> bool {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output();
    let Ok(output) = output else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let lib = Path::new(&sysroot).join("lib/rustlib").join(TARGET).join("lib");
    fs::read_dir(lib).is_ok_and(|mut entries| entries.next().is_some())
}

/// Makes sure that the Rust target of the images is installed. `rust-toolchain.toml` names it, but
/// where automatic installation is off rustup has to be asked.
pub fn ensure_rust_target() -> Result<()> {
    if has_rust_target() {
        return Ok(());
    }
    let by_hand = format!("rustup target add {TARGET}");
    eprintln!("Installing the Rust target: {by_hand}");
    let status = Command::new("rustup")
        .args(["target", "add", TARGET])
        .stdout(io::stderr())
        .status()
        .with_context(|| {
            format!("there is no rustup. Install the Rust target {TARGET} in your way")
        })?;
    if !status.success() {
        bail!("cannot install the Rust target. Try it by hand:\n    {by_hand}");
    }
    Ok(())
}
