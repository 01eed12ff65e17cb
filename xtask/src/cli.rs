//! The command line.

use std::path::PathBuf;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand};
use hv_core::vm::desc::MAX_VCPUS;
use hv_core::vm::feature::Features;
use hv_core::vm::kind::ImageKind;
use hv_core::vm::machine_type::MachineType;
use hv_core::vm::policy::Policy;

use crate::machine::{BootPath, Choice};
use crate::vmfile;

/// Builds, runs, tests and compares Paravane.
///
/// Every command installs or names what it needs before it starts. What a run prints goes into a
/// log file whose path is shown.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask", after_help = FIRST_STEPS)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const FIRST_STEPS: &str = "First steps:
  cargo xtask doctor        what this machine has and misses
  cargo xtask compare       what each operation costs under each policy
  cargo xtask run bench     one guest with its console on the terminal";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Build the hypervisor, the guests, a bundle and a bootable ISO image
    ///
    /// The hypervisor's ELF file boots by multiboot2 and by PVH; the ISO boots on BIOS and UEFI.
    /// The paths of everything that was made are printed.
    #[command(after_long_help = "Example:
  cargo xtask build --policy hw-assist
  cargo xtask build --config guests/machines/two.toml")]
    Build(BuildArgs),

    /// Run one guest, or the VMs of a description file, with the console on the terminal
    ///
    /// What is typed goes to the first VM. Ctrl-A x ends the run, Ctrl-A Ctrl-A types a Ctrl-A.
    /// `linux` is Debian's kernel as it is, fetched by apt and not installed, with a shell of busybox;
    /// paravane.run=NAME,... on its command line has it do work and power off instead: boot, forks,
    /// dd, pipe, sleep.
    /// The exit status is the guest's shutdown code; anything else than a shutdown is told and
    /// gives 1, a run that takes too long 124.
    #[command(after_long_help = "Examples:
  cargo xtask run bench --policy trap-all --append 'workload=cpuid'
  cargo xtask run linux
  cargo xtask run linux --append 'quiet paravane.run=forks' --top
  cargo xtask run path/to/kernel.elf --machine bochs-vmx --log -
  cargo xtask run path/to/bios.bin --kind rom --machine-type pc
  cargo xtask run --config guests/machines/two.toml
  cargo xtask run --bare bench --append 'workload=cpuid'
  cargo xtask run --bare bench --cpus 4 --append 'workload=ipi-ping-pong,fork-join'")]
    Run(RunArgs),

    /// Run the benchmark guest under each policy and compare what its operations cost
    ///
    /// `compare linux` does it with a stock kernel: what it costs until its first process runs, with a full
    /// log and a quiet one, and what workloads in it cost, by the hypervisor's counters.
    ///
    /// Each policy is one boot of the same guest binary on each machine. The guest's own counts and
    /// those of the hypervisor must agree, or the comparison fails. On Bochs and qemu-tcg one tick
    /// is one instruction and two runs give the same figures to the digit; on qemu-kvm a tick is
    /// a cycle, and no two runs are the same.
    #[command(after_long_help = "Examples:
  cargo xtask compare
  cargo xtask compare --quick
  cargo xtask compare --machine bochs-vmx,bochs-svm,qemu-tcg
  cargo xtask compare --workload cpuid --workload eoi --policy hw-assist --policy pv
  cargo xtask compare --without apicv --json out.json --report out
  cargo xtask compare linux --quick --bare")]
    Compare(CompareArgs),

    /// Run every test: on the host, of the specification, and in the emulator
    ///
    /// The last line is the count of what passed, failed and was skipped. A test that fails names
    /// its log file.
    #[command(after_long_help = "Examples:
  cargo xtask test
  cargo xtask test --list
  cargo xtask test boots-by
  cargo xtask test --machine qemu-tcg")]
    Test(TestArgs),

    /// Say what this machine has, what is missing, and the command that installs it
    ///
    /// The exit status is 1 if something is missing that the other commands need.
    #[command(after_long_help = "Example:
  cargo xtask doctor")]
    Doctor,

    /// Build the specification (mdBook) and the documentation of the crates
    #[command(after_long_help = "Example:
  cargo xtask docs")]
    Docs,
}

