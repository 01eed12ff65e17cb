//! A boot as data, and what must be seen in it.

use std::time::Duration;

use anyhow::Result;
use hv_core::vm::desc::VmDesc;
use hv_core::vm::machine_type::MachineType;
use hv_core::vm::policy::Policy;

use super::Stage;
use super::list::WRONG;
use super::watch::{Want, watch};
use crate::boot::Payload;
use crate::machine::{BootPath, Hardware};
use crate::plan;
use crate::vmfile::{
    CommandLine, Cpus, FeatureName, MachineName, Memory, PolicyName, Slice, Vcpus, VmSpec, features,
};

/// One boot. Start from [`BOOT`] or [`BARE`] and change what matters.
#[derive(Clone, Copy)]
pub struct Trial {
    /// In the words of the machine, which must be the case's only one.
    pub cpu_model: Option<&'static str>,
    /// RAM of the machine; enough for the VMs, if it is not given.
    pub memory_mib: Option<u64>,
    pub boot: Option<BootPath>,
    /// Has the machine's time pass as users of `run` see it, and not as in a measurement.
    pub real_time: bool,
    /// Runs the only VM's guest without the hypervisor.
    pub bare: bool,
    /// CPUs of the machine.
    pub cpus: u32,
    pub vms: &'static [TestVm],
    /// Damages the packed descriptions.
    pub desc: fn(&mut VmDesc),
    /// Damages the bundle; `None` leaves it out.
    pub bundle: fn(Vec<u8>) -> Option<Vec<u8>>,
    /// What must be seen, in any order. That the hypervisor itself does not fail, and ends by
    /// saying so, must be seen always.
    pub want: &'static [Want],
    /// Wall time in seconds.
    pub limit: u64,
}

/// A VM of a trial. Start from [`VM`].
#[derive(Clone, Copy)]
pub struct TestVm {
    pub name: &'static str,
    pub image: &'static str,
    pub line: &'static str,
    pub policy: Policy,
    pub memory: u64,
    pub without: &'static [&'static str],
    pub slice_us: u32,
    pub time_limit_ms: u64,
    pub vcpus: u32,
    pub cpus: u64,
    pub check_entries: bool,
    pub uart: bool,
    pub may_reset: bool,
    pub may_share: bool,
    pub may_see_statistics: bool,
    pub links: &'static [&'static str],
    pub machine: MachineType,
    pub scratch_page: bool,
}

/// The benchmark guest as it comes.
pub const VM: TestVm = TestVm {
    name: "vm",
    image: "bench",
    line: "",
    policy: Policy::HwAssist,
    memory: 64 << 20,
    without: &[],
    slice_us: 10_000,
    time_limit_ms: 0,
    vcpus: 1,
    cpus: 0,
    check_entries: false,
    uart: true,
    may_reset: false,
    may_share: false,
    may_see_statistics: true,
    links: &[],
    machine: MachineType::Minimal,
    scratch_page: false,
};

/// One CPU of the machine's usual model.
pub const BOOT: Trial = Trial {
    cpu_model: None,
    memory_mib: None,
    boot: None,
    real_time: false,
    bare: false,
    cpus: 1,
    vms: &[VM],
    desc: |_| {},
    bundle: Some,
    want: &[],
    limit: 120,
};

/// A guest without the hypervisor.
pub const BARE: Trial = Trial { bare: true, ..BOOT };

impl Trial {
    /// Its VMs as a description file would have them.
    pub fn specs(&self) -> Vec<VmSpec> {
        self.vms.iter().map(TestVm::spec).collect()
    }

    /// Boots and looks.
    pub fn run(&self, stage: &Stage<'_>) -> Result<()> {
        let mut specs = self.specs();
        for (_, skip) in WRONG.iter().filter(|(machine, _)| *machine == stage.machine) {
            for vm in specs.iter_mut().filter(|vm| vm.image == "hostile") {
                vm.command_line.0 += &format!(" skip={skip}");
            }
        }
        let mut plan = stage.lab.plan.with_vms(specs)?;
        let standard =
            if self.real_time { stage.real_time(&plan.vms) } else { stage.hardware(&plan.vms) };
        let hardware = Hardware {
            boot: self.boot.unwrap_or(standard.boot),
            cpu_model: self.cpu_model.map_or(standard.cpu_model.clone(), str::to_owned),
            memory_mib: self.memory_mib.unwrap_or(standard.memory_mib),
            cpus: self.cpus,
            ..standard
        };
        let limit = Duration::from_secs(self.limit);
        let boot = if self.bare {
            let hardware = Hardware { cpus: self.cpus, ..stage.machine.hardware(0) };
            plan::bare(&plan.standalone()?, hardware, &stage.folder, limit)?
        } else {
            plan.change_descriptions(self.desc)?;
            let mut boot = plan.boot(hardware, &stage.folder, limit)?;
            boot.payload = Payload::Hypervisor {
                bundle: (self.bundle)(plan.bundle),
                arguments: String::new(),
            };
            boot
        };
        watch(&boot, self.want)
    }
}

impl TestVm {
    fn spec(&self) -> VmSpec {
        // A wrong feature name would take nothing away; the tests of the list refuse it.
        let named = self.without.iter().filter_map(|name| features(name).ok());
        VmSpec {
            name: self.name.to_owned(),
            command_line: CommandLine(self.line.to_owned()),
            policy: PolicyName(self.policy),
            memory: Memory(self.memory),
            without: named.map(FeatureName).collect(),
            slice_us: Slice(self.slice_us),
            time_limit_ms: self.time_limit_ms,
            vcpus: Vcpus(self.vcpus),
            cpus: Cpus(self.cpus),
            check_entries: self.check_entries,
            uart: self.uart,
            may_reset: self.may_reset,
            may_share: self.may_share,
            may_see_statistics: self.may_see_statistics,
            links: self.links.iter().map(|&name| name.to_owned()).collect(),
            machine: MachineName(self.machine),
            scratch_page: self.scratch_page,
            ..VmSpec::guest(self.image)
        }
    }
}
