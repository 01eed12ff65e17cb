//! CPUID, from the mirror in the read-only half where that is recommended.
//!
//! The mirror holds what the vCPU would see, except for what depends on registers that a guest
//! writes without an exit. Those bits are composed here: CPUID.01H:ECX.OSXSAVE and
//! CPUID.07H.0:ECX.OSPKE from CR4, and the sizes in EBX of leaves 0DH.0 and 0DH.1 from XCR0 and
//! IA32_XSS.

use core::arch::x86_64::CpuidResult;

use pv_abi::area::{CPUID_SUBLEAF_MATTERS, CpuidEntry};
use x86_64::registers::control::{Cr4, Cr4Flags};
use x86_64::registers::model_specific::Msr;
use x86_64::registers::xcontrol::XCr0;

use crate::area;
use crate::site::{Key, enabled};

/// CPUID.01H:ECX.
const OSXSAVE: u32 = 1 << 27;
/// CPUID.07H.0:ECX.
const OSPKE: u32 = 1 << 4;
/// The leaf of extended state.
const XSAVE_LEAF: u32 = 0xd;
/// CPUID.0DH.1:EAX: XSAVEC, and XSAVES with IA32_XSS.
const XSAVEC: u32 = 1 << 1;
const XSAVES: u32 = 1 << 3;
/// CPUID.0DH.i:ECX, i > 1: in the compacted format this component is aligned to 64 bytes.
const ALIGNED: u32 = 1 << 1;
/// The legacy region and the header of an XSAVE area.
const XSAVE_BASE: u32 = 512 + 64;

const IA32_XSS: u32 = 0xda0;

/// The answer of the CPUID instruction itself.
#[inline]
pub fn native(leaf: u32, subleaf: u32) -> CpuidResult {
    core::arch::x86_64::__cpuid_count(leaf, subleaf)
}

/// CPUID, by the instruction or from the mirror. What the mirror does not hold is asked of the
/// instruction.
#[inline]
pub fn cpuid(leaf: u32, subleaf: u32) -> CpuidResult {
    if enabled::<{ Key::Cpuid as u32 }>()
        && let Some(answer) = mirrored(leaf, subleaf)
    {
        return answer;
    }
    native(leaf, subleaf)
}

fn mirrored(leaf: u32, subleaf: u32) -> Option<CpuidResult> {
    let area = area::current()?;
    let mirror = |leaf, subleaf| find(|index| area.cpuid_entry(index), leaf, subleaf);
    let entry = mirror(leaf, subleaf)?;
    match (leaf, subleaf) {
        (1, _) | (7, 0) => compose(entry, State { cr4: Cr4::read_raw(), xcr0: 1, xss: 0 }, mirror),
        (XSAVE_LEAF, 0 | 1) => {
            // Without OSXSAVE, XCR0 still counts but cannot be read.
            if !Cr4::read().contains(Cr4Flags::OSXSAVE) {
                return None;
            }
            let has_xss = subleaf == 1 && entry.eax & XSAVES != 0;
            // SAFETY: the MSR exists where XSAVES does; reading it changes nothing.
            let xss = if has_xss { unsafe { Msr::new(IA32_XSS).read() } } else { 0 };
            compose(entry, State { cr4: 0, xcr0: XCr0::read_raw(), xss }, mirror)
        }
        _ => Some(result(&entry)),
    }
}

fn result(entry: &CpuidEntry) -> CpuidResult {
    CpuidResult { eax: entry.eax, ebx: entry.ebx, ecx: entry.ecx, edx: entry.edx }
}

/// The entry that answers `leaf` and `subleaf`.
fn find(
    entry: impl Fn(usize) -> Option<CpuidEntry>,
    leaf: u32,
    subleaf: u32,
) -> Option<CpuidEntry> {
    (0..).map_while(entry).find(|entry| {
        entry.leaf == leaf && (entry.flags & CPUID_SUBLEAF_MATTERS == 0 || entry.subleaf == subleaf)
    })
}

/// The registers that answers depend on.
#[derive(Clone, Copy)]
struct State {
    cr4: u64,
    xcr0: u64,
    xss: u64,
}

/// The mirror's entry with the bits that depend on `state`. `None` if the mirror lacks what the
/// sizes are made of.
fn compose(
    entry: CpuidEntry,
    state: State,
    mirror: impl Fn(u32, u32) -> Option<CpuidEntry>,
) -> Option<CpuidResult> {
    let mut answer = result(&entry);
    let follow = |register: &mut u32, bit: u32, flag: Cr4Flags| {
        *register = *register & !bit | if state.cr4 & flag.bits() != 0 { bit } else { 0 };
    };
    match (entry.leaf, entry.subleaf) {
        (1, _) => follow(&mut answer.ecx, OSXSAVE, Cr4Flags::OSXSAVE),
        (7, 0) => follow(&mut answer.ecx, OSPKE, Cr4Flags::PROTECTION_KEY_USER),
        (XSAVE_LEAF, 0) => answer.ebx = standard_size(state.xcr0, mirror)?,
        (XSAVE_LEAF, 1) if answer.eax & (XSAVEC | XSAVES) != 0 => {
            answer.ebx = compacted_size(state.xcr0 | state.xss, mirror)?;
        }
        _ => {}
    }
    Some(answer)
}

/// The components of `enabled` beyond x87 and SSE, which live in the legacy region.
fn components(enabled: u64) -> impl Iterator<Item = u32> {
    (2..63).filter(move |&i| enabled >> i & 1 != 0)
}

/// The end of the last component of `xcr0` in the standard format.
fn standard_size(xcr0: u64, mirror: impl Fn(u32, u32) -> Option<CpuidEntry>) -> Option<u32> {
    components(xcr0).try_fold(XSAVE_BASE, |size, i| {
        let component = mirror(XSAVE_LEAF, i)?;
        Some(size.max(component.ebx.saturating_add(component.eax)))
    })
}

/// The size of the compacted format: the components one after the other (SDM vol. 1, Compacted
/// Format of the Extended Region).
fn compacted_size(enabled: u64, mirror: impl Fn(u32, u32) -> Option<CpuidEntry>) -> Option<u32> {
    components(enabled).try_fold(XSAVE_BASE, |size, i| {
        let component = mirror(XSAVE_LEAF, i)?;
        let start = if component.ecx & ALIGNED != 0 { size.next_multiple_of(64) } else { size };
        Some(start.saturating_add(component.eax))
    })
}

#[cfg(test)]
mod tests;