/// What is asked of a machine.
#[derive(Clone, Debug, Args)]
pub struct HardwareArgs {
    /// The CPU model, in the machine's own words
    ///
    /// Bochs: corei7_haswell_4770 (bochs-vmx), trinity_apu (bochs-svm), ... (`bochs --help cpu`).
    /// QEMU: host (with KVM), max (without), ... (`qemu-system-x86_64 -cpu help`).
    #[arg(long, value_name = "MODEL")]
    pub cpu_model: Option<String>,
    /// Number of CPUs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=8))]
    pub cpus: u32,
    /// How the hypervisor is loaded: iso on Bochs, pvh on QEMU if not given
    #[arg(long, value_enum)]
    pub boot: Option<BootPath>,
}

impl HardwareArgs {
    /// Nothing was asked for.
    pub fn is_default(&self) -> bool {
        self.cpu_model.is_none() && self.boot.is_none() && self.cpus == 1
    }
}

/// The one VM of a command that runs one guest.
#[derive(Clone, Debug, Args)]
pub struct GuestArgs {
    /// The execution policy; pv if not given, for linux hw-assist
    #[arg(long, value_parser = policies())]
    pub policy: Option<Policy>,
    /// Take a CPU feature away; can be repeated
    #[arg(long, value_name = "FEATURE", value_parser = feature)]
    pub without: Vec<Features>,
    /// The guest's command line; for linux, what stands behind console=ttyS0 panic=-1 cryptomgr.notests
    #[arg(long, value_name = "ARGS", default_value = "", allow_hyphen_values = true)]
    pub append: String,
    /// The guest's memory; 64M if not given, for linux 256M
    #[arg(long, value_name = "SIZE", value_parser = memory)]
    pub memory: Option<u64>,
    /// Virtual CPUs
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_VCPUS)), default_value_t = 1)]
    pub vcpus: u32,
    /// The devices of the VM: minimal (UART, local APIC, ACPI) or pc (and what every PC has)
    #[arg(long, value_name = "TYPE", value_parser = machines(), default_value = "minimal")]
    pub machine_type: MachineType,
    /// What the image is; a ROM has to be called one
    #[arg(long, value_parser = kinds(), default_value = "auto")]
    pub kind: ImageKind,
    /// For linux: this kernel instead of Debian's, with no initial RAM disk but that of --initrd
    #[arg(long, value_name = "PATH")]
    pub kernel: Option<PathBuf>,
    /// For linux: Debian's kernel for every PC instead of that for VMs; it boots more slowly
    #[arg(long, conflicts_with = "kernel")]
    pub generic: bool,
    /// The initial RAM disk; if not given, linux gets one with busybox and a shell
    #[arg(long, value_name = "PATH")]
    pub initrd: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct BuildArgs {
    #[command(flatten)]
    pub guest: GuestArgs,
    /// The guest in the bundle: bench, hostile, protocols, linux, linux-generic, or the path of an image
    #[arg(default_value = "bench")]
    pub image: String,
    /// Take the VMs from this description file instead
    #[arg(long, value_name = "TOML")]
    pub config: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// bench, hostile, protocols, linux, linux-generic, or the path of an image (ELF, bzImage, ROM)
    #[arg(value_name = "GUEST", default_value = "bench")]
    pub image: String,
    #[command(flatten)]
    pub guest: GuestArgs,
    /// The machine to boot
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    pub machine: Choice,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    /// Run the VMs of this description file
    #[arg(long, value_name = "TOML", conflicts_with_all = ["image", "GuestArgs"])]
    pub config: Option<PathBuf>,
    /// Run the guest without the hypervisor, on QEMU's own emulation
    ///
    /// With --cpus the CPUs take turns, and one tick is one instruction.
    #[arg(long, conflicts_with_all = ["config", "policy", "without", "machine_type", "boot"])]
    pub bare: bool,
    /// Write the log to this file; `-` shows the hypervisor's log on standard error as well
    #[arg(long, value_name = "FILE", allow_hyphen_values = true)]
    pub log: Option<PathBuf>,
    /// Show at the end of each VM what cost most exits: reasons, and ten ports, MSRs and pages each
    #[arg(long, conflicts_with = "bare")]
    pub top: bool,
    /// End the run after this many seconds; 0 for never
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    pub limit: u64,
}

