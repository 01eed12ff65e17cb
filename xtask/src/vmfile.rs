//! VM descriptions: TOML for people, [`VmDesc`] for the hypervisor.
//!
//! A file holds `[[vm]]` tables. Every value has a type that refuses what the hypervisor would
//! refuse, so that the error names the line; [`fit`] looks at what values make together.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use hv_core::host::bundle::NAME;
use hv_core::vm::desc::{COMMAND_LINE, Options, VmDesc};
use hv_core::vm::feature::Features;
use hv_core::vm::kind::ImageKind;
use serde::Deserialize;
use toml::de::DeTable;

use crate::bundle::padded;
use crate::machine::Hardware;
use crate::members;

mod fit;
mod places;
#[cfg(test)]
pub mod reference;
mod values;

use places::Places;
pub use values::{
    CommandLine, Cpus, FeatureName, KindName, MachineName, Memory, PolicyName, Slice, Vcpus,
    Weight, features, kind, machine, memory, policy,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(deserialize_with = "values::vms")]
    vm: Vec<VmSpec>,
}

/// One VM, as a `[[vm]]` table or as `run` and `compare` make it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct VmSpec {
    /// The VM's name in reports.
    #[serde(deserialize_with = "values::name")]
    pub name: String,
    /// The name of a reference guest, or the path of an image.
    #[serde(deserialize_with = "values::file")]
    pub image: String,
    /// What the image is.
    #[serde(default)]
    pub kind: KindName,
    /// The path of its initial RAM disk.
    #[serde(default, deserialize_with = "values::some_file")]
    pub initrd: Option<String>,
    /// The devices that it has.
    #[serde(default)]
    pub machine: MachineName,
    #[serde(default)]
    pub command_line: CommandLine,
    #[serde(default)]
    pub memory: Memory,
    #[serde(default)]
    pub vcpus: Vcpus,
    /// The CPUs that run it, its virtual CPUs in turn; all, if they are not given.
    #[serde(default)]
    pub cpus: Cpus,
    #[serde(default)]
    pub policy: PolicyName,
    /// CPU features that it does without.
    #[serde(default)]
    pub without: Vec<FeatureName>,
    #[serde(default)]
    pub slice_us: Slice,
    #[serde(default)]
    pub weight: Weight,
    /// Ends it after this time; 0 for never.
    #[serde(default, deserialize_with = "values::milliseconds")]
    pub time_limit_ms: u64,
    /// Hold its VMCS against the manual's rules before every entry.
    #[serde(default)]
    pub check_entries: bool,
    /// A 16550 UART at COM1.
    #[serde(default = "yes")]
    pub uart: bool,
    /// Whether it is offered the hypercall ABI; if it is not given, its kind of image decides.
    pub abi: Option<bool>,
    /// The VMs that it may reach, by name. It is enough that one of two names the other.
    #[serde(default)]
    pub links: Vec<String>,
    /// Whether it may reset itself.
    #[serde(default)]
    pub may_reset: bool,
    /// Whether it may share memory with those that it is linked to.
    #[serde(default)]
    pub may_share: bool,
    /// Whether it may read what its exits cost.
    #[serde(default = "yes")]
    pub may_see_statistics: bool,
    /// Count which ports, MSRs and pages its exits reach for.
    #[serde(default)]
    pub profile: bool,
    /// A write to the UART's scratch register tells the VM's exits so far.
    #[serde(default)]
    pub scratch_marks: bool,
    /// A page of memory whose every access is emulated.
    #[serde(default)]
    pub scratch_page: bool,
}

fn yes() -> bool {
    true
}

/// What stands in a description file.
#[derive(Clone, Debug)]
pub struct Described {
    pub vms: Vec<VmSpec>,
    places: Places,
}

/// Reads a file, and looks for the files that it names.
///
/// # Errors
///
/// The first fault, with its line.
pub fn read(path: &Path) -> Result<Described> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let file = parse(&path.display().to_string(), &text)?;
    fit::files(&file.vms).map_err(|misfit| file.places.misfit(&misfit))?;
    Ok(file)
}

