use super::places::Refusal;
use super::*;
use crate::bundle::{self, Member};
use crate::machine::Machine;
use hv_core::host::bundle::Kind;
use hv_core::vm::desc::MAX_MEMORY;
use hv_core::vm::machine_type::MachineType;
use hv_core::vm::policy::Policy;

fn vms(text: &str) -> Vec<VmSpec> {
    parse("file", text).unwrap_or_else(|error| panic!("{text}: {error}")).vms
}

fn refusal(text: &str) -> Refusal {
    parse("file", text).map(|file| file.vms).expect_err(text)
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
        uart = true
        abi = true
        links = ["three"]
        may-reset = true
        may-share = true
        may-see-statistics = false
        profile = true
        scratch-marks = true
        scratch-page = true

        [[vm]]
        name = "two"
        image = "bench"

        [[vm]]
        name = "three"
        image = "bench"
        uart = false
    "#;
    let specs = vms(text);
    let descs = packed(&specs).unwrap();
    let vm = descs[0].validate().unwrap();
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
    let scratch = Options::SCRATCH_MARKS | Options::SCRATCH_PAGE;
    assert_eq!(vm.options, kept | scratch | Options::UART | Options::MAY_SHARE);
    assert_eq!(descs[2].options, (Options::ABI | Options::MAY_SEE_STATISTICS).bits());
    assert_eq!([descs[0].links, descs[1].links, descs[2].links], [0b100, 0, 0b001]);
    let second = descs[1].validate().unwrap();
    assert_eq!((second.cpus, second.vcpus), (u64::MAX, 1));
    assert_eq!((second.policy, second.weight), (Policy::Pv, 256));
    assert_eq!(second.options, Options::UART | Options::ABI | Options::MAY_SEE_STATISTICS);
    assert_eq!((second.kind, second.initrd), (ImageKind::Auto, None));
    assert_eq!(second.machine, MachineType::Minimal);
}

#[test]
fn a_kernel_that_does_not_know_the_abi_is_offered_none_unless_told() {
    let abi = |kind, abi| {
        let vm = VmSpec { kind: KindName(kind), abi, ..VmSpec::guest("kernel") };
        Options::from_bits_retain(vm.packed(0).unwrap().options).contains(Options::ABI)
    };
    for kind in ImageKind::ALL {
        assert_eq!(abi(kind, None), matches!(kind, ImageKind::Auto | ImageKind::Pvh), "{kind:?}");
        assert!(abi(kind, Some(true)) && !abi(kind, Some(false)), "{kind:?}");
    }
}

/// What stands in a comment of a sample: `--cpus N`, or 1.
fn cpus_of(text: &str) -> u32 {
    let argument = text.split_once("--cpus ").map(|(_, rest)| rest.split_whitespace().next());
    argument.flatten().map_or(1, |cpus| cpus.parse().unwrap())
}

#[test]
fn every_sample_says_how_it_is_run_and_can_be() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../guests/machines");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        let command = format!("#     cargo xtask run --config guests/machines/{name}");
        assert!(text.lines().any(|line| line.starts_with(&command)), "{name}: no line {command}");
        let file = read(&path).unwrap_or_else(|error| panic!("{error:#}"));
        let hardware = Hardware { cpus: cpus_of(&text), ..Machine::BochsVmx.hardware(0) };
        file.check_on(&hardware).unwrap_or_else(|error| panic!("{error:#}"));
        let descs = packed(&file.vms).unwrap();
        let images: std::collections::BTreeSet<_> =
            file.vms.iter().map(|vm| members::name(&vm.image)).collect();
        let member = |name| Member { name, kind: Kind::Image, bytes: vec![0] };
        let members: Vec<_> = images.into_iter().map(member).collect();
        bundle::pack(&descs, &members).unwrap_or_else(|error| panic!("{name}: {error:#}"));
        names.push(name);
    }
    for name in ["one.toml", "two.toml", "smp.toml", "overcommit.toml", "linux.toml", "linked.toml"]
    {
        assert!(names.iter().any(|there| there == name), "{name} is not in {names:?}");
    }
}

#[test]
fn a_refusal_reads_file_line_key_and_why() {
    let refusal = refusal("[[vm]]\nname = \"a\"\nimage = \"b\"\n\nvcpus = 65\n");
    assert_eq!(refusal.to_string(), "file, line 5: `vcpus`: 65 vCPUs: there can be 1 to 64");
}