#[derive(Debug, Args)]
pub struct CompareArgs {
    /// What runs: bench, or Debian's kernel (linux, linux-generic)
    #[arg(value_name = "GUEST", default_value = "bench")]
    pub guest: String,
    /// A machine to measure on; can be repeated, and shows the machines side by side
    ///
    /// auto if not given. A CPU model, a number of CPUs and a boot path can be asked of one machine
    /// only.
    #[arg(long = "machine", value_name = "MACHINE", value_enum, value_delimiter = ',')]
    pub machines: Vec<Choice>,
    /// Measure on what starts at once: qemu-kvm where it can be used, else qemu-tcg
    #[arg(long, conflicts_with = "machines")]
    pub quick: bool,
    #[command(flatten)]
    pub hardware: HardwareArgs,
    /// A workload to measure; can be repeated; all if not given. Those of linux are boot, forks, dd, pipe
    /// and sleep
    #[arg(long, value_name = "WORKLOAD", value_delimiter = ',')]
    pub workload: Vec<String>,
    /// A policy to measure; can be repeated; all if not given, for linux trap-all and hw-assist
    #[arg(long, value_parser = policies(), value_delimiter = ',')]
    pub policy: Vec<Policy>,
    /// Take a CPU feature away (apicv, vpid, ...); can be repeated
    #[arg(long, value_name = "FEATURE", value_parser = feature)]
    pub without: Vec<Features>,
    /// For linux: boot it without the hypervisor too, on the same machine
    #[arg(long)]
    pub bare: bool,
    /// For linux: show the ten ports, MSRs and pages that cost most exits in each boot. Counts of exits stay
    /// the same with it, ticks do not
    #[arg(long)]
    pub top: bool,
    /// For linux: the devices of the VM, minimal or pc
    #[arg(long, value_name = "TYPE", value_parser = machines(), default_value = "minimal")]
    pub machine_type: MachineType,
    /// Write the figures to this file as JSON
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write index.html with charts into this folder
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
    /// End each boot after this many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    pub limit: u64,
}

#[derive(Debug, Args)]
pub struct TestArgs {
    /// Only tests whose name contains this; NAME@MACHINE and @MACHINE name those on a machine
    #[arg(value_name = "NAME")]
    pub filter: Vec<String>,
    /// List the tests and end
    #[arg(long)]
    pub list: bool,
    /// Only the tests on the host
    #[arg(long)]
    pub host_only: bool,
    /// Only tests on this machine; can be repeated
    #[arg(long, value_name = "MACHINE", value_enum, value_delimiter = ',')]
    pub machine: Vec<Choice>,
    /// How many machines run at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub jobs: u32,
}

fn policies() -> impl TypedValueParser<Value = Policy> {
    PossibleValuesParser::new(Policy::ALL.map(Policy::name)).try_map(|name| vmfile::policy(&name))
}

fn machines() -> impl TypedValueParser<Value = MachineType> {
    PossibleValuesParser::new(MachineType::ALL.map(MachineType::name))
        .try_map(|name| vmfile::machine(&name))
}

fn kinds() -> impl TypedValueParser<Value = ImageKind> {
    PossibleValuesParser::new(ImageKind::ALL.map(ImageKind::name))
        .try_map(|name| vmfile::kind(&name))
}

fn feature(name: &str) -> Result<Features, String> {
    vmfile::features(name).map_err(|error| error.to_string())
}

fn memory(text: &str) -> Result<u64, String> {
    vmfile::memory(text).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests;
