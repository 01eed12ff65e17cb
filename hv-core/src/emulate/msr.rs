//! RDMSR and WRMSR: what each MSR is to a guest.
//!
//! [`table`] says how each is treated. One that is not named there does not exist: #GP, as on a CPU
//! without it. That includes those of VMX, SVM, SGX and performance monitoring, whose CPUID bits are
//! not there.

use crate::device::apic;
use crate::vm::hardware::{Kept, LiveMsr};
use crate::vm::{Features, Gpr, Hardware, Outcome, Vcpu};

use super::mtrr::Mtrrs;

pub mod table;

const TSC: u32 = 0x10;
const TSC_ADJUST: u32 = 0x3b;
/// IA32_BIOS_SIGN_ID; PATCH_LEVEL of AMD.
const MICROCODE: u32 = 0x8b;
const SYSENTER_CS: u32 = 0x174;
const SYSENTER_ESP: u32 = 0x175;
const SYSENTER_EIP: u32 = 0x176;
const MISC_ENABLE: u32 = 0x1a0;
const DEBUGCTL: u32 = 0x1d9;
const PAT: u32 = 0x277;
const XSS: u32 = 0xda0;
const EFER: u32 = 0xc000_0080;
const FS_BASE: u32 = 0xc000_0100;
const GS_BASE: u32 = 0xc000_0101;

/// Fast strings; no branch trace store, no precise events.
const MISC_ENABLE_RESET: u64 = 1 << 0 | 1 << 11 | 1 << 12;
/// What a guest may change in MISC_ENABLE.
const MISC_ENABLE_MAY: u64 = 1 << 0;

const EFER_SCE: u64 = 1 << 0;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
const EFER_NXE: u64 = 1 << 11;
const CR0_PG: u64 = 1 << 31;
/// LBR and BTF.
const DEBUGCTL_MAY: u64 = 3;

/// MSRs that exist only in the hypervisor.
#[derive(Clone, Debug)]
pub struct MsrState {
    /// IA32_TSC_ADJUST.
    pub tsc_adjust: u64,
    /// IA32_MISC_ENABLE.
    pub misc_enable: u64,
    /// IA32_XSS: no supervisor state is offered, so it stays 0.
    pub xss: u64,
    /// Memory types.
    pub mtrrs: Mtrrs,
    /// [`table::PERFORMANCE`].
    pub performance: [u64; 8],
    /// The CPU.
    pub cpu: CpuFacts,
}

/// What MSRs tell of the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuFacts {
    /// Its vendor is AMD, or it follows AMD's design.
    pub amd: bool,
    /// The revision of its microcode, as BIOS_SIGN_ID or PATCH_LEVEL has it.
    pub microcode: u64,
}

impl CpuFacts {
    /// Of the CPU with this vendor, whose microcode shows as `microcode`. An emulated CPU has none, and
    /// no errata either: what asks for a revision finds one that has mended all.
    pub fn new(amd: bool, microcode: u64) -> CpuFacts {
        const NEWEST: u64 = 0x7fff_ffff;
        let newest = if amd { NEWEST } else { NEWEST << 32 };
        CpuFacts { amd, microcode: if microcode == 0 { newest } else { microcode } }
    }
}

impl MsrState {
    /// As firmware leaves them.
    pub fn start(cpu: CpuFacts) -> MsrState {
        let mtrrs = Mtrrs::as_firmware_leaves();
        MsrState {
            tsc_adjust: 0,
            misc_enable: MISC_ENABLE_RESET,
            xss: 0,
            mtrrs,
            performance: [0; 8],
            cpu,
        }
    }
}

/// The guest's access is illegal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Illegal;

/// RDMSR.
#[inline]
pub fn rdmsr(vcpu: &mut Vcpu, hardware: &mut impl Hardware) -> Outcome {
    let msr = vcpu.registers.get(Gpr::Rcx) as u32;
    let value =
        if msr == apic::MSR_APIC_BASE { Ok(vcpu.apic.base()) } else { read(vcpu, hardware, msr) };
    match value {
        Ok(value) => {
            vcpu.registers.set_edx_eax(value);
            Outcome::Advance
        }
        Err(Illegal) => Outcome::PROTECTION,
    }
}

#[inline(never)]
fn read(vcpu: &mut Vcpu, hardware: &mut impl Hardware, msr: u32) -> Result<u64, Illegal> {
    if let Some(kept) = kept(msr) {
        return Ok(hardware.kept(kept));
    }
    if let Some(live) = live(vcpu, msr) {
        return Ok(hardware.live_msr(live));
    }
    let now = vcpu.now(hardware);
    Ok(match msr {
        TSC => now,
        TSC_ADJUST => vcpu.msrs.tsc_adjust,
        MISC_ENABLE => vcpu.msrs.misc_enable,
        MICROCODE => vcpu.msrs.cpu.microcode,
        XSS if vcpu.vm.features.contains(Features::XSAVES) => vcpu.msrs.xss,
        apic::MSR_TSC_DEADLINE => vcpu.apic.deadline(now),
        _ if apic::MSR_X2APIC.contains(&msr) => {
            vcpu.take_back_eoi();
            return vcpu.apic.msr_read(msr, now).map_err(|_| Illegal);
        }
        _ => {
            if let Some(counter) = performance(vcpu, msr) {
                return Ok(*counter);
            }
            let fixed = || table::fixed(msr, vcpu.msrs.cpu.amd).map(|fixed| fixed.value);
            return vcpu.msrs.mtrrs.read(msr).or_else(fixed).ok_or(Illegal);
        }
    })
}