#[test]
fn a_wrong_value_is_refused_with_its_line_its_key_and_what_is_allowed() {
    let cases = [
        ("memroy = \"64M\"", "memroy", "`memory`"),
        ("memory = \"64Q\"", "memory", "multiple of 2M"),
        ("memory = \"1M\"", "memory", "from 2M to 3072M"),
        ("memory = \"99999999999999G\"", "memory", "multiple of 2M"),
        ("memory = 64", "memory", "string"),
        ("policy = \"fast\"", "policy", "trap-all, hw-assist, pv"),
        ("kind = \"elf\"", "kind", "auto, pvh, linux"),
        ("machine = \"q35\"", "machine", "minimal, pc"),
        ("initrd = true", "initrd", "string"),
        ("initrd = \"\"", "initrd", "1 to 32 bytes"),
        ("abi = \"no\"", "abi", "boolean"),
        ("vcpus = 0", "vcpus", "1 to 64"),
        ("vcpus = 65", "vcpus", "1 to 64"),
        ("vcpus = \"2\"", "vcpus", "whole number"),
        ("vcpus = 1.5", "vcpus", "whole number"),
        ("without = [\"vpid\", \"warp\"]", "without", "large-pages"),
        ("slice-us = 1", "slice-us", "from 100 to 1000000"),
        ("weight = 15", "weight", "from 16 to 4096"),
        ("weight = 4097", "weight", "from 16 to 4096"),
        ("time-limit-ms = -1", "time-limit-ms", "milliseconds, or 0 for never"),
        ("time-limit-ms = \"1s\"", "time-limit-ms", "milliseconds, or 0 for never"),
        ("check-entries = 1", "check-entries", "boolean"),
        ("uart = \"yes\"", "uart", "boolean"),
        ("may-reset = []", "may-reset", "boolean"),
        ("may-share = 1", "may-share", "boolean"),
        ("may-see-statistics = \"no\"", "may-see-statistics", "boolean"),
        ("links = \"other\"", "links", "expected a sequence"),
        ("links = [1]", "links", "expected a string"),
        ("links = [\"others\"]", "links", "no VM \"others\""),
        ("links = [\"a\"]", "links", "this VM itself"),
        ("links = [\"other\", \"other\"]", "links", "linked already"),
        ("profile = 0", "profile", "boolean"),
        ("scratch-page = \"\"", "scratch-page", "boolean"),
        ("cpus = [64]", "cpus", "from 0 to 63"),
        ("cpus = [-1]", "cpus", "from 0 to 63"),
        ("cpus = []", "cpus", "leave the key out"),
        ("cpus = 1", "cpus", "list of whole numbers"),
        ("cpus = [1, 0, 1]", "cpus", "name each once"),
        ("command-line = \"a\\u0000b\"", "command-line", "none of them zero"),
        ("kind = \"rom\"\ninitrd = \"i\"", "initrd", "leave it out"),
        ("kind = \"rom\"\ncommand-line = \"c\"", "command-line", "leave it out"),
        ("uart = false\nscratch-marks = true", "scratch-marks", "set `uart` to true"),
    ];
    for (lines, key, why) in cases {
        let text = format!(
            "[[vm]]\nname = \"other\"\nimage = \"b\"\n[[vm]]\nname = \"a\"\nimage = \"b\"\n{lines}\nweight = 16\n"
        );
        let text = if key == "weight" { text.replace("\nweight = 16", "") } else { text };
        let found = refusal(&text);
        let last = 6 + lines.lines().count();
        assert_eq!((found.line, found.key.as_deref()), (last, Some(key)), "{lines}: {found}");
        assert!(found.why.contains(why), "{lines}: {found}");
    }
}

#[test]
fn what_is_not_toml_is_refused_with_its_line_and_what_is_expected() {
    let cases = [
        ("memory = 64M", 4, Some("memory"), ""),
        ("memory =", 4, Some("memory"), "expected"),
        ("memory", 4, None, "expected `=`"),
        ("memory = \"64M", 4, Some("memory"), "expected"),
        ("weight = 16\nweight = 16", 5, Some("weight"), "duplicate"),
        ("cpus = [0, 1", 4, Some("cpus"), "expected"),
        ("[[vm", 4, None, "expected"),
        ("[vm.more]", 4, Some("more"), "unknown field"),
    ];
    let faults = cases.map(|(lines, line, key, why)| {
        let found = refusal(&format!("[[vm]]\nname = \"a\"\nimage = \"b\"\n{lines}\n"));
        let sound = (found.line, found.key.as_deref()) == (line, key) && found.why.contains(why);
        if sound { String::new() } else { format!("{lines}\n    {found}\n") }
    });
    assert!(faults.concat().is_empty(), "{}", faults.concat());
}

#[test]
fn a_missing_key_is_named_with_the_line_of_its_table() {
    let cases = [
        ("\n[[vm]]\nname = \"a\"\n", 2, "image"),
        ("\n\n[[vm]]\nimage = \"a\"\n", 3, "name"),
        ("vm = []\n", 1, "there is no [[vm]] table"),
        ("", 1, "vm"),
        ("[[vms]]\n", 1, "`vm`"),
        ("vm = 1\n", 1, "sequence"),
    ];
    for (text, line, why) in cases {
        let found = refusal(text);
        assert_eq!(found.line, line, "{text:?}: {found}");
        assert!(found.why.contains(why), "{text:?}: {found}");
    }
}

