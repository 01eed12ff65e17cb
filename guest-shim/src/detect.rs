//! Who runs us: a pure function of what CPUID says.

use core::arch::x86_64::CpuidResult;
use core::fmt;

use pv_abi::cpuid::{self, Recommendations, leaf};

/// What CPUID says of Paravane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paravane {
    /// The base of the leaves.
    pub base: u32,
    /// The ABI version that the hypervisor speaks.
    pub version: u32,
    /// Extensions 0 to 127, by bit.
    pub extensions: u128,
    /// Which replacements pay here.
    pub recommendations: Recommendations,
    /// The calling vCPU's number.
    pub vcpu: u32,
    /// How many vCPUs the VM has.
    pub vcpus: u32,
    /// The longest console transfer in bytes.
    pub console_max: u32,
    /// The TSC's frequency in Hz.
    pub tsc_hz: u64,
    /// The frequency in Hz at which the APIC timer counts before its divider.
    pub apic_hz: u32,
}

impl Paravane {
    /// Whether the extension with this number is there.
    pub const fn has(&self, extension: u16) -> bool {
        extension < 128 && self.extensions >> extension & 1 != 0
    }
}

/// Another hypervisor, by its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// KVM.
    Kvm,
    /// Hyper-V, or one that claims its interface.
    HyperV,
    /// Xen.
    Xen,
    /// VMware.
    VMware,
    /// QEMU's emulator.
    Tcg,
    /// VirtualBox.
    VirtualBox,
    /// bhyve.
    Bhyve,
    /// ACRN.
    Acrn,
    /// QNX.
    Qnx,
    /// Parallels.
    Parallels,
    /// Jailhouse.
    Jailhouse,
    /// A signature that this crate does not know.
    Unknown([u8; 12]),
}

const SIGNATURES: &[(&[u8; 12], Other)] = &[
    (b"KVMKVMKVM\0\0\0", Other::Kvm),
    (b"Linux KVM Hv", Other::Kvm),
    (b"Microsoft Hv", Other::HyperV),
    (b"XenVMMXenVMM", Other::Xen),
    (b"VMwareVMware", Other::VMware),
    (b"TCGTCGTCGTCG", Other::Tcg),
    (b"VBoxVBoxVBox", Other::VirtualBox),
    (b"bhyve bhyve ", Other::Bhyve),
    (b"ACRNACRNACRN", Other::Acrn),
    (b" QNXQVMBSQG ", Other::Qnx),
    (b" lrpepyh  vr", Other::Parallels),
    (b"Jailhouse\0\0\0", Other::Jailhouse),
];

/// What [`detect`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// No hypervisor that shows itself.
    BareMetal,
    /// Paravane.
    Paravane(Paravane),
    /// A hypervisor whose interface is none of this crate's business.
    Other(Other),
}

impl fmt::Display for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Found::BareMetal => f.write_str("bare metal"),
            Found::Paravane(paravane) => {
                let (major, minor) = pv_abi::version_parts(paravane.version);
                write!(f, "Paravane, ABI {major}.{minor}, leaves at {:#x}", paravane.base)
            }
            Found::Other(Other::Unknown(signature)) => {
                write!(f, "hypervisor \"{}\"", signature.escape_ascii())
            }
            Found::Other(other) => write!(f, "{other:?}"),
        }
    }
}

/// CPUID.01H:ECX, the bit that hypervisors set and CPUs do not.
const HYPERVISOR_PRESENT: u32 = 1 << 31;

/// Finds out who runs us. `cpuid` answers leaf and sub-leaf.
///
/// The bases are searched even behind another hypervisor's, because Paravane's leaves stand at the
/// first *free* base. Without the hypervisor bit nothing is searched: the leaves are not defined on
/// a CPU, which answers with something else.
pub fn detect(cpuid: impl Fn(u32, u32) -> CpuidResult) -> Found {
    if cpuid(1, 0).ecx & HYPERVISOR_PRESENT == 0 {
        return Found::BareMetal;
    }
    let bases = (0..cpuid::BASES).map(|n| cpuid::FIRST_BASE + n * cpuid::BASE_STEP);
    let own = |&base: &u32| {
        let answer = cpuid(base, 0);
        [answer.ebx, answer.ecx, answer.edx] == cpuid::signature_registers()
            && answer.eax >= base + leaf::LAST
            && answer.eax < base + cpuid::BASE_STEP
    };
    match bases.clone().find(own) {
        Some(base) => Found::Paravane(describe(base, cpuid)),
        None => Found::Other(other(cpuid(cpuid::FIRST_BASE, 0))),
    }
}

fn describe(base: u32, cpuid: impl Fn(u32, u32) -> CpuidResult) -> Paravane {
    let extensions = cpuid(base + leaf::EXTENSIONS, 0);
    let limits = cpuid(base + leaf::LIMITS, 0);
    let frequency = cpuid(base + leaf::FREQUENCY, 0);
    let wide = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
    Paravane {
        base,
        version: cpuid(base + leaf::VERSION, 0).eax,
        extensions: u128::from(wide(extensions.ecx, extensions.edx)) << 64
            | u128::from(wide(extensions.eax, extensions.ebx)),
        recommendations: Recommendations::from_bits_truncate(
            cpuid(base + leaf::RECOMMENDATIONS, 0).eax,
        ),
        vcpu: limits.eax,
        vcpus: limits.ebx,
        console_max: limits.ecx,
        tsc_hz: wide(frequency.eax, frequency.ebx),
        apic_hz: frequency.ecx,
    }
}

fn other(answer: CpuidResult) -> Other {
    let mut signature = [0; 12];
    for (bytes, register) in signature.chunks_exact_mut(4).zip([answer.ebx, answer.ecx, answer.edx])
    {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    let known = SIGNATURES.iter().find(|(known, _)| **known == signature);
    known.map_or(Other::Unknown(signature), |&(_, other)| other)
}

#[cfg(test)]
mod tests;
