//! The cases, as data.

use hv_core::host::report::Cause;
use hv_core::vm::desc::Options;
use hv_core::vm::machine_type::MachineType;
use hv_core::vm::policy::Policy;

use super::trial::{BARE, BOOT, TestVm, Trial, VM};
use super::watch::Want;
use super::{Case, Kind, checks, footprint, linux, protocols, smp, switch};
use crate::machine::{BootPath, Machine};

use Kind::{Boots, Checks, Reads};
use Machine::{BochsSvm, BochsVmx, QemuTcg};

/// A machine of each vendor.
pub const EACH_VENDOR: &[Machine] = &[BochsVmx, QemuTcg];
/// Every machine: the core of what must hold.
pub const EVERYWHERE: &[Machine] = &Machine::ALL;
/// Those whose CPU virtualizes the local APIC's page.
const APIC_PAGE: &[Machine] = &[BochsVmx];
/// Cases of the hostile guest that a machine's CPU gets wrong where the hypervisor has no say: QEMU 7.2's emulation
/// takes values that the manual refuses and a null selector for the task register, does not know ICEBP, checks no limit of a segment, marks PAE's
/// page-directory pointers as accessed, and has a data breakpoint come in the shadow of MOV SS. Bochs 2.7 has, under
/// AMD-V, a guest's single step go on in the hypervisor, and shuts down where an intercepted exception is injected
/// again into real, virtual-8086 or 32-bit code; QEMU's AMD-V does not.
pub const WRONG: &[(Machine, &str)] = &[
    (
        QemuTcg,
        "cr0-reserved,cr3-reserved,fs-base-canonical,icebp,ltr-null,sysenter-canonical,mode-limits,mode-pae-pointers,pending-breakpoint",
    ),
    (
        BochsSvm,
        "step-exits,pending-breakpoint,mode-limits,mode-virtual,mode-virtual-vme,double-fault",
    ),
];
/// Machines that a guest's triple fault ends: under SVM Bochs 2.7 does not heed its interception.
pub const NO_TRIPLE_FAULTS: &[Machine] = &[Machine::BochsSvm];
/// The model that has everything that Bochs emulates of VT-x.
pub const NEWEST: Option<&str> = Some("corei7_icelake_u");

/// A boot that ends before a guest starts.
const SHORT_LIMIT: u64 = 60;

/// A short run of the benchmark guest, as the operating system would start it.
const SHORT: TestVm = TestVm { line: "shim=native workload=cpuid", ..VM };
const SHORT_PV: TestVm = TestVm { line: "shim=pv workload=cpuid", policy: Policy::Pv, ..VM };
/// The hostile guest with the cases that take no time.
pub const HOSTILE: TestVm = TestVm { image: "hostile", line: "case=all-calls", ..VM };
/// The benchmark guest in a VM of this name.
const fn named(name: &'static str, line: &'static str) -> TestVm {
    TestVm { name, line, ..VM }
}
/// The hostile guest with a page on which instructions are emulated.
const fn forms(name: &'static str, line: &'static str) -> TestVm {
    TestVm { name, line, memory: 16 << 20, scratch_page: true, ..HOSTILE }
}
/// Each takes turns with another VM on the same CPU.
const fn neighbour(name: &'static str, line: &'static str) -> TestVm {
    TestVm { name, line, memory: 16 << 20, ..HOSTILE }
}
/// Says whether its memory and registers are what it has left there, while others take turns with it.
pub const PATTERN: TestVm = neighbour("pattern", "case=pattern tag=9 turns=100");
/// One with the devices of a PC.
const fn pc(name: &'static str, line: &'static str) -> TestVm {
    TestVm { machine: MachineType::Pc, slice_us: 1000, ..neighbour(name, line) }
}
/// Two VMs have done what they were to do.
pub const BOTH_FINISHED: &[Want] = &[Want::Shutdown(0, 0), Want::Shutdown(1, 0)];
const FINISHED: &[Want] = &[Want::Console(0, "@bench done"), Want::Shutdown(0, 0)];