#[test]
fn names_are_held_against_the_format_of_the_bundle() {
    for name in ["", &"x".repeat(33), "a\\u0000b"] {
        let found = refusal(&format!("[[vm]]\nimage = \"b\"\nname = \"{name}\"\n"));
        assert_eq!((found.line, found.key.as_deref()), (3, Some("name")), "{found}");
        assert!(found.why.contains("1 to 32 bytes"), "{found}");
    }
    assert_eq!(vms(&format!("[[vm]]\nimage = \"b\"\nname = \"{}\"\n", "x".repeat(32))).len(), 1);
}

#[test]
fn vms_that_do_not_fit_together_are_refused_with_the_line_of_the_later_one() {
    let vm = |name: &str, image: &str| format!("[[vm]]\nname = \"{name}\"\nimage = \"{image}\"\n");
    let same_name = vm("a", "b") + &vm("c", "b") + &vm("a", "b");
    let same_file = vm("a", "x/kernel") + &vm("b", "y/kernel");
    let many: String = (0..64).map(|n| vm(&n.to_string(), "b")).collect();
    let cases = [
        (same_name, 8, "name", "two VMs have the name \"a\""),
        (same_file, 6, "image", "rename one"),
        (many, 63 * 3 + 2, "name", "more than 64 VMs, images"),
    ];
    for (text, line, key, why) in cases {
        let found = refusal(&text);
        assert_eq!((found.line, found.key.as_deref()), (line, Some(key)), "{found}");
        assert!(found.why.contains(why), "{found}");
    }
    let linked = |name: &str, to: &str| vm(name, "b") + &format!("links = [\"{to}\"]\n");
    let found = refusal(&(linked("a", "b") + &linked("b", "a")));
    assert_eq!((found.line, found.key.as_deref()), (8, Some("links")), "{found}");
    assert!(found.why.contains("\"a\" is linked already"), "{found}");
    vms(&(vm("a", "linux") + &vm("b", "x/linux")));
    vms(&(0..63).map(|n| vm(&n.to_string(), "b")).collect::<String>());
}

#[test]
fn files_that_are_not_there_are_refused() {
    let files = |key, path| {
        let mut vm = VmSpec::guest("bench");
        match key {
            "image" => vm.image = path,
            _ => vm.initrd = Some(path),
        }
        fit::files(&[VmSpec::guest("linux"), vm])
    };
    let here = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for key in ["image", "initrd"] {
        assert_eq!(files(key, here.to_owned()), Ok(()));
        let misfit = files(key, "no/such".to_owned()).unwrap_err();
        assert_eq!((misfit.vm, misfit.key), (1, key));
        assert!(misfit.why.contains("\"no/such\""), "{misfit:?}");
    }
}

#[test]
fn what_a_machine_does_not_have_is_refused_with_its_line() {
    let vm = |name: &str, more: &str| format!("[[vm]]\nname = \"{name}\"\nimage = \"b\"\n{more}\n");
    let large = (0..2).map(|n| vm(&n.to_string(), "memory = \"1G\"")).collect::<String>();
    let crowd = |cpus: &str| -> String {
        (0..17).map(|n| vm(&n.to_string(), &format!("vcpus = 64\n{cpus}"))).collect()
    };
    let crowd = [crowd("cpus = [1]"), crowd("")];
    let cases = [
        (
            vm("a", "cpus = [0]") + &vm("b", "cpus = [1, 2]"),
            2,
            Some((8, "cpus", "no CPU 2: with --cpus 2")),
        ),
        (vm("a", "cpus = [0]") + &vm("b", "cpus = [1, 2]"), 3, None),
        (vm("a", "memory = \"1792M\""), 1, None),
        (vm("a", "memory = \"1858M\""), 1, Some((4, "memory", "bochs-vmx has 2048M at most"))),
        (
            large,
            1,
            Some((
                8,
                "memory",
                "the VMs have 2048M together, which with the hypervisor and the firmware take a machine of 2240M",
            )),
        ),
        (crowd[0].clone(), 2, Some((16 * 5 + 4, "vcpus", "room for 1024 vCPUs"))),
        (crowd[1].clone(), 1, Some((16 * 5 + 4, "vcpus", "room for 1024 vCPUs"))),
        (crowd[1].clone(), 2, None),
    ];
    for (text, cpus, expected) in cases {
        let hardware = Hardware { cpus, ..Machine::BochsVmx.hardware(0) };
        let found = parse("file", &text).unwrap().check_on(&hardware);
        match (found, expected) {
            (Ok(()), None) => {}
            (Err(error), Some((line, key, why))) => {
                let found: Refusal = error.downcast().unwrap();
                assert_eq!((found.line, found.key.as_deref()), (line, Some(key)), "{found}");
                assert!(found.why.contains(why), "{found}");
            }
            (found, expected) => panic!("{expected:?}, and not {found:?}: {text}"),
        }
    }
    let (text, hardware) = (vm("a", "memory = \"3G\""), Machine::QemuTcg.hardware(MAX_MEMORY));
    let fits = Machine::QemuTcg.most_memory_mib() >= 2048 + 3072 + 192;
    assert_eq!(parse("file", &text).unwrap().check_on(&hardware).is_ok(), fits);
}
