//! The reference of the keys, as it stands in the chapter *VM descriptions*. Tests hold it against [`VmSpec`].
//!
//! [`VmSpec`]: super::VmSpec

use std::fmt::Display;
use std::ops::RangeInclusive;

use hv_core::host::bundle::NAME;
use hv_core::sched::WEIGHTS;
use hv_core::vm::desc::{COMMAND_LINE, MAX_MEMORY, MAX_VCPUS, MEMORY_STEP, MIN_MEMORY, SLICE_US};
use hv_core::vm::kind::ImageKind;
use hv_core::vm::machine_type::MachineType;
use hv_core::vm::policy::Policy;

/// A key of a `[[vm]]` table.
pub struct Key {
    pub name: &'static str,
    pub of: Type,
    pub absent: Absent,
    /// The range, or the choices.
    pub values: fn() -> String,
    /// One sentence.
    pub about: &'static str,
}

/// What TOML calls the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    String,
    Number,
    Boolean,
    Strings,
    Numbers,
}

/// What a key is that is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absent {
    /// Refused.
    Required,
    /// As if it were given with this value.
    Is(&'static str),
    /// Something that no value says.
    Means(&'static str),
}

use Absent::{Is, Means, Required};
use Type::{Boolean, Number, Numbers, String as Text, Strings};

const fn key(
    name: &'static str,
    of: Type,
    absent: Absent,
    values: fn() -> String,
    about: &'static str,
) -> Key {
    Key { name, of, absent, values, about }
}

const fn flag(name: &'static str, absent: Absent, about: &'static str) -> Key {
    key(name, Boolean, absent, || choices(["true", "false"]), about)
}

/// Every key, in the order of the fields.
pub const KEYS: &[Key] = &[
    key(
        "name",
        Text,
        Required,
        || format!("1 to {NAME} bytes, each VM its own"),
        "The VM's name in reports.",
    ),
    key(
        "image",
        Text,
        Required,
        || {
            format!(
                "{}, `linux`, `linux-generic`, or a path",
                choices(crate::build::GUESTS.iter().copied())
            )
        },
        "A reference guest; a kernel of Debian's, which also gets an initial RAM disk; or the path of an image.",
    ),
    key(
        "kind",
        Text,
        Is("\"auto\""),
        || choices(ImageKind::ALL.map(ImageKind::name)),
        "[What the image is](#images), and so how the guest starts.",
    ),
    key(
        "initrd",
        Text,
        Means("none"),
        || "a path; not for `rom`".to_owned(),
        "The initial RAM disk, handed over as it is.",
    ),
    key(
        "machine",
        Text,
        Is("\"minimal\""),
        || choices(MachineType::ALL.map(MachineType::name)),
        "The [devices](#machines) of the VM.",
    ),
    key(
        "command-line",
        Text,
        Is("\"\""),
        || format!("at most {COMMAND_LINE} bytes, none of them zero; empty for `rom`"),
        "What the guest finds as its command line; the frequency of the TSC in kHz takes the place of `$tsc_khz`.",
    ),
    key(
        "memory",
        Text,
        Is("\"64M\""),
        memory,
        "RAM from guest-physical address 0, written with `K`, `M` or `G`.",
    ),
    key(
        "vcpus",
        Number,
        Is("1"),
        || span(1..=MAX_VCPUS),
        "The VM's [virtual CPUs](#several-vcpus).",
    ),
    key(
        "cpus",
        Numbers,
        Means("all"),
        || "0 to 63 and there, each once; not empty".to_owned(),
        "The CPUs that run the VM: its vCPUs are given to them in turn.",
    ),
    key(
        "policy",
        Text,
        Is("\"pv\""),
        || choices(Policy::ALL.map(Policy::name)),
        "The [execution policy](policies.md).",
    ),
    key(
        "without",
        Strings,
        Is("[]"),
        || "names of [features](#features)".to_owned(),
        "What the VM does without of the CPU's features.",
    ),
    key(
        "slice-us",
        Number,
        Is("10000"),
        || span(SLICE_US),
        "The longest time in microseconds that a vCPU runs while another waits for its CPU.",
    ),
    key(
        "weight",
        Number,
        Is("256"),
        || span(WEIGHTS),
        "The share of each of its vCPUs in a CPU for which others wait, in proportion to theirs.",
    ),
    key(
        "time-limit-ms",
        Number,
        Is("0"),
        || "0 for never, or more".to_owned(),
        "Ends the VM after so many milliseconds.",
    ),
    flag(
        "check-entries",
        Is("false"),
        "Holds the VMCS or VMCB against the manual's rules before every entry, not only after one that failed; slow.",
    ),
    flag(
        "uart",
        Is("true"),
        "A 16550 UART at COM1, joined to the console, its interrupt wired on `pc`.",
    ),
    flag(
        "abi",
        Means("`true` for the kinds `auto` and `pvh`, else `false`"),
        "Offers the hypercall ABI; without it the guest finds no hypervisor, as a kernel that does not know the ABI is to do what it does on a PC.",
    ),
    key(
        "links",
        Strings,
        Is("[]"),
        || "names of other VMs of the file, each link once".to_owned(),
        "The VMs that it may [reach](#links); a link that either of the two names is one of both.",
    ),
    flag(
        "may-reset",
        Is("false"),
        "The VM may [reset](reset.md) itself, by call, by its ports or by a triple fault; otherwise `sys.reset` gives `DENIED`, and the others end it.",
    ),
    flag("may-share", Is("false"), "The VM may share memory with the VMs that it is linked to."),
    flag(
        "may-see-statistics",
        Is("true"),
        "The VM may [read what its exits cost](ext/stat.md); otherwise the calls of *stat* give `DENIED`; what stands in its area is not hidden.",
    ),
    flag(
        "profile",
        Is("false"),
        "Counts which ports, MSRs and pages exits reach for, and reports ten of each at the end: counts of exits stay the same, ticks do not.",
    ),
    flag(
        "scratch-marks",
        Is("false"),
        "A write to the UART's scratch register reports the VM's exits by reason so far, with the byte written.",
    ),
    flag(
        "scratch-page",
        Is("false"),
        "A page at E0000000h that keeps what is written to it, and whose every access exits and is emulated: for guests that test the emulation, or measure it.",
    ),
];

fn choices<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn span(range: RangeInclusive<impl Display>) -> String {
    format!("{} to {}", range.start(), range.end())
}

fn memory() -> String {
    let [least, most, step] = [MIN_MEMORY, MAX_MEMORY, MEMORY_STEP].map(|bytes| bytes >> 20);
    format!("a multiple of {step}M from {least}M to {most}M")
}

impl Type {
    const fn name(self) -> &'static str {
        match self {
            Text => "string",
            Number => "number",
            Boolean => "boolean",
            Strings => "list of strings",
            Numbers => "list of numbers",
        }
    }
}

/// The table of the chapter.
pub fn table() -> String {
    let mut out = "| key | type | default | values | meaning |\n|---|---|---|---|---|\n".to_owned();
    for key in KEYS {
        let default = match key.absent {
            Required => "required".to_owned(),
            Is(value) => format!("`{value}`"),
            Means(text) => text.to_owned(),
        };
        let Key { name, of, about, .. } = key;
        out +=
            &format!("| `{name}` | {} | {default} | {} | {about} |\n", of.name(), (key.values)());
    }
    out
}

#[cfg(test)]
mod tests;
