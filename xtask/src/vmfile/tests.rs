use super::*;
use hv_core::vm::machine_type::MachineType;
use hv_core::vm::policy::Policy;

fn error(text: &str) -> String {
    format!("{:#}", parse(text).expect_err("accepted"))
}

#[test]
fn every_key_reaches_the_packed_description() {
    let text = r#"
        [[vm]]
        name = "one"
        image = "some/path/guest.elf"
        kind = "linux32"
        initrd = "other/path/initrd.img"
        machine = "pc"
        command-line = "shim=native"
        memory = "128M"
        vcpus = 3
        cpus = [1, 2]
        policy = "trap-all"
        without = ["apicv", "nested-1g"]
        slice-us = 500
        weight = 1024
        time-limit-ms = 7000
        check-entries = true
        uart = false
        abi = true
        may-reset = true
        profile = true
        scratch-marks = true
        scratch-page = true

        [[vm]]
        name = "two"
        image = "bench"
    "#;
    let specs = parse(text).unwrap();
    let desc = specs[0].packed().unwrap();
    let vm = desc.validate().unwrap();
    assert_eq!((vm.name, vm.image, vm.command_line), ("one", "guest.elf", "shim=native"));
    assert_eq!((vm.kind, vm.initrd), (ImageKind::Linux32, Some("initrd.img")));
    assert_eq!(vm.machine, MachineType::Pc);
    assert_eq!((vm.memory, vm.vcpus, vm.cpus, vm.slice_us), (128 << 20, 3, 0b110, 500));
    assert_eq!(vm.weight, 1024);
    assert_eq!((vm.policy, vm.time_limit_ms), (Policy::TrapAll, 7000));
    assert_eq!(
        vm.without,
        Features::APIC_REGISTERS | Features::VIRTUAL_INTERRUPTS | Features::NESTED_1G
    );
    let kept = Options::CHECK_ENTRIES | Options::ABI | Options::MAY_RESET | Options::PROFILE;
    assert_eq!(vm.options, kept | Options::SCRATCH_MARKS | Options::SCRATCH_PAGE);
    let second = specs[1].packed().unwrap();
    let second = second.validate().unwrap();
    assert_eq!((second.cpus, second.vcpus), (u64::MAX, 1));
    assert_eq!((second.policy, second.weight), (Policy::Pv, 256));
    assert_eq!(second.options, Options::UART | Options::ABI);
    assert_eq!((second.kind, second.initrd), (ImageKind::Auto, None));
    assert_eq!(second.machine, MachineType::Minimal);
}

#[test]
fn a_kernel_that_does_not_know_the_abi_is_offered_none_unless_told() {
    let abi = |kind, abi| {
        let vm = VmSpec { kind: KindName(kind), abi, ..VmSpec::guest("kernel") };
        Options::from_bits_retain(vm.packed().unwrap().options).contains(Options::ABI)
    };
    for kind in ImageKind::ALL {
        assert_eq!(abi(kind, None), matches!(kind, ImageKind::Auto | ImageKind::Pvh), "{kind:?}");
        assert!(abi(kind, Some(true)) && !abi(kind, Some(false)), "{kind:?}");
    }
}

#[test]
fn the_samples_are_sound() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/machines");
    for entry in std::fs::read_dir(folder).unwrap() {
        read(&entry.unwrap().path()).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_what_is_allowed() {
    let error = error("[[vm]]\nname = \"a\"\nimage = \"b\"\nmemroy = \"64M\"\n");
    assert!(error.contains("line 4"), "{error}");
    assert!(error.contains("memroy") && error.contains("`memory`"), "{error}");
}

#[test]
fn a_wrong_value_is_refused_with_its_line_and_what_is_allowed() {
    let cases = [
        ("memory = \"64Q\"", "multiple of 2M"),
        ("memory = \"1M\"", "from 2M to 3072M"),
        ("memory = \"99999999999999G\"", "multiple of 2M"),
        ("memory = 64", "string"),
        ("policy = \"fast\"", "trap-all, hw-assist, pv"),
        ("kind = \"elf\"", "auto, pvh, linux"),
        ("machine = \"q35\"", "minimal, pc"),
        ("initrd = true", "string"),
        ("abi = \"no\"", "boolean"),
        ("vcpus = 65", "1 to 64"),
        ("without = [\"vpid\", \"warp\"]", "large-pages"),
        ("slice-us = 1", "from 100 to 1000000"),
        ("weight = 15", "from 16 to 4096"),
        ("time-limit-ms = -1", "u64"),
        ("uart = \"yes\"", "boolean"),
        ("cpus = [64]", "from 0 to 63"),
        ("cpus = []", "leave the key out"),
        ("cpus = 1", "list of whole numbers"),
        ("command-line = \"a\\u0000b\"", "none of them zero"),
    ];
    for (line, said) in cases {
        let error = error(&format!("[[vm]]\nname = \"a\"\nimage = \"b\"\n{line}\n"));
        assert!(error.contains("line 4"), "{line}: {error}");
        assert!(error.contains(said), "{line}: {error}");
    }
}

#[test]
fn a_missing_key_is_named() {
    assert!(error("[[vm]]\nname = \"a\"\n").contains("image"));
    assert!(error("[[vm]]\nimage = \"a\"\n").contains("name"));
    assert!(error("vm = []\n").contains("no [[vm]] table"));
    assert!(error("").contains("vm"));
}

#[test]
fn names_are_held_against_the_format_of_the_bundle() {
    let long = "x".repeat(33);
    for name in ["", &long] {
        let error = error(&format!("[[vm]]\nname = \"{name}\"\nimage = \"b\"\n"));
        assert!(error.contains("1 to 32 bytes"), "{error}");
    }
    let twice = "[[vm]]\nname = \"a\"\nimage = \"b\"\n".repeat(2);
    assert!(error(&twice).contains("two VMs have the name"));
}
