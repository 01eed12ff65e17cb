//! Moves to and from control registers, and XSETBV (SDM vol. 2, MOV—Move to/from Control Registers;
//! SDM vol. 3, Control Registers).

use crate::vm::exit::CrAccess;
use crate::vm::hardware::Kept;
use crate::vm::{Gpr, Hardware, Outcome, Vcpu};

const CR0_PE: u64 = 1 << 0;
const CR0_MP: u64 = 1 << 1;
const CR0_EM: u64 = 1 << 2;
const CR0_TS: u64 = 1 << 3;
const CR0_ET: u64 = 1 << 4;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
/// PE, MP, EM, TS, ET, NE, WP, AM, NW, CD, PG; a write ignores the others.
const CR0_DEFINED: u64 = 0xe005_003f;

const CR4_PSE: u64 = 1 << 4;
const CR4_PAE: u64 = 1 << 5;
const CR4_PGE: u64 = 1 << 7;
const CR4_PCIDE: u64 = 1 << 17;
const CR4_SMEP: u64 = 1 << 20;

const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;

/// Does what a move or its like does.
pub fn access(vcpu: &mut Vcpu, hardware: &mut impl Hardware, access: CrAccess) -> Outcome {
    match access {
        CrAccess::Write { cr, gpr } => {
            let mut value = vcpu.gpr(hardware, gpr);
            // Only 64-bit code moves 64 bits.
            if value >> 32 != 0 && !(vcpu.long_mode && hardware.code_is_long()) {
                value &= 0xffff_ffff;
            }
            match cr {
                0 => write_cr0(vcpu, hardware, value),
                3 => write_cr3(vcpu, hardware, value),
                4 => write_cr4(vcpu, hardware, value),
                8 => match vcpu.apic.write_cr8(value) {
                    Ok(effect) => vcpu.apply(effect, hardware),
                    Err(_) => Outcome::PROTECTION,
                },
                _ => Outcome::UNDEFINED,
            }
        }
        CrAccess::Read { cr, gpr } => {
            let value = match cr {
                0 => hardware.kept(Kept::Cr0),
                3 => hardware.kept(Kept::Cr3),
                4 => hardware.kept(Kept::Cr4),
                8 => vcpu.apic.cr8(),
                _ => return Outcome::UNDEFINED,
            };
            vcpu.set_gpr(hardware, gpr, value);
            Outcome::Advance
        }
        CrAccess::Clts => {
            let cr0 = hardware.kept(Kept::Cr0);
            hardware.keep(Kept::Cr0, cr0 & !CR0_TS);
            Outcome::Advance
        }
        CrAccess::Lmsw(source) => {
            // LMSW writes PE, MP, EM, TS, and cannot clear PE.
            let low = CR0_PE | CR0_MP | CR0_EM | CR0_TS;
            let old = hardware.kept(Kept::Cr0);
            let new = old & !low | u64::from(source) & low | old & CR0_PE;
            write_cr0(vcpu, hardware, new)
        }
    }
}

fn write_cr0(vcpu: &mut Vcpu, hardware: &mut impl Hardware, value: u64) -> Outcome {
    let old = hardware.kept(Kept::Cr0);
    let new = value & CR0_DEFINED | CR0_ET;
    let pages = new & CR0_PG != 0;
    let illegal =
        value >> 32 != 0 || pages && new & CR0_PE == 0 || new & CR0_NW != 0 && new & CR0_CD == 0;
    if illegal {
        return Outcome::PROTECTION;
    }
    if (old ^ new) & CR0_PG != 0 {
        let efer = hardware.kept(Kept::Efer);
        let cr4 = hardware.kept(Kept::Cr4);
        if pages && efer & EFER_LME != 0 {
            if cr4 & CR4_PAE == 0 || hardware.code_is_long() {
                return Outcome::PROTECTION;
            }
            vcpu.set_long_mode(true);
            hardware.keep(Kept::Efer, efer | EFER_LMA);
        } else if pages && cr4 & CR4_PAE != 0 {
            let cr3 = hardware.kept(Kept::Cr3);
            if load_pdptes(vcpu, hardware, cr3).is_none() {
                return Outcome::PROTECTION;
            }
        } else if !pages && cr4 & CR4_PCIDE != 0 {
            return Outcome::PROTECTION;
        } else if !pages && vcpu.long_mode {
            if hardware.code_is_long() {
                return Outcome::PROTECTION;
            }
            vcpu.set_long_mode(false);
            hardware.keep(Kept::Efer, efer & !EFER_LMA);
        }
        hardware.flush_guest(None);
    }
    hardware.keep(Kept::Cr0, new);
    Outcome::Advance
}

