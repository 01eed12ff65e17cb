//! vCPU state that stays in the CPU while the vCPU runs, whatever the vendor, and is switched with it:
//! see the state table in the documentation.

use core::arch::asm;

use super::instructions::wrmsr_halves;

const TSC_AUX: u32 = 0xc000_0103;

/// The saved state of a vCPU that is not on a CPU.
#[derive(Debug)]
pub struct Live {
    /// The CPU has RDTSCP, and so TSC_AUX.
    rdtscp: bool,
    tsc_aux: [u32; 2],
    debug: [u64; 4],
    /// What XSAVE writes.
    extended: &'static mut [u8],
}

impl Live {
    /// The state after reset. `rdtscp`: the CPU has RDTSCP, and so TSC_AUX.
    ///
    /// # Safety
    ///
    /// `extended` begins at a multiple of 64 and has room for FXSAVE, the header of XSAVE, and every component
    /// that the guest may have.
    pub unsafe fn new(rdtscp: bool, extended: &'static mut [u8]) -> Live {
        let mut live = Live { rdtscp, tsc_aux: [0; 2], debug: [0; 4], extended };
        live.reset();
        live
    }

    /// Brings it to the state after reset.
    pub fn reset(&mut self) {
        (self.tsc_aux, self.debug) = ([0; 2], [0; 4]);
        let bytes = &mut *self.extended;
        bytes.fill(0);
        // FCW and MXCSR as after FNINIT and reset; with XSAVE, an empty header initializes all.
        for (at, value) in [(0, 0x7f), (1, 0x03), (24, 0x80), (25, 0x1f)] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
        }
    }

    /// Puts the state into this CPU. `all`: every component that a guest may have, switched by XRSTOR
    /// whatever XCR0 says, which may change while they hold values; 0 where there is no XSAVE. XCR0 has all of
    /// them then, as [`enable_xsave`](super::cpu::enable_xsave) and [`Live::save`] leave it.
    #[inline]
    pub fn load(&self, xcr0: u64, all: u64) {
        if self.rdtscp {
            // SAFETY: the MSR comes with RDTSCP; its value was legal when it was checked. The hypervisor does
            // not use it.
            unsafe { wrmsr_halves(TSC_AUX, self.tsc_aux) };
        }
        for (number, &value) in (0..).zip(&self.debug) {
            set_debug_register(number, value);
        }
        let area = self.extended.as_ptr();
        // SAFETY: the area is 64-byte aligned, large enough for every component in `all`, and was
        // written by `save` with the same `all` or is the initial one, so XRSTOR finds no bit that
        // XCR0 lacks. The guest's XCR0 was checked. The hypervisor is compiled without vector
        // registers, so nothing of its own is lost.
        unsafe {
            // Some AMD CPUs restore the x87 pointers only with an exception pending: those of another
            // guest must not stay.
            asm!("fninit", options(nomem, nostack));
            if all != 0 {
                asm!("xrstor64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
                if xcr0 != all {
                    set_xcr0(xcr0);
                }
            } else {
                asm!("fxrstor64 [{}]", in(reg) area, options(nostack));
            }
        }
    }

    /// Takes the state from this CPU, and returns the guest's XCR0: `xcr0` unless it `changes` that without an exit.
    #[inline]
    pub fn save(&mut self, xcr0: u64, all: u64, changes: bool) -> u64 {
        for (number, value) in (0..).zip(&mut self.debug) {
            *value = debug_register(number);
        }
        let area = self.extended.as_mut_ptr();
        // SAFETY: as in `load`.
        unsafe {
            if all == 0 {
                asm!("fxsave64 [{}]", in(reg) area, options(nostack));
                return xcr0;
            }
            let xcr0 = if changes { get_xcr0() } else { xcr0 };
            if xcr0 != all {
                set_xcr0(all);
            }
            asm!("xsave64 [{}]", in(reg) area, in("eax") u32::MAX, in("edx") u32::MAX, options(nostack));
            xcr0
        }
    }

    /// TSC_AUX was written.
    pub fn set_tsc_aux(&mut self, value: u64) {
        self.tsc_aux = [value as u32, (value >> 32) as u32];
    }
}

/// Sets XCR0.
///
/// # Safety
///
/// The CPU has XSAVE and CR4.OSXSAVE is on; the value is legal.
pub unsafe fn set_xcr0(value: u64) {
    // SAFETY: as the caller vouches.
    unsafe {
        asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, nomem));
    }
}

/// XCR0.
///
/// # Safety
///
/// The CPU has XSAVE and CR4.OSXSAVE is on.
pub unsafe fn get_xcr0() -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: as the caller vouches.
    unsafe {
        asm!("xgetbv", in("ecx") 0, out("eax") low, out("edx") high, options(nostack, nomem));
    }
    u64::from(high) << 32 | u64::from(low)
}

/// DR0 to DR3 or DR6.
pub fn debug_register(number: u8) -> u64 {
    let value: u64;
    // SAFETY: reading a debug register has no effect; the hypervisor's DR7 has no breakpoint on.
    unsafe {
        match number {
            0 => asm!("mov {}, dr0", out(reg) value, options(nomem, nostack)),
            1 => asm!("mov {}, dr1", out(reg) value, options(nomem, nostack)),
            2 => asm!("mov {}, dr2", out(reg) value, options(nomem, nostack)),
            3 => asm!("mov {}, dr3", out(reg) value, options(nomem, nostack)),
            _ => asm!("mov {}, dr6", out(reg) value, options(nomem, nostack)),
        }
    }
    value
}

/// Sets DR0 to DR3 or DR6; the upper half of DR6 must be 0.
pub fn set_debug_register(number: u8, value: u64) {
    // SAFETY: an exit loads DR7 with 400h, so no breakpoint is on in the hypervisor, whatever the
    // addresses are.
    unsafe {
        match number {
            0 => asm!("mov dr0, {}", in(reg) value, options(nomem, nostack)),
            1 => asm!("mov dr1, {}", in(reg) value, options(nomem, nostack)),
            2 => asm!("mov dr2, {}", in(reg) value, options(nomem, nostack)),
            3 => asm!("mov dr3, {}", in(reg) value, options(nomem, nostack)),
            _ => asm!("mov dr6, {}", in(reg) value, options(nomem, nostack)),
        }
    }
}

/// Sets CR2.
pub fn set_cr2(value: u64) {
    // SAFETY: CR2 has no effect; the hypervisor reads it only when it reports its own fault.
    unsafe { asm!("mov cr2, {}", in(reg) value, options(nostack, nomem, preserves_flags)) };
}

/// The guest's PKRU, which stays in the CPU.
pub fn protection_keys() -> u32 {
    const PKE: u64 = 1 << 22;
    use x86_64::registers::control::Cr4;
    let cr4 = Cr4::read_raw();
    let keys: u32;
    // SAFETY: it is asked for only where the guest has CR4.PKE, so the CPU has it. The hypervisor has no
    // user pages, which are all that it concerns.
    unsafe {
        Cr4::write_raw(cr4 | PKE);
        asm!("rdpkru", out("eax") keys, out("edx") _, in("ecx") 0, options(nostack, nomem));
        Cr4::write_raw(cr4);
    }
    keys
}
