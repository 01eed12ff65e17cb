//! QEMU's command line.

use std::ffi::OsString;

use super::{BootPath, Hardware, Machine, Medium, Serial, kvm};
use crate::deps;

/// The port of `isa-debug-exit`; a guest that runs bare ends with `2 * code + 1`.
const DEBUG_EXIT: &str = "isa-debug-exit,iobase=0xf4,iosize=4";

/// One instruction is one nanosecond, nobody waits for the host's clock, and nothing of the host is
/// seen: two runs are the same to the tick.
const REPEATABLE: [(&str, &str); 3] = [
    ("-icount", "shift=0,sleep=off"),
    ("-rtc", "base=2020-01-01T00:00:00,clock=vm"),
    ("-seed", "1"),
];

/// The arguments for QEMU.
pub fn arguments(
    hardware: &Hardware,
    accelerator: &str,
    medium: &Medium,
    serial: &Serial,
) -> Vec<OsString> {
    let mut all: Vec<OsString> = Vec::new();
    let mut add = |option: &str, value: OsString| all.extend([option.into(), value]);
    add("-machine", "q35".into());
    add("-accel", accelerator.into());
    // A model without the extension in its definition gets it here. On emulation the model is what
    // the user says: one without it shows the refusal.
    let extension = match hardware.machine {
        Machine::QemuKvm => format!(",+{}", kvm::flag(hardware.vendor)),
        _ => String::new(),
    };
    add("-cpu", (hardware.cpu_model.clone() + &extension).into());
    for (option, value) in REPEATABLE.iter().filter(|_| hardware.repeatable) {
        add(option, value.into());
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
    use std::path::Path;

    use hv_core::host::report::Vendor;

    use super::*;

    fn line(hardware: &Hardware, medium: &Medium, serial: &Serial) -> String {
        let command = hardware.command(Path::new("."), medium, serial).unwrap();
        command.get_args().map(|a| a.to_str().unwrap()).collect::<Vec<_>>().join(" ")
    }

    fn kernel(arguments: &str) -> Medium {
        Medium::Kernel {
            elf: "hv".into(),
            module: Some("bundle".into()),
            arguments: arguments.into(),
        }
    }

    #[test]
    fn kvm_gets_the_extension_of_the_host_whatever_the_model() {
        let on = |vendor| Hardware { cpus: 2, vendor, ..Machine::QemuKvm.hardware(0) };
        let line = |vendor| line(&on(vendor), &kernel(""), &Serial::File("com1".into()));
        assert_eq!(
            line(Vendor::Vmx),
            "-machine q35 -accel kvm -cpu host,+vmx -smp 2 -m 512 -display none -kernel hv \
             -initrd bundle -serial file:com1 -debugcon stdio \
             -device isa-debug-exit,iobase=0xf4,iosize=4 -nodefaults -no-reboot"
        );
        assert_eq!(line(Vendor::Svm), line(Vendor::Vmx).replace("+vmx", "+svm"));
    }

    #[test]
    fn emulation_is_repeatable_when_figures_are_wanted_and_kvm_never() {
        let line = |hardware: &Hardware| line(hardware, &kernel(""), &Serial::File("com1".into()));
        let standard = Machine::QemuTcg.hardware(0);
        assert!(!line(&standard).contains("icount") && standard.tick() == "cycles");
        let exact = standard.for_figures();
        let options = "-accel tcg -cpu max -icount shift=0,sleep=off \
                       -rtc base=2020-01-01T00:00:00,clock=vm -seed 1 -smp 1";
        assert!(line(&exact).contains(options), "{}", line(&exact));
        assert_eq!(exact.tick(), "instructions");
        let kvm = Machine::QemuKvm.hardware(0).for_figures();
        assert!(!line(&kvm).contains("icount") && kvm.tick() == "cycles");
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
