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