/// WRMSR.
#[inline]
pub fn wrmsr(vcpu: &mut Vcpu, hardware: &mut impl Hardware) -> Outcome {
    let msr = vcpu.registers.get(Gpr::Rcx) as u32;
    let value = vcpu.registers.edx_eax();
    if msr == apic::MSR_TSC_DEADLINE {
        // Whoever writes the MSR means this value, not what the shared half says.
        vcpu.stop_following();
        return write_deadline(vcpu, hardware, value);
    }
    if apic::MSR_X2APIC.contains(&msr) {
        vcpu.software_acts(hardware);
        let now = vcpu.now(hardware);
        return match vcpu.apic.msr_write(msr, value, now) {
            Ok(effect) => vcpu.apply(effect, hardware),
            Err(_) => Outcome::PROTECTION,
        };
    }
    if msr == apic::MSR_APIC_BASE {
        return match vcpu.apic.write_base(value) {
            Ok(effect) => vcpu.apply(effect, hardware),
            Err(_) => Outcome::PROTECTION,
        };
    }
    match write(vcpu, hardware, msr, value) {
        Ok(()) => Outcome::Advance,
        Err(Illegal) => Outcome::PROTECTION,
    }
}

/// Whether [`wrmsr_frequent`] is worth asking.
#[inline(always)]
pub fn is_frequent(msr: u32) -> bool {
    msr == apic::MSR_TSC_DEADLINE || apic::MSR_X2APIC.contains(&msr)
}

/// The writes to the local APIC that a busy guest makes; `false` for its others, and where such a write
/// has more to it: then nothing has been done. For MSRs that [`is_frequent`] names.
#[inline(always)]
pub fn wrmsr_frequent(vcpu: &mut Vcpu, hardware: &mut impl Hardware) -> bool {
    let msr = vcpu.registers.get(Gpr::Rcx) as u32;
    let value = vcpu.registers.edx_eax();
    if msr == apic::MSR_TSC_DEADLINE {
        let host = hardware.tsc();
        let now = host.wrapping_add(vcpu.tsc_offset);
        let moved = vcpu.registered.armed == 0 && vcpu.apic.move_armed_deadline(value, now);
        if moved {
            vcpu.follow_deadline(value);
        }
        return moved;
    }
    if hardware.delivers_interrupts() {
        return false;
    }
    vcpu.take_back_eoi();
    let done = vcpu.apic.write_frequent(msr, value);
    if done && vcpu.apic.deliverable().is_some() {
        vcpu.look_at_events();
    }
    done
}

/// Arms the timer as a write of IA32_TSC_DEADLINE does.
pub fn write_deadline(vcpu: &mut Vcpu, hardware: &mut impl Hardware, deadline: u64) -> Outcome {
    let now = vcpu.now(hardware);
    let effect = vcpu.apic.write_deadline(deadline, now);
    vcpu.apply(effect, hardware)
}

#[inline(never)]
fn write(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    msr: u32,
    value: u64,
) -> Result<(), Illegal> {
    if let Some(register) = kept(msr) {
        return write_kept(vcpu, hardware, register, value);
    }
    if let Some(live) = live(vcpu, msr) {
        let legal = match live {
            LiveMsr::Lstar | LiveMsr::Cstar | LiveMsr::KernelGsBase => canonical(value),
            LiveMsr::Fmask | LiveMsr::TscAux => value >> 32 == 0,
            LiveMsr::Star => true,
        };
        if !legal {
            return Err(Illegal);
        }
        hardware.set_live_msr(live, value);
        return Ok(());
    }
    match msr {
        // TSC and TSC_ADJUST move together (SDM vol. 3, IA32_TSC_ADJUST MSR).
        TSC => {
            let delta = value.wrapping_sub(vcpu.now(hardware));
            move_tsc(vcpu, hardware, delta);
        }
        TSC_ADJUST => {
            let delta = value.wrapping_sub(vcpu.msrs.tsc_adjust);
            move_tsc(vcpu, hardware, delta);
        }
        MISC_ENABLE => {
            if (value ^ vcpu.msrs.misc_enable) & !MISC_ENABLE_MAY != 0 {
                return Err(Illegal);
            }
            vcpu.msrs.misc_enable = value;
        }
        // Its loader asks for the revision by writing 0 first.
        MICROCODE => {}
        XSS if vcpu.vm.features.contains(Features::XSAVES) && value == 0 => {}
        _ => match vcpu.msrs.mtrrs.write(msr, value, vcpu.physical_bits) {
            Some(written) => written?,
            None if let Some(counter) = performance(vcpu, msr) => *counter = value,
            None => {
                let fixed = table::fixed(msr, vcpu.msrs.cpu.amd);
                fixed.filter(|fixed| fixed.writable).ok_or(Illegal)?;
            }
        },
    }
    Ok(())
}