/// The VMs in the text of a file, which is called `file`.
fn parse(file: &str, text: &str) -> Result<Described, places::Refusal> {
    let (table, faults) = DeTable::parse_recoverable(text);
    let places = Places::of(file, text, table.get_ref());
    let read = match faults.into_iter().next() {
        Some(fault) => Err(fault),
        None => File::deserialize(toml::Deserializer::from(table)),
    };
    let vms = read.map_err(|error| places.refused(&error))?.vm;
    fit::together(&vms).map_err(|misfit| places.misfit(&misfit))?;
    Ok(Described { vms, places })
}

impl Described {
    /// Looks whether the VMs fit on a machine.
    ///
    /// # Errors
    ///
    /// What does not, with its line.
    pub fn check_on(&self, hardware: &Hardware) -> Result<()> {
        Ok(fit::on(&self.vms, hardware).map_err(|misfit| self.places.misfit(&misfit))?)
    }
}

/// The VMs of one bundle as the hypervisor reads them.
///
/// # Errors
///
/// The first fault.
pub fn packed(vms: &[VmSpec]) -> Result<Vec<VmDesc>> {
    let links = fit::links(vms).map_err(|misfit| anyhow!("`{}`: {}", misfit.key, misfit.why))?;
    vms.iter().zip(links).map(|(vm, links)| vm.packed(links)).collect()
}

impl VmSpec {
    /// A VM with one guest and everything else as it comes.
    pub fn guest(image: &str) -> VmSpec {
        let name = Path::new(image).file_stem().and_then(|s| s.to_str()).unwrap_or("guest");
        VmSpec {
            name: name.to_owned(),
            image: image.to_owned(),
            kind: KindName::default(),
            initrd: None,
            machine: MachineName::default(),
            command_line: CommandLine::default(),
            memory: Memory::default(),
            vcpus: Vcpus::default(),
            cpus: Cpus::default(),
            policy: PolicyName::default(),
            without: Vec::new(),
            slice_us: Slice::default(),
            weight: Weight::default(),
            time_limit_ms: 0,
            check_entries: false,
            uart: true,
            abi: None,
            links: Vec::new(),
            may_reset: false,
            may_share: false,
            may_see_statistics: true,
            profile: false,
            scratch_marks: false,
            scratch_page: false,
        }
    }

    /// Whether it is offered the hypercall ABI. A kernel that does not know it shall find no hypervisor,
    /// so that it does what it does on a PC.
    pub fn has_abi(&self) -> bool {
        self.abi.unwrap_or(matches!(self.kind.0, ImageKind::Auto | ImageKind::Pvh))
    }

    /// The description as the hypervisor reads it, checked as the hypervisor checks it; with the links that
    /// the VMs together make.
    fn packed(&self, links: u64) -> Result<VmDesc> {
        let line = self.command_line.0.as_bytes();
        ensure!(line.len() <= COMMAND_LINE, "the command line is longer than {COMMAND_LINE} bytes");
        let mut command_line = [0; COMMAND_LINE];
        command_line[..line.len()].copy_from_slice(line);
        let mut options = Options::empty();
        options.set(Options::ABI, self.has_abi());
        options.set(Options::CHECK_ENTRIES, self.check_entries);
        options.set(Options::UART, self.uart);
        options.set(Options::MAY_RESET, self.may_reset);
        options.set(Options::MAY_SHARE, self.may_share);
        options.set(Options::MAY_SEE_STATISTICS, self.may_see_statistics);
        options.set(Options::PROFILE, self.profile);
        options.set(Options::SCRATCH_MARKS, self.scratch_marks);
        options.set(Options::SCRATCH_PAGE, self.scratch_page);
        let desc = VmDesc {
            name: padded(&self.name)?,
            image: padded(&members::name(&self.image))?,
            initrd: match &self.initrd {
                Some(initrd) => padded(&members::name(initrd))?,
                None => [0; NAME],
            },
            memory: self.memory.0,
            without: self.without.iter().fold(Features::empty(), |all, f| all | f.0).bits(),
            time_limit_ms: self.time_limit_ms,
            cpus: self.cpus.0,
            links,
            vcpus: self.vcpus.0,
            policy: self.policy.0 as u32,
            options: options.bits(),
            slice_us: self.slice_us.0,
            weight: self.weight.0,
            machine: self.machine.0 as u32,
            kind: self.kind.0 as u32,
            command_line_length: u32::try_from(line.len())?,
            command_line,
        };
        desc.validate().map_err(|error| anyhow!("{error}"))?;
        Ok(desc)
    }
}

#[cfg(test)]
mod tests;
