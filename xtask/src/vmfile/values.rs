//! Values of a description that refuse what the hypervisor would refuse.

use anyhow::{Context, Result, anyhow, ensure};
use hv_core::sched::{NORMAL, WEIGHTS};
use hv_core::vm::desc::{
    ANY_CPU, COMMAND_LINE, MAX_MEMORY, MAX_VCPUS, MEMORY_STEP, MIN_MEMORY, SLICE_US,
};
use hv_core::vm::feature::{self, Features};
use hv_core::vm::kind::ImageKind;
use hv_core::vm::machine_type::MachineType;
use hv_core::vm::policy::Policy;
use serde::de::Error;
use serde::{Deserialize, Deserializer};

use super::VmSpec;
use crate::bundle::padded;
use crate::members;

macro_rules! value {
    ($(#[$doc:meta])* $name:ident($inner:ty) from $raw:ty = $default:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
        #[serde(try_from = "toml::Value")]
        pub struct $name(pub $inner);

        impl Default for $name {
            fn default() -> Self {
                $name($default)
            }
        }

        impl TryFrom<toml::Value> for $name {
            type Error = anyhow::Error;

            fn try_from(value: toml::Value) -> Result<Self> {
                let check: fn($raw) -> Result<$inner> = $check;
                let shown = value.to_string();
                let raw = value.try_into().map_err(|_| {
                    anyhow!("{shown} is not a {}", stringify!($raw).replace("Vec<i64>", "list of whole numbers").replace("i64", "whole number").replace("String", "string"))
                })?;
                check(raw).map($name)
            }
        }
    };
}

value!(/// Bytes of RAM, written `64M`.
    Memory(u64) from String = 64 << 20, |text| memory(&text));
value!(/// Virtual CPUs.
Vcpus(u32) from i64 = 1, |n| {
    let vcpus = u32::try_from(n).ok().filter(|n| (1..=MAX_VCPUS).contains(n));
    vcpus.with_context(|| format!("{n} vCPUs: there can be 1 to {MAX_VCPUS}"))
});
value!(/// Numbers of CPUs, a bit for each; 0 for all.
Cpus(u64) from Vec<i64> = ANY_CPU, |cpus| {
    ensure!(!cpus.is_empty(), "no CPU is named: leave the key out to mean all of them");
    cpus.into_iter().try_fold(0, |all, cpu| {
        let bit = u32::try_from(cpu).ok().and_then(|cpu| 1u64.checked_shl(cpu));
        let bit = bit.with_context(|| format!("CPU {cpu}: they are numbered from 0 to 63"))?;
        ensure!(all & bit == 0, "CPU {cpu} stands there twice: name each once");
        Ok(all | bit)
    })
});
value!(/// An execution policy by name.
    PolicyName(Policy) from String = Policy::Pv, |name| policy(&name));
value!(/// A kind of image by name.
    KindName(ImageKind) from String = ImageKind::Auto, |name| kind(&name));
value!(/// The devices of a VM by name.
    MachineName(MachineType) from String = MachineType::Minimal, |name| machine(&name));
value!(/// Features by name.
    FeatureName(Features) from String = Features::empty(), |name| features(&name));
value!(/// The longest time in microseconds that it runs while others wait.
Slice(u32) from i64 = 10_000, |us| {
    let slice = u32::try_from(us).ok().filter(|us| SLICE_US.contains(us));
    slice.with_context(|| {
        format!("a time slice of {us} us: it must be from {} to {}", SLICE_US.start(), SLICE_US.end())
    })
});
value!(/// Its share of a CPU beside others.
Weight(u32) from i64 = NORMAL, |weight| {
    let sound = u32::try_from(weight).ok().filter(|weight| WEIGHTS.contains(weight));
    sound.with_context(|| {
        format!("a weight of {weight}: it must be from {} to {}", WEIGHTS.start(), WEIGHTS.end())
    })
});
value!(/// What the guest finds as its command line.
CommandLine(String) from String = String::new(), |line| {
    ensure!(
        line.len() <= COMMAND_LINE && !line.contains('\0'),
        "the command line has {} bytes: at most {COMMAND_LINE}, none of them zero", line.len()
    );
    Ok(line)
});

impl From<&str> for CommandLine {
    fn from(line: &str) -> Self {
        CommandLine(line.to_owned())
    }
}

/// The VMs of a file: one at least.
pub fn vms<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<VmSpec>, D::Error> {
    let vms = Vec::deserialize(from)?;
    match vms.is_empty() {
        true => Err(D::Error::custom("there is no [[vm]] table: write one for each VM")),
        false => Ok(vms),
    }
}

/// A name as a bundle can hold it.
pub fn name<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let name = String::deserialize(from)?;
    padded(&name).map_err(D::Error::custom)?;
    Ok(name)
}

