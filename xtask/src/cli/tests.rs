use super::*;
use clap::CommandFactory;

#[test]
fn the_command_line_is_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_a_long_help_with_an_example() {
    for command in Cli::command().get_subcommands() {
        let help = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        assert!(help.contains("cargo xtask"), "{}", command.get_name());
    }
}

#[test]
fn lists_may_be_repeated_or_joined() {
    let line = "x compare --policy pv,trap-all --workload a --workload b,c --without apicv";
    let Command::Compare(args) = Cli::parse_from(line.split(' ')).command else { panic!() };
    assert_eq!(args.policy, [Policy::Pv, Policy::TrapAll]);
    assert_eq!(args.workload, ["a", "b", "c"]);
    assert_eq!(args.without, [Features::APIC_REGISTERS | Features::VIRTUAL_INTERRUPTS]);
}

#[test]
fn an_unknown_policy_or_feature_is_refused_with_what_is_allowed() {
    let refused = |line: &str| Cli::try_parse_from(line.split(' ')).unwrap_err().to_string();
    assert!(refused("x run --policy fast").contains("hw-assist"));
    assert!(refused("x run --without warp").contains("vpid"));
    assert!(refused("x run --memory 3Q").contains("64M"));
}

#[test]
fn several_machines_can_be_compared_and_one_command_runs_one() {
    let line = "x compare --machine bochs-vmx --machine bochs-svm,qemu-tcg";
    let Command::Compare(args) = Cli::parse_from(line.split(' ')).command else { panic!() };
    assert_eq!(args.machines, [Choice::BochsVmx, Choice::BochsSvm, Choice::QemuTcg]);
    for wrong in ["x compare --quick --machine qemu-tcg", "x run --machine auto --machine qemu-tcg"]
    {
        assert!(Cli::try_parse_from(wrong.split(' ')).is_err(), "{wrong}");
    }
}

/// The VM that a line of `run` asks for.
fn vm(line: &str) -> anyhow::Result<vmfile::VmSpec> {
    let Command::Run(args) = Cli::parse_from(line.split(' ')).command else { panic!() };
    crate::plan::vm(&args.image, &args.guest)
}

#[test]
fn linux_gets_what_it_needs_and_takes_what_is_given() {
    let standard = vm("x run linux").unwrap();
    assert_eq!(standard.command_line.0, "console=ttyS0 panic=-1 cryptomgr.notests");
    assert_eq!((standard.memory.0, standard.policy.0), (256 << 20, Policy::HwAssist));
    assert_eq!((standard.machine.0, &*standard.image), (MachineType::Minimal, "linux"));
    let own = vm("x run linux --kernel a/bzImage --append quiet --policy trap-all --memory 1G \
                  --machine-type pc");
    let own = own.unwrap();
    assert_eq!((&*own.name, &*own.image, &own.initrd), ("linux", "a/bzImage", &None));
    assert!(own.command_line.0.ends_with("cryptomgr.notests quiet"));
    assert_eq!((own.memory.0, own.policy.0), (1 << 30, Policy::TrapAll));
    assert_eq!(own.machine.0, MachineType::Pc);
    assert_eq!(vm("x run linux --initrd a/b").unwrap().initrd.as_deref(), Some("a/b"));
    assert_eq!(vm("x run linux --generic").unwrap().image, "linux-generic");
    assert_eq!(vm("x run linux-generic").unwrap().memory.0, 256 << 20);
    assert!(vm("x run linux --append paravane.run=walk").is_err());
    // Another initial RAM disk may know other words.
    vm("x run linux --initrd a --append paravane.run=walk").unwrap();
}

#[test]
fn other_images_are_taken_as_they_are() {
    let rom = vm("x run a/bios.bin --kind rom --append a").unwrap();
    assert_eq!((rom.kind.0, &*rom.command_line.0), (ImageKind::Rom, "a"));
    assert_eq!((rom.memory.0, rom.policy.0), (64 << 20, Policy::Pv));
    for line in ["x run bench --generic", "x run bench --kernel a", "x run a/bzImage --kernel a"] {
        let error = vm(line).unwrap_err().to_string();
        assert!(error.contains("for the image linux"), "{line}: {error}");
    }
}
