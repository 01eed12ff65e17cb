//! What a machine boots: described, and put into a run's folder.

use std::fs;
use std::path::{self, Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::iso;
use crate::machine::{BootPath, Hardware, Medium};
use crate::transcript::Images;

/// What is booted.
#[derive(Clone, Debug)]
pub enum Payload {
    /// The hypervisor with its bundle, if any, and its command line.
    Hypervisor { bundle: Option<Vec<u8>>, arguments: String },
    /// A guest without a hypervisor, with its command line and its initial RAM disk.
    Bare { arguments: String, initrd: Option<PathBuf> },
}

/// A run to start.
#[derive(Clone, Debug)]
pub struct Boot {
    pub hardware: Hardware,
    pub payload: Payload,
    /// The ELF files of what runs.
    pub images: Images,
    /// The longest time that the run may take.
    pub limit: Duration,
    /// Whether something will be typed.
    pub input: bool,
    /// The run's own folder.
    pub folder: PathBuf,
    /// Where what it prints is written.
    pub log: PathBuf,
}

/// The last lines that the machine's program wrote about itself into its folder.
pub fn complaints(folder: &Path) -> String {
    let read = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
    let (errors, bochs) = (read("stderr.txt"), read("bochs.log"));
    let panics = bochs.lines().filter(|line| line.contains(">>PANIC<<"));
    // Banners and habitual remarks are no complaints.
    let idle = |line: &&str| {
        let line = line.trim();
        !["====", "using log file", "Bochs connected to screen", "Bochs is exiting"]
            .iter()
            .any(|habit| line.contains(habit))
            && !line.is_empty()
    };
    let lines: Vec<&str> = panics.chain(errors.lines()).filter(idle).collect();
    lines[lines.len().saturating_sub(6)..].join("\n")
}

/// Puts what the machine boots from into the run's folder.
pub fn medium(boot: &Boot) -> Result<Medium> {
    let folder: &Path = &boot.folder;
    match &boot.payload {
        Payload::Bare { arguments, initrd } => {
            let (_, image) = boot.images.vms.first().context("there is no guest to run")?;
            // The machine runs in a folder of its own.
            let image = path::absolute(image)?;
            let module = initrd.as_deref().map(path::absolute).transpose()?;
            if boot.hardware.boot != BootPath::Pvh {
                let initrd = module.as_deref();
                let contents = iso::Contents::Linux { kernel: &image, initrd, arguments };
                return Ok(Medium::Iso(iso::make(folder, contents)?));
            }
            Ok(Medium::Kernel { elf: image, module, arguments: arguments.clone() })
        }
        Payload::Hypervisor { bundle, arguments } => {
            let elf = boot.images.hypervisor.clone().context("there is no hypervisor to run")?;
            if boot.hardware.boot == BootPath::Pvh {
                let mut module = None;
                if let Some(bundle) = bundle {
                    fs::write(module.insert(folder.join("bundle")), bundle)?;
                }
                return Ok(Medium::Kernel { elf, module, arguments: arguments.clone() });
            }
            let contents =
                iso::Contents::Hypervisor { elf: &elf, bundle: bundle.as_deref(), arguments };
            Ok(Medium::Iso(iso::make(folder, contents)?))
        }
    }
}