/// What names a file whose name a bundle can hold.
pub fn file<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let called = String::deserialize(from)?;
    padded(&members::name(&called)).map_err(D::Error::custom)?;
    Ok(called)
}

/// The same for a key that may be left out.
pub fn some_file<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    file(from).map(Some)
}

/// A time, 0 for none.
pub fn milliseconds<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    let value = toml::Value::deserialize(from)?;
    let time = value.as_integer().and_then(|time| u64::try_from(time).ok());
    let wrong = || format!("{value} is not a whole number of milliseconds, or 0 for never");
    time.ok_or_else(|| D::Error::custom(wrong()))
}

/// The policy that users call `name`.
pub fn policy(name: &str) -> Result<Policy> {
    let found = Policy::ALL.into_iter().find(|p| p.name() == name);
    found.with_context(|| {
        let names = Policy::ALL.map(Policy::name).join(", ");
        format!("unknown policy {name:?}: it is one of {names}")
    })
}

/// The kind of image that users call `name`.
pub fn kind(name: &str) -> Result<ImageKind> {
    let found = ImageKind::ALL.into_iter().find(|k| k.name() == name);
    found.with_context(|| {
        let names = ImageKind::ALL.map(ImageKind::name).join(", ");
        format!("unknown kind of image {name:?}: it is one of {names}")
    })
}

/// The machine that users call `name`.
pub fn machine(name: &str) -> Result<MachineType> {
    let found = MachineType::ALL.into_iter().find(|m| m.name() == name);
    found.with_context(|| {
        let names = MachineType::ALL.map(MachineType::name).join(", ");
        format!("unknown machine {name:?}: it is one of {names}")
    })
}

/// The features that users call `name`.
pub fn features(name: &str) -> Result<Features> {
    feature::by_name(name).with_context(|| {
        let groups = feature::GROUPS.iter().map(|(name, _)| (*name).to_owned());
        let flags = Features::all()
            .iter_names()
            .map(|(name, _)| name.to_ascii_lowercase().replace('_', "-"));
        let names = groups.chain(flags).collect::<Vec<_>>().join(", ");
        format!("unknown feature {name:?}: it is one of {names}")
    })
}

/// The bytes in `64M`, `512K`, `1G` or a plain number.
pub fn memory(text: &str) -> Result<u64> {
    let wrong = || {
        format!(
            "memory {text:?}: write a number with K, M or G, a multiple of {}M from {}M to {}M, such as \"64M\"",
            MEMORY_STEP >> 20,
            MIN_MEMORY >> 20,
            MAX_MEMORY >> 20
        )
    };
    let (digits, unit) = match text.as_bytes().last() {
        Some(b'K') => (&text[..text.len() - 1], 1 << 10),
        Some(b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'G') => (&text[..text.len() - 1], 1 << 30),
        _ => (text, 1),
    };
    let bytes = digits.parse::<u64>().ok().and_then(|n| n.checked_mul(unit)).with_context(wrong)?;
    ensure!(
        (MIN_MEMORY..=MAX_MEMORY).contains(&bytes) && bytes.is_multiple_of(MEMORY_STEP),
        wrong()
    );
    Ok(bytes)
}
