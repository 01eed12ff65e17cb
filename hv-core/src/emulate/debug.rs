//! MOV DR.

use crate::vm::hardware::Kept;
use crate::vm::{Hardware, Outcome, Vcpu};

const CR4_DE: u64 = 1 << 3;
const DR7_GD: u64 = 1 << 13;
const DR6_FIXED: u64 = 0xffff_0ff0;
const DR6_CLEARABLE: u64 = 0x1e00f;
const DR6_BD: u64 = 1 << 13;
const DR7_FIXED: u64 = 1 << 10;
const DR7_RESERVED: u64 = 0xffff_ffff_0000_d000;

/// MOV to or from a debug register (SDM vol. 3, Debug Registers).
pub fn mov_dr(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: u8,
    gpr: u8,
    read: bool,
) -> Outcome {
    let number = match number {
        4 | 5 if hardware.kept(Kept::Cr4) & CR4_DE != 0 => return Outcome::UNDEFINED,
        4 | 5 => number.wrapping_add(2),
        _ => number,
    };
    // General detect: the access itself is a debug exception, before it is done.
    let dr7 = hardware.kept(Kept::Dr7);
    if dr7 & DR7_GD != 0 {
        let dr6 = hardware.debug_register(6);
        hardware.set_debug_register(6, dr6 | DR6_BD);
        hardware.keep(Kept::Dr7, dr7 & !DR7_GD);
        return Outcome::Inject(crate::vm::Event::exception(1, 0));
    }
    if read {
        let value = if number == 7 { dr7 } else { hardware.debug_register(number) };
        vcpu.set_gpr(hardware, gpr, value);
        return Outcome::Advance;
    }
    let mut value = vcpu.gpr(hardware, gpr);
    // Only 64-bit code moves 64 bits.
    if value >> 32 != 0 && !(vcpu.long_mode && hardware.code_is_long()) {
        value &= 0xffff_ffff;
    }
    match number {
        6 | 7 if value >> 32 != 0 => return Outcome::PROTECTION,
        6 => hardware.set_debug_register(6, value & DR6_CLEARABLE | DR6_FIXED),
        7 => hardware.keep(Kept::Dr7, value & !DR7_RESERVED | DR7_FIXED),
        _ => hardware.set_debug_register(number, value),
    }
    Outcome::Advance
}

#[cfg(test)]
mod tests;