fn write_cr3(vcpu: &mut Vcpu, hardware: &mut impl Hardware, value: u64) -> Outcome {
    let mut value = value;
    let mut keep_translations = false;
    if vcpu.long_mode {
        // With PCIDs, bit 63 asks that the PCID's translations stay.
        const NO_FLUSH: u64 = 1 << 63;
        if hardware.kept(Kept::Cr4) & CR4_PCIDE != 0 {
            keep_translations = value & NO_FLUSH != 0;
            value &= !NO_FLUSH;
        }
        if value >> vcpu.physical_bits != 0 {
            return Outcome::PROTECTION;
        }
    } else if hardware.kept(Kept::Cr4) & CR4_PAE != 0
        && hardware.kept(Kept::Cr0) & CR0_PG != 0
        && load_pdptes(vcpu, hardware, value).is_none()
    {
        return Outcome::PROTECTION;
    }
    hardware.keep(Kept::Cr3, value);
    if !keep_translations {
        hardware.flush_guest(None);
    }
    Outcome::Advance
}

fn write_cr4(vcpu: &mut Vcpu, hardware: &mut impl Hardware, value: u64) -> Outcome {
    let old = hardware.kept(Kept::Cr4);
    let changed = old ^ value;
    let illegal = value & !vcpu.cr4_may != 0
        || vcpu.long_mode && value & CR4_PAE == 0
        || changed & value & CR4_PCIDE != 0
            && (!vcpu.long_mode || hardware.kept(Kept::Cr3) & 0xfff != 0);
    if illegal {
        return Outcome::PROTECTION;
    }
    if changed & (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP) != 0 {
        let pages = hardware.kept(Kept::Cr0) & CR0_PG != 0;
        if pages && !vcpu.long_mode && value & CR4_PAE != 0 {
            let cr3 = hardware.kept(Kept::Cr3);
            if load_pdptes(vcpu, hardware, cr3).is_none() {
                return Outcome::PROTECTION;
            }
        }
        hardware.flush_guest(None);
    }
    hardware.keep(Kept::Cr4, value);
    Outcome::Advance
}

/// Loads the four page-directory pointers of PAE paging, which the CPU keeps until CR3 is written
/// again; `None` if one has a reserved bit set, or they are not in RAM.
fn load_pdptes(vcpu: &Vcpu, hardware: &mut impl Hardware, cr3: u64) -> Option<()> {
    const RESERVED: u64 = 0x1e6;
    let mut pdptes = [0; 4];
    let mut gpa = cr3 & 0xffff_ffe0;
    for pdpte in &mut pdptes {
        *pdpte = vcpu.vm.memory.read_u64(gpa).ok()?;
        if *pdpte & 1 != 0 && (*pdpte & RESERVED != 0 || *pdpte >> vcpu.physical_bits != 0) {
            return None;
        }
        gpa = gpa.wrapping_add(8);
    }
    hardware.set_pdptes(pdptes);
    Some(())
}

/// XSETBV.
pub fn xsetbv(vcpu: &mut Vcpu, hardware: &mut impl Hardware) -> Outcome {
    const X87: u64 = 1 << 0;
    const SSE: u64 = 1 << 1;
    const AVX: u64 = 1 << 2;
    const MPX: u64 = 3 << 3;
    const AVX512: u64 = 7 << 5;
    let value = vcpu.registers.edx_eax();
    let all_or_none = |bits: u64| value & bits == 0 || value & bits == bits;
    let legal = vcpu.registers.get(Gpr::Rcx) as u32 == 0
        && hardware.cpl() == 0
        && value & X87 != 0
        && value & !vcpu.xcr0_may == 0
        && (value & AVX == 0 || value & SSE != 0)
        && all_or_none(MPX)
        && all_or_none(AVX512)
        && (value & AVX512 == 0 || value & AVX != 0);
    if !legal {
        return Outcome::PROTECTION;
    }
    vcpu.xcr0 = value;
    hardware.set_xcr0(value);
    Outcome::Advance
}

#[cfg(test)]
mod tests;