/// Every case. They run in this order, so the long ones stand first.
pub fn all() -> impl Iterator<Item = &'static Case> {
    smp::CASES.iter().chain(switch::CASES).chain(footprint::CASES).chain(CASES)
}

/// Those of VMs with one vCPU.
const CASES: &[Case] = &[
    Case {
        name: "compare-is-repeatable",
        about: "two comparisons give the same exits and ticks, to the digit",
        on: EACH_VENDOR,
        kind: Checks(checks::repeatable),
    },
    Case {
        name: "costs-are-within-limits",
        about: "no operation costs more exits, instructions, VMREADs or VMWRITEs than its limit",
        on: &[BochsVmx, BochsSvm, QemuTcg],
        kind: Checks(checks::limits),
    },
    Case {
        name: "vendors-exit-alike",
        about: "an operation exits equally often on VT-x and AMD-V, but for a vendor's own features",
        on: &[BochsSvm],
        kind: Checks(checks::vendors_exit_alike),
    },
    Case {
        name: "linux-boots-to-a-shell",
        about: "Debian's kernel as it is boots to a shell, which takes a command and powers off",
        on: EACH_VENDOR,
        kind: Checks(linux::boots_to_a_shell),
    },
    Case {
        name: "linux-keeps-time",
        about: "the kernel's clock goes like the battery-backed clock of a PC",
        on: EACH_VENDOR,
        kind: Checks(linux::keeps_time),
    },
    Case {
        name: "linux-boots-on-a-pc",
        about: "Debian's kernel boots on the devices of a PC, and complains of nothing that QEMU's PC is without",
        on: EACH_VENDOR,
        kind: Checks(linux::boots_on_a_pc),
    },
    Case {
        name: "linux-works-bare",
        about: "Debian's kernel and our first process do all workloads without the hypervisor",
        on: &[QemuTcg],
        kind: Checks(linux::works_bare),
    },
    Case {
        name: "bench-runs-bare",
        about: "the benchmark guest runs without a hypervisor, all workloads",
        on: &[QemuTcg],
        kind: Boots(Trial { vms: &[VM], want: FINISHED, ..BARE }),
    },
    Case {
        name: "hostile-ends",
        about: "guests that end badly end alone and are reported; one that behaves goes on",
        on: EVERYWHERE,
        kind: Checks(checks::hostile_ends),
    },
    Case {
        name: "hostile-ends-newest",
        about: "the same on a CPU model that has everything that Bochs emulates",
        on: &[BochsVmx],
        kind: Checks(checks::hostile_ends_newest),
    },
    Case {
        name: "hostile-calls-trap-all",
        about: "bad calls get the error that the specification names, under trap-all",
        on: EVERYWHERE,
        kind: Boots(Trial {
            vms: &[TestVm { policy: Policy::TrapAll, ..HOSTILE }],
            want: &[Want::Shutdown(0, 0)],
            ..BOOT
        }),
    },
    Case {
        name: "hostile-calls-hw-assist",
        about: "bad calls get the error that the specification names, under hw-assist",
        on: EVERYWHERE,
        kind: Boots(Trial { vms: &[HOSTILE], want: &[Want::Shutdown(0, 0)], ..BOOT }),
    },
    Case {
        name: "hostile-calls-pv",
        about: "bad calls get the error that the specification names, under pv",
        on: EVERYWHERE,
        kind: Boots(Trial {
            vms: &[TestVm { policy: Policy::Pv, ..HOSTILE }],
            want: &[Want::Shutdown(0, 0)],
            ..BOOT
        }),
    },
    Case {
        name: "hostile-calls-newest",
        about: "the same on a CPU model that has everything that Bochs emulates, and under pv",
        on: &[BochsVmx],
        kind: Boots(Trial {
            cpu_model: NEWEST,
            vms: &[TestVm { policy: Policy::Pv, ..HOSTILE }],
            want: &[Want::Shutdown(0, 0)],
            ..BOOT
        }),
    },
    Case {
        name: "entries-are-sound",
        about: "every VM entry passes the software checker",
        on: EVERYWHERE,
        kind: Boots(Trial {
            vms: &[TestVm { check_entries: true, line: "shim=native ops=5", ..VM }],
            want: FINISHED,
            ..BOOT
        }),
    },
    Case {
        name: "runs-without-each-feature",
        about: "each optional feature of the CPU can be taken away",
        on: EVERYWHERE,
        kind: Checks(checks::without_each_feature),
    },
    Case {
        name: "bench-runs-on-the-newest-cpu",
        about: "a guest runs on a CPU model that has everything that Bochs emulates",
        on: &[BochsVmx],
        kind: Boots(Trial { cpu_model: NEWEST, vms: &[SHORT_PV], want: FINISHED, ..BOOT }),
    },
    Case {
        name: "boots-by-iso-bios",
        about: "GRUB loads the hypervisor from the ISO on BIOS, and a guest runs",
        on: EVERYWHERE,
        kind: Boots(Trial {
            boot: Some(BootPath::Iso),
            real_time: true,
            vms: &[SHORT],
            want: FINISHED,
            ..BOOT
        }),
    },
    Case {
        name: "boots-by-iso-uefi",
        about: "GRUB loads the hypervisor from the ISO on UEFI, which leaves VMX unlocked",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            boot: Some(BootPath::Uefi),
            real_time: true,
            vms: &[SHORT],
            want: FINISHED,
            limit: 180,
            ..BOOT
        }),
    },
    Case {
        name: "boots-by-pvh",
        about: "QEMU loads the ELF file itself, and a guest runs",
        on: &[QemuTcg, Machine::QemuKvm],
        kind: Boots(Trial {
            boot: Some(BootPath::Pvh),
            real_time: true,
            vms: &[SHORT_PV],
            want: FINISHED,
            ..BOOT
        }),
    },
    Case {
        name: "boots-linux32",
        about: "a bzImage is entered by the 32-bit boot protocol, with all that it promises",
        on: EACH_VENDOR,
        kind: Checks(protocols::linux_32),
    },
    Case {
        name: "boots-linux64",
        about: "a bzImage is entered by the 64-bit boot protocol, with all that it promises",
        on: EACH_VENDOR,
        kind: Checks(protocols::linux_64),
    },
    Case {
        name: "boots-multiboot",
        about: "ELF32, ELF64 and other files are started as the Multiboot Specification says",
        on: EACH_VENDOR,
        kind: Checks(protocols::multiboot),
    },
    Case {
        name: "boots-multiboot2",
        about: "ELF32 and ELF64 files are started as the Multiboot2 Specification says",
        on: EACH_VENDOR,
        kind: Checks(protocols::multiboot2),
    },
    Case {
        name: "boots-a-pvh-guest",
        about: "an ELF file with a PVH note is started as Xen's document says",
        on: EACH_VENDOR,
        kind: Checks(protocols::pvh),
    },
    Case {
        name: "boots-rom",
        about: "a ROM starts at the reset vector, in the state after reset",
        on: EACH_VENDOR,
        kind: Checks(protocols::rom),
    },
    Case {
        name: "refuses-no-extension-on-intel",
        about: "a CPU of Intel's without VMX is refused, and what is missing is named",
        on: &[BochsVmx],
        kind: Boots(Trial {
            cpu_model: Some("p4_prescott_celeron_336"),
            want: &[Want::Refuses("neither VMX nor SVM")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "refuses-no-extension-on-amd",
        about: "a CPU of AMD's without SVM is refused, and what is missing is named",
        on: &[QemuTcg],
        kind: Boots(Trial {
            cpu_model: Some("max,-svm"),
            want: &[Want::Log("Paravane"), Want::Refuses("neither VMX nor SVM")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "refuses-no-ept",
        about: "a CPU with VMX and without EPT is refused, and EPT is named",
        on: &[BochsVmx],
        kind: Boots(Trial {
            cpu_model: Some("bx_generic"),
            want: &[Want::Refuses("EPT")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "refuses-no-nested-paging",
        about: "a CPU with SVM and without nested paging is refused, and nested paging is named",
        on: &[QemuTcg],
        kind: Boots(Trial {
            cpu_model: Some("max,-npt"),
            want: &[Want::Refuses("nested paging")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "two-cpus-run-vms",
        about: "the second CPU is started, and each of two CPUs runs two VMs in turn",
        on: EACH_VENDOR,
        kind: Checks(checks::two_cpus),
    },
    Case {
        name: "a-flood-is-preempted",
        about: "a guest that floods hypercalls is preempted like one that never exits",
        on: EVERYWHERE,
        kind: Checks(checks::flood_is_preempted),
    },
    Case {
        name: "weights-share-the-cpu",
        about: "a VM of eight times the weight has eight ninths of the CPU beside another",
        on: EACH_VENDOR,
        kind: Checks(checks::weights_count),
    },
    Case {
        name: "a-halted-vm-gets-the-cpu-back",
        about: "a VM whose timer is due takes the CPU from one that never exits by itself",
        on: EACH_VENDOR,
        kind: Checks(checks::halted_gets_the_cpu_back),
    },
    Case {
        name: "a-preempted-idle-loop-wakes-up",
        about: "a guest that leaves the CPU between STI and HLT wakes up when its timer fires",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            real_time: true,
            vms: &[
                TestVm {
                    slice_us: 100,
                    ..named("sleeper", "shim=native workload=idle-wake ops=300")
                },
                TestVm { slice_us: 100, ..named("busy", "shim=native workload=cpuid ops=50000") },
            ],
            want: &[
                Want::Console(0, "@bench done rows=1"),
                Want::Shutdown(0, 0),
                Want::Shutdown(1, 0),
            ],
            ..BOOT
        }),
    },
    Case {
        name: "random-steps",
        about: "random instructions in every mode end as they do on a CPU, or reset their VM alone",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[
                TestVm { may_reset: true, ..pc("wild", "case=steps wild=1 seed=1 steps=1500") },
                PATTERN,
                TestVm { slice_us: 1000, ..neighbour("steps", "case=steps seed=2 steps=1500") },
            ],
            want: &[
                Want::Console(0, "@hostile steps 1500 in all"),
                Want::Shutdown(0, 0),
                Want::Shutdown(1, 0),
                Want::Console(2, "@hostile steps 1500 in all"),
                Want::Shutdown(2, 0),
            ],
            limit: 300,
            ..BOOT
        }),
    },
    Case {
        name: "hostile-runs-bare",
        about: "the hostile guest's cases and steps hold without the hypervisor, too",
        on: &[QemuTcg],
        kind: Boots(Trial {
            vms: &[HOSTILE],
            want: &[Want::Console(0, "@hostile pass"), Want::Shutdown(0, 0)],
            ..BARE
        }),
    },
    Case {
        name: "garbage-ports",
        about: "a guest that writes to every port of a PC goes on, and so does its neighbour",
        on: &[QemuTcg],
        kind: Boots(Trial {
            real_time: true,
            vms: &[PATTERN, pc("ports", "case=garbage-ports")],
            want: BOTH_FINISHED,
            ..BOOT
        }),
    },
    Case {
        name: "hostile-devices",
        about: "a guest that floods devices or writes garbage to all of them harms nobody but itself",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[
                PATTERN,
                pc("pit-by-8259", "case=pit-flood"),
                pc("pit-by-io-apic", "case=pit-flood-io-apic"),
                pc("pit-by-nmi", "case=pit-nmi-ends-hlt"),
                pc("msrs", "case=garbage-msrs"),
                pc("uart", "case=uart-flood"),
            ],
            want: &[
                Want::Shutdown(0, 0),
                Want::Shutdown(1, 0),
                Want::Shutdown(2, 0),
                Want::Shutdown(3, 0),
                Want::Shutdown(4, 0),
                Want::Shutdown(5, 0),
            ],
            ..BOOT
        }),
    },
    Case {
        name: "xcr0-shrinks-beside-a-neighbour",
        about: "vector registers keep their values when their component leaves XCR0",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[
                neighbour("first", "case=xcr0-shrinks tag=1"),
                neighbour("second", "case=xcr0-shrinks tag=2"),
            ],
            want: BOTH_FINISHED,
            ..BOOT
        }),
    },
    Case {
        name: "xmm-beside-a-neighbour",
        about: "VMs on one CPU have vector registers of their own, whether they use XSAVE or not",
        on: EVERYWHERE,
        kind: Boots(Trial {
            vms: &[
                neighbour("first", "case=xmm-without-xsave tag=1"),
                neighbour("second", "case=xmm-without-xsave tag=2"),
                neighbour("third", "case=xmm-with-xsave tag=3"),
            ],
            want: &[Want::Shutdown(0, 0), Want::Shutdown(1, 0), Want::Shutdown(2, 0)],
            ..BOOT
        }),
    },
    Case {
        name: "apic-page-beside-a-neighbour",
        about: "the local APIC's page carries nothing from one VM in x2APIC mode to another",
        on: APIC_PAGE,
        kind: Boots(Trial {
            vms: &[
                neighbour("first", "case=apic-page tag=1"),
                neighbour("second", "case=apic-page tag=2"),
            ],
            want: BOTH_FINISHED,
            ..BOOT
        }),
    },
    Case {
        name: "apic-page-without-a-page",
        about: "without APIC virtualization, there is nothing in that page in x2APIC mode",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[TestVm { policy: Policy::TrapAll, line: "case=apic-page", ..HOSTILE }],
            want: &[
                Want::Console(0, "@hostile apic-page reads 0xffffffffffffffff"),
                Want::Shutdown(0, 0),
            ],
            ..BOOT
        }),
    },
    Case {
        name: "hostile-table-in-apic",
        about: "without APIC virtualization, a page table in the local APIC's page has ones in it",
        on: EVERYWHERE,
        kind: Boots(Trial {
            vms: &[TestVm { policy: Policy::TrapAll, line: "case=table-in-apic", ..HOSTILE }],
            want: &[Want::Shutdown(0, 0)],
            ..BOOT
        }),
    },
    Case {
        name: "emulated-forms",
        about: "instructions that are emulated leave what the CPU leaves, in every mode",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[forms("forms", "case=forms"), forms("faults", "case=forms-faults")],
            want: BOTH_FINISHED,
            limit: 300,
            ..BOOT
        }),
    },
    Case {
        name: "emulated-forms-but-virtual",
        about: "the same in every mode that the machine's CPU can leave for the hypervisor",
        on: &[BochsSvm],
        kind: Boots(Trial {
            vms: &[
                forms("forms", "case=forms without=virtual-8086,virtual-8086-pae"),
                forms("faults", "case=forms-faults without=virtual-8086,virtual-8086-pae"),
            ],
            want: BOTH_FINISHED,
            limit: 300,
            ..BOOT
        }),
    },
    Case {
        name: "emulated-forms-beyond-qemu",
        about: "the same where a segment ends in the middle of what they reach, and of MOVBE",
        on: &[BochsVmx],
        kind: Boots(Trial {
            vms: &[forms("limits", "case=forms-limits"), forms("movbe", "case=forms-movbe")],
            want: BOTH_FINISHED,
            limit: 300,
            ..BOOT
        }),
    },
    Case {
        name: "qemu-gets-forms-wrong",
        about: "QEMU checks no limits and takes MOVBE for another size; if not, let it run the case before",
        on: &[QemuTcg],
        kind: Boots(Trial {
            vms: &[forms("limits", "case=forms-limits"), forms("movbe", "case=forms-movbe")],
            want: &[Want::Shutdown(0, 1), Want::Shutdown(1, 1)],
            ..BOOT
        }),
    },
    Case {
        name: "faults-of-the-emulator-are-there",
        about: "what an emulator is said to get wrong it does; if not, take the case off its list",
        on: &[BochsSvm, QemuTcg],
        kind: Checks(checks::faults_are_there),
    },
    Case {
        name: "reserved-bits-of-cr3-end-a-vm",
        about: "where the CPU lets a guest set them, they end the VM at its next entry",
        on: &[QemuTcg],
        kind: Boots(Trial {
            vms: &[TestVm { line: "case=cr3-reserved", ..HOSTILE }],
            want: &[Want::End(0, Cause::EntryFailure, "")],
            ..BOOT
        }),
    },
    Case {
        name: "resets-are-complete",
        about: "a VM that resets itself finds itself as at its first start, under each policy",
        on: EACH_VENDOR,
        kind: Checks(checks::resets_are_complete),
    },
    Case {
        name: "runs-without-a-uart",
        about: "a VM without UART has the console's calls",
        on: EACH_VENDOR,
        kind: Boots(Trial { vms: &[TestVm { uart: false, ..SHORT_PV }], want: FINISHED, ..BOOT }),
    },
    Case {
        name: "runs-without-the-abi",
        about: "a VM that is offered no hypercalls runs like on a PC, and cannot tell its exit code",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[TestVm { line: "workload=cpuid,timer-tick", ..VM }],
            desc: |desc| desc.options &= !Options::ABI.bits(),
            want: &[Want::Console(0, "@bench done"), Want::End(0, Cause::HaltedForEver, "")],
            ..BOOT
        }),
    },
    Case {
        name: "calls-without-the-abi",
        about: "in a VM that is offered no hypercalls the instruction is undefined",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[TestVm { line: "case=call-not-offered", ..HOSTILE }],
            desc: |desc| desc.options &= !Options::ABI.bits(),
            want: &[Want::Console(0, "@hostile pass"), Want::End(0, Cause::HaltedForEver, "")],
            ..BOOT
        }),
    },
    Case {
        name: "runs-with-nothing-to-talk-to",
        about: "a VM without UART and hypercalls runs to its end",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[TestVm { uart: false, line: "workload=cpuid,timer-tick", ..VM }],
            desc: |desc| desc.options &= !Options::ABI.bits(),
            want: &[Want::End(0, Cause::HaltedForEver, "")],
            ..BOOT
        }),
    },
    Case {
        name: "boots-with-ram-above-4-gib",
        about: "the hypervisor boots on a machine with RAM above 4 GiB",
        on: &[QemuTcg],
        kind: Boots(Trial { memory_mib: Some(6 << 10), vms: &[SHORT], want: FINISHED, ..BOOT }),
    },
    Case {
        name: "a-crash-is-reported",
        about: "an exception in the hypervisor is reported with registers and backtrace",
        on: EACH_VENDOR,
        kind: Checks(checks::crash_is_reported),
    },
    Case {
        name: "bundle-missing-is-refused",
        about: "a boot without a module is refused, and the module is named",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            bundle: |_| None,
            want: &[Want::Refuses("no boot module")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "bundle-truncated-is-refused",
        about: "a module that is cut off is refused",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            bundle: |mut bytes| {
                bytes.truncate(bytes.len() / 2);
                Some(bytes)
            },
            want: &[Want::Refuses("cut off")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "bundle-damaged-is-refused",
        about: "a module with one flipped bit is refused",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            bundle: |mut bytes| {
                bytes.last_mut().into_iter().for_each(|byte| *byte ^= 1);
                Some(bytes)
            },
            want: &[Want::Refuses("checksum")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "description-malformed-is-refused",
        about: "a VM description that this version cannot run is refused by name",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            desc: |desc| desc.vcpus = 65,
            want: &[Want::Refuses("vCPUs")],
            limit: SHORT_LIMIT,
            ..BOOT
        }),
    },
    Case {
        name: "vm-that-runs-too-long-is-ended",
        about: "a VM ends when its time is over, and its report says so",
        on: EACH_VENDOR,
        kind: Boots(Trial {
            vms: &[TestVm { time_limit_ms: 1, ..VM }],
            want: &[Want::End(0, Cause::TimeLimit, "")],
            ..BOOT
        }),
    },
    Case {
        name: "image-size",
        about: "the hypervisor takes at most 544 KiB of memory",
        on: &[],
        kind: Reads(checks::image_size),
    },
];
