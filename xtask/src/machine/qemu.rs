//! QEMU's command line.

use std::ffi::OsString;

use super::{BootPath, Hardware, Machine, Medium, Serial};
use crate::deps;

/// The port of `isa-debug-exit`; a guest that runs bare ends with `2 * code + 1`.
const DEBUG_EXIT: &str = "isa-debug-exit,iobase=0xf4,iosize=4";

/// The arguments for QEMU.
pub fn arguments(hardware: &Hardware, medium: &Medium, serial: &Serial) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: OsString| all.extend([option.into(), value]);
    add("-machine", "q35".into());
    match hardware.machine {
        Machine::QemuKvm => {
            add("-accel", "kvm".into());
            // A model without VMX in its definition gets it here; `host` has it.
            add("-cpu", format!("{},+vmx", hardware.cpu_model).into());
        }
        Machine::QemuTcg | Machine::BochsVmx => {
            add("-accel", "tcg".into());
            add("-cpu", hardware.cpu_model.clone().into());
        }
    }
    add("-smp", hardware.cpus.to_string().into());
    add("-m", hardware.memory_mib.to_string().into());
    add("-display", "none".into());
    if hardware.boot == BootPath::Uefi {
        add("-bios", deps::OVMF.into());
    }
    match medium {
        Medium::Iso(iso) => {
            add("-cdrom", iso.into());
            add("-boot", "d".into());
        }
        Medium::Kernel { elf, module, arguments } => {
            add("-kernel", elf.into());
            if let Some(module) = module {
                add("-initrd", module.into());
            }
            if !arguments.is_empty() {
                add("-append", arguments.into());
            }
        }
    }
    match serial {
        Serial::Stdio => add("-serial", "stdio".into()),
        Serial::File(path) => {
            add("-serial", with_path("file:", path));
            add("-debugcon", "stdio".into());
        }
        Serial::Terminal(path) => {
            add("-serial", path.into());
            add("-debugcon", "stdio".into());
        }
    }
    add("-device", DEBUG_EXIT.into());
    all.extend(["-nodefaults".into(), "-no-reboot".into()]);
    all
}

fn with_path(prefix: &str, path: &std::path::Path) -> OsString {
    let mut text = OsString::from(prefix);
    text.push(path);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(hardware: &Hardware, medium: &Medium, serial: &Serial) -> String {
        let arguments = arguments(hardware, medium, serial);
        arguments.iter().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    fn kernel(arguments: &str) -> Medium {
        Medium::Kernel {
            elf: "hv".into(),
            module: Some("bundle".into()),
            arguments: arguments.into(),
        }
    }

    #[test]
    fn kvm_gets_vmx_whatever_the_model() {
        let hardware = Hardware { cpus: 2, ..Machine::QemuKvm.hardware(0) };
        let line = line(&hardware, &kernel(""), &Serial::File("com1".into()));
        assert_eq!(
            line,
            "-machine q35 -accel kvm -cpu host,+vmx -smp 2 -m 512 -display none -kernel hv \
             -initrd bundle -serial file:com1 -debugcon stdio \
             -device isa-debug-exit,iobase=0xf4,iosize=4 -nodefaults -no-reboot"
        );
    }

    #[test]
    fn the_boot_path_decides_firmware_and_medium() {
        let hardware = Hardware { boot: BootPath::Uefi, ..Machine::QemuTcg.hardware(0) };
        let line =
            line(&hardware, &Medium::Iso("x.iso".into()), &Serial::Terminal("/dev/pts/3".into()));
        assert!(line.contains("-accel tcg -cpu max"), "{line}");
        assert!(line.contains(&format!("-bios {}", deps::OVMF)), "{line}");
        assert!(line.contains("-cdrom x.iso -boot d -serial /dev/pts/3 -debugcon stdio"), "{line}");
    }

    #[test]
    fn a_bare_guest_has_its_console_on_standard_output() {
        let medium =
            Medium::Kernel { elf: "bench".into(), module: None, arguments: "shim=native".into() };
        let line = line(&Machine::QemuTcg.hardware(0), &medium, &Serial::Stdio);
        assert!(line.contains("-kernel bench -append shim=native -serial stdio"), "{line}");
        assert!(!line.contains("debugcon"), "{line}");
    }
}