/// RDPMC: what AMD's counters hold; Intel's are not there.
pub fn rdpmc(vcpu: &mut Vcpu, hardware: &mut impl Hardware) -> Outcome {
    const CR4_PCE: u64 = 1 << 8;
    const COUNTERS: u32 = 4;
    let counter = vcpu.registers.get(Gpr::Rcx) as u32;
    let allowed = hardware.cpl() == 0 || hardware.kept(Kept::Cr4) & CR4_PCE != 0;
    let msr = table::PERFORMANCE.start().wrapping_add(COUNTERS).wrapping_add(counter);
    match performance(vcpu, msr) {
        Some(&mut value) if counter < COUNTERS && allowed => {
            vcpu.registers.set_edx_eax(value);
            Outcome::Advance
        }
        _ => Outcome::PROTECTION,
    }
}

/// A performance counter or its control, which only CPUs of AMD's design have.
fn performance(vcpu: &mut Vcpu, msr: u32) -> Option<&mut u64> {
    let at = msr.checked_sub(*table::PERFORMANCE.start())?;
    vcpu.msrs.performance.get_mut(at as usize).filter(|_| vcpu.msrs.cpu.amd)
}

fn move_tsc(vcpu: &mut Vcpu, hardware: &mut impl Hardware, delta: u64) {
    if delta != 0 {
        vcpu.msrs.tsc_adjust = vcpu.msrs.tsc_adjust.wrapping_add(delta);
        vcpu.tsc_offset = vcpu.tsc_offset.wrapping_add(delta);
        hardware.set_tsc_offset(vcpu.tsc_offset);
        vcpu.apic.time_moved(delta);
        // The clock goes on from where it was.
        vcpu.tell_clock(hardware);
        vcpu.attend();
    }
}

fn write_kept(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    register: Kept,
    value: u64,
) -> Result<(), Illegal> {
    let value = match register {
        Kept::Efer => {
            let old = hardware.kept(Kept::Efer);
            let nx = if vcpu.no_execute { EFER_NXE } else { 0 };
            let reserved = !(EFER_SCE | EFER_LME | EFER_LMA | nx);
            let paging = hardware.kept(Kept::Cr0) & CR0_PG != 0;
            if value & reserved != 0 || paging && (old ^ value) & EFER_LME != 0 {
                return Err(Illegal);
            }
            // LMA is the CPU's; a write ignores it.
            value & !EFER_LMA | old & EFER_LMA
        }
        Kept::Pat => {
            let sound = value.to_le_bytes().iter().all(|t| matches!(t, 0 | 1 | 4..=7));
            if sound { value } else { return Err(Illegal) }
        }
        Kept::Debugctl if value & !DEBUGCTL_MAY == 0 => value,
        Kept::SysenterCs => value & 0xffff_ffff,
        Kept::FsBase | Kept::GsBase | Kept::SysenterEsp | Kept::SysenterEip if canonical(value) => {
            value
        }
        _ => return Err(Illegal),
    };
    hardware.keep(register, value);
    Ok(())
}

fn kept(msr: u32) -> Option<Kept> {
    Some(match msr {
        SYSENTER_CS => Kept::SysenterCs,
        SYSENTER_ESP => Kept::SysenterEsp,
        SYSENTER_EIP => Kept::SysenterEip,
        DEBUGCTL => Kept::Debugctl,
        PAT => Kept::Pat,
        EFER => Kept::Efer,
        FS_BASE => Kept::FsBase,
        GS_BASE => Kept::GsBase,
        _ => return None,
    })
}

fn live(vcpu: &Vcpu, msr: u32) -> Option<LiveMsr> {
    Some(match msr {
        0xc000_0081 => LiveMsr::Star,
        0xc000_0082 => LiveMsr::Lstar,
        0xc000_0083 => LiveMsr::Cstar,
        0xc000_0084 => LiveMsr::Fmask,
        0xc000_0102 => LiveMsr::KernelGsBase,
        0xc000_0103 if vcpu.vm.features.contains(Features::RDTSCP) => LiveMsr::TscAux,
        _ => return None,
    })
}

/// Whether bits 63:47 are all the same: four-level paging is all that is offered.
pub fn canonical(address: u64) -> bool {
    (address as i64) << 16 >> 16 == address as i64
}

#[cfg(test)]
mod tests;
