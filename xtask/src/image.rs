//! `build`: everything that boots, on disk.

use std::fs;

use anyhow::Result;

use crate::cli::BuildArgs;
use crate::workspace::Workspace;
use crate::{build, elf, iso, linux, plan, vmfile};

/// Builds and prints what was made.
pub fn run(workspace: &Workspace, args: &BuildArgs) -> Result<()> {
    let mut vms = match &args.config {
        Some(path) => vmfile::read(path)?.vms,
        None => vec![plan::vm(&args.image, &args.guest)?],
    };
    if linux::is_name(&args.image) && args.config.is_none() {
        // Where it will be booted is not known.
        vms.iter_mut().for_each(|vm| linux::tell_the_clock_aloud(vm, None));
    }
    let plan = plan::make(workspace, vms)?;
    let folder = workspace.run_folder("build")?;
    let hypervisor = build::hypervisor(workspace)?;
    let bundle = folder.join("bundle");
    fs::write(&bundle, &plan.bundle)?;
    let contents =
        iso::Contents::Hypervisor { elf: &hypervisor, bundle: Some(&plan.bundle), arguments: "" };
    let iso = iso::make(&folder, contents)?;
    let size = elf::memory_size(&fs::read(&hypervisor)?)?;
    println!("hypervisor  {} ({} KiB of memory)", hypervisor.display(), size.div_ceil(1024));
    for (name, path) in &plan.images.vms {
        println!("VM {name:8} {}", path.display());
    }
    println!("bundle      {} ({} KiB)", bundle.display(), plan.bundle.len().div_ceil(1024));
    println!("ISO         {}", iso.display());
    Ok(())
}
