//! Memory type range registers (SDM vol. 3, Memory Type Range Registers): kept for the guest to read
//! back, and checked as the CPU checks them. They have no effect: a guest's memory is RAM of the host,
//! cached whatever the guest says.

use super::msr::Illegal;

/// IA32_MTRRCAP.
pub const CAPABILITY: u32 = 0xfe;
/// IA32_MTRR_DEF_TYPE.
pub const DEFAULT_TYPE: u32 = 0x2ff;
/// IA32_MTRR_PHYSBASE0, its mask, and so on.
const VARIABLE: u32 = 0x200;
/// Variable ranges.
const RANGES: usize = 8;
/// The fixed ranges, in the order of their addresses.
const FIXED: [u32; 11] =
    [0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f];

/// Eight variable ranges, fixed ranges, write combining.
const CAPABILITIES: u64 = RANGES as u64 | 1 << 8 | 1 << 10;
const WRITE_BACK: u64 = 6;
const FIXED_ENABLED: u64 = 1 << 10;
const ENABLED: u64 = 1 << 11;
const VALID: u64 = 1 << 11;

/// The registers of one vCPU.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mtrrs {
    default: u64,
    variable: [u64; RANGES * 2],
    fixed: [u64; FIXED.len()],
}

impl Mtrrs {
    /// As firmware leaves them: all memory is write-back, but for the hole of video memory and ROMs.
    pub fn as_firmware_leaves() -> Mtrrs {
        const BACK: u64 = 0x0606_0606_0606_0606;
        const NONE: u64 = 0;
        let fixed = [BACK, BACK, NONE, BACK, BACK, BACK, BACK, BACK, BACK, BACK, BACK];
        Mtrrs { default: ENABLED | FIXED_ENABLED | WRITE_BACK, fixed, ..Mtrrs::default() }
    }

    /// The value of an MSR; `None` if it is not one of these.
    pub fn read(&self, msr: u32) -> Option<u64> {
        match msr {
            CAPABILITY => Some(CAPABILITIES),
            DEFAULT_TYPE => Some(self.default),
            _ => self.find(msr).copied(),
        }
    }

    /// Writes an MSR; `None` if it is not one of these.
    pub fn write(
        &mut self,
        msr: u32,
        value: u64,
        physical_bits: u8,
    ) -> Option<Result<(), Illegal>> {
        let beyond = u64::MAX.checked_shl(physical_bits.into()).unwrap_or(0);
        let address = 0xfff | beyond;
        let sound = match msr {
            CAPABILITY => false,
            DEFAULT_TYPE => value & !(0xff | FIXED_ENABLED | ENABLED) == 0 && is_type(value as u8),
            _ if is_mask(msr) => value & address & !VALID == 0,
            _ if msr < 0x250 => value & address & !0xff == 0 && is_type(value as u8),
            _ => value.to_le_bytes().into_iter().all(is_type),
        };
        let register = match msr {
            CAPABILITY => return Some(Err(Illegal)),
            DEFAULT_TYPE => &mut self.default,
            _ => self.find_mut(msr)?,
        };
        if !sound {
            return Some(Err(Illegal));
        }
        *register = value;
        Some(Ok(()))
    }

    fn find(&self, msr: u32) -> Option<&u64> {
        match fixed(msr) {
            Some(at) => self.fixed.get(at),
            None => self.variable.get(variable(msr)?),
        }
    }

    fn find_mut(&mut self, msr: u32) -> Option<&mut u64> {
        match fixed(msr) {
            Some(at) => self.fixed.get_mut(at),
            None => self.variable.get_mut(variable(msr)?),
        }
    }
}

fn fixed(msr: u32) -> Option<usize> {
    FIXED.iter().position(|&fixed| fixed == msr)
}

fn variable(msr: u32) -> Option<usize> {
    msr.checked_sub(VARIABLE).and_then(|at| usize::try_from(at).ok())
}

/// Of the variable ranges' registers, every second is a mask.
fn is_mask(msr: u32) -> bool {
    msr < 0x250 && msr & 1 != 0
}

/// Uncacheable, write combining, write through, write protected, write back.
fn is_type(byte: u8) -> bool {
    matches!(byte, 0 | 1 | 4..=6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(mtrrs: &mut Mtrrs, msr: u32, value: u64) -> bool {
        let before = *mtrrs;
        let accepted = mtrrs.write(msr, value, 36).expect("an MTRR").is_ok();
        assert_eq!(mtrrs.read(msr) == Some(value), accepted || before.read(msr) == Some(value));
        accepted
    }

    #[test]
    fn what_the_manual_reserves_is_refused() {
        let mut m = Mtrrs::default();
        assert!(set(&mut m, DEFAULT_TYPE, 0xc06) && set(&mut m, DEFAULT_TYPE, 0));
        for bad in [2, 3, 7, 0x100, 0x1000, 1 << 63] {
            assert!(!set(&mut m, DEFAULT_TYPE, bad), "{bad:#x}");
        }
        assert!(set(&mut m, 0x200, 0xf_ffff_f006) && set(&mut m, 0x20f, 0xf_ffff_f800));
        for (msr, bad) in
            [(0x200, 0x106), (0x200, 2), (0x200, 1 << 36), (0x201, 1), (0x201, 1 << 36)]
        {
            assert!(!set(&mut m, msr, bad), "{msr:#x} {bad:#x}");
        }
        assert!(set(&mut m, 0x26f, 0x0605_0401_0006_0606));
        assert!(!set(&mut m, 0x26f, 0x0605_0401_0306_0606), "one of the eight types is reserved");
        assert!(!set(&mut m, CAPABILITY, CAPABILITIES), "read-only");
    }

    #[test]
    fn there_are_as_many_as_the_capabilities_say() {
        let mut m = Mtrrs::default();
        let ranges = m.read(CAPABILITY).unwrap() as u32 & 0xff;
        for msr in 0x1f0..0x300 {
            let expected = (0x200..0x200 + 2 * ranges).contains(&msr)
                || FIXED.contains(&msr)
                || msr == DEFAULT_TYPE;
            assert_eq!(m.read(msr).is_some(), expected, "{msr:#x}");
            assert_eq!(m.write(msr, 0, 36).is_some(), expected, "{msr:#x}");
        }
    }
}
