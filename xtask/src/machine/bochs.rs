//! Bochs: emulated VT-x or AMD-V without KVM, one TSC tick per instruction.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail};

use super::{BootPath, Hardware, Medium, Serial};
use crate::deps;

/// The model that published figures are measured on.
pub const REFERENCE_CPU: &str = "corei7_haswell_4770";

/// Writes the configuration into `folder` and gives the command that runs it.
pub fn command(
    hardware: &Hardware,
    folder: &Path,
    medium: &Medium,
    serial: &Serial,
) -> Result<Command> {
    let Medium::Iso(iso) = medium else { bail!("Bochs boots from an ISO image only") };
    fs::write(folder.join("bochsrc"), configuration(hardware, iso, serial)?)?;
    // `xchg bx, bx` returns to the debugger, whose next command ends Bochs.
    fs::write(folder.join("debugger"), "c\nq\n")?;
    let mut command = Command::new("bochs");
    command
        .args(["-q", "-f", "bochsrc", "-rc", "debugger"])
        .current_dir(folder)
        // The display `term` wants to know a terminal, even where none is.
        .env("TERM", "vt100");
    Ok(command)
}

fn configuration(hardware: &Hardware, iso: &Path, serial: &Serial) -> Result<String> {
    let serial = match serial {
        Serial::File(path) => format!("mode=file, dev={}", plain(path)?),
        Serial::Terminal(path) => format!("mode=term, dev={}", plain(path)?),
        Serial::Stdio => "mode=file, dev=/dev/stdout".to_owned(),
    };
    let rom = match hardware.boot {
        BootPath::Uefi => format!("romimage: file={}", deps::OVMF),
        BootPath::Iso | BootPath::Pvh => {
            "romimage: file=/usr/share/bochs/BIOS-bochs-latest".to_owned()
        }
    };
    let lines = [
        "plugin_ctrl: unmapped=1, biosdev=1, speaker=0, extfpuirq=1, parallel=0, serial=1, iodebug=0, e1000=0".to_owned(),
        "config_interface: textconfig".to_owned(),
        "display_library: term".to_owned(),
        format!("megs: {}", hardware.memory_mib),
        rom,
        "vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest".to_owned(),
        format!(
            "cpu: model={}, count={}, ips=50000000, reset_on_triple_fault=0",
            hardware.cpu_model, hardware.cpus
        ),
        // No relation to the host's clock: every run is the same to the tick.
        "clock: sync=none, time0=946684800".to_owned(),
        "boot: cdrom".to_owned(),
        "ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14".to_owned(),
        format!("ata0-master: type=cdrom, path={}, status=inserted", plain(iso)?),
        format!("com1: enabled=1, {serial}"),
        "port_e9_hack: enabled=1".to_owned(),
        "magic_break: enabled=1".to_owned(),
        "sound: waveoutdrv=dummy".to_owned(),
        "log: bochs.log".to_owned(),
        "panic: action=fatal".to_owned(),
    ];
    Ok(lines.join("\n") + "\n")
}

/// A path as Bochs reads it: its configuration has no quoting that holds a comma.
fn plain(path: &Path) -> Result<&str> {
    match path.to_str() {
        Some(text) if !text.contains([',', '"', '\n', '#']) => Ok(text),
        _ => bail!(
            "Bochs cannot be given the path {}: move the workspace to one without commas, quotes and #",
            path.display()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Machine;
    use super::*;

    #[test]
    fn the_configuration_says_what_was_asked_for() {
        let hardware = Hardware {
            cpu_model: "bx_generic".into(),
            cpus: 2,
            memory_mib: 768,
            ..Machine::BochsVmx.hardware(0)
        };
        let text = configuration(&hardware, Path::new("/t/a b.iso"), &Serial::File("com1".into()))
            .unwrap();
        for line in [
            "megs: 768",
            "cpu: model=bx_generic, count=2, ips=50000000, reset_on_triple_fault=0",
            "ata0-master: type=cdrom, path=/t/a b.iso, status=inserted",
            "com1: enabled=1, mode=file, dev=com1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_path_that_bochs_would_misread_is_refused() {
        let hardware = Machine::BochsVmx.hardware(0);
        let serial = Serial::File("com1".into());
        assert!(configuration(&hardware, Path::new("/t/a,b.iso"), &serial).is_err());
    }
}
