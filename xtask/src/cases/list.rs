//! The cases, as data: here what many of them share, and in the modules those of each subject.

use hv_core::vm::machine_type::MachineType;
use hv_core::vm::policy::Policy;

use super::trial::{TestVm, VM};
use super::watch::Want;
use super::{
    Case, areas, events, footprint, isolation, message, remains, sched, senders, share, smp, switch,
};
use crate::machine::Machine;

use Machine::{BochsSvm, BochsVmx, QemuTcg};

mod boot;
mod features;
mod figures;
mod forms;
mod hostile;
mod linux;
mod neighbours;
mod refusals;

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

/// Every case. They run in this order, so the subjects that take long stand first.
pub fn all() -> impl Iterator<Item = &'static Case> {
    [
        smp::CASES,
        switch::CASES,
        footprint::CASES,
        share::CASES,
        areas::CASES,
        sched::CASES,
        events::CASES,
        message::CASES,
        isolation::CASES,
        remains::CASES,
        senders::CASES,
        figures::CASES,
        linux::CASES,
        hostile::CASES,
        forms::CASES,
        neighbours::CASES,
        features::CASES,
        boot::CASES,
        refusals::CASES,
    ]
    .into_iter()
    .flatten()
}
