//! The guest's ways in: memory in xAPIC mode, MSRs in x2APIC mode.

use core::ops::Deref;

use super::page::offset::{EOI, ESR, ICR_LOW, X2APIC_ICR_HIGH};
use super::registers::{X2APIC_READ, X2APIC_WRITE, XAPIC_EXISTS, XAPIC_WRITE, x2apic_reserved};
use super::source::ILLEGAL_REGISTER;
use super::{
    ApicPage, Effect, GeneralProtection, MSR_APIC_BASE, MSR_TSC_DEADLINE, MSR_X2APIC, Mode,
    VirtualApic,
};

/// The offset of the register that an x2APIC MSR stands for.
fn register(msr: u32) -> Option<u16> {
    let index = msr.checked_sub(*MSR_X2APIC.start())?;
    if MSR_X2APIC.contains(&msr) { u16::try_from(index << 4).ok() } else { None }
}

impl<P: Deref<Target = ApicPage>> VirtualApic<P> {
    /// A 32-bit read at `offset` of the page, in xAPIC mode. Reserved registers read 0 and are
    /// noted in the ESR, which may post the error interrupt: the caller looks for it. Offsets that
    /// are not a multiple of 16 read 0 without a note. In the other modes there is nothing at that
    /// address and every bit reads 1.
    pub fn mmio_read(&mut self, offset: u16, now: u64) -> u32 {
        if self.mode() != Mode::XApic {
            return u32::MAX;
        }
        if offset & 0xf != 0 {
            return 0;
        }
        if !XAPIC_EXISTS.has(offset) {
            // Its interrupt, if any, is found in the IRR.
            let _ = self.error(ILLEGAL_REGISTER);
            return 0;
        }
        self.load(offset, now)
    }

    /// A 32-bit write at `offset` of the page, in xAPIC mode. Writes to read-only registers and to
    /// offsets that are not a multiple of 16 are dropped; those to reserved registers are also
    /// noted in the ESR.
    pub fn mmio_write(&mut self, offset: u16, value: u32, now: u64) -> Effect {
        if self.mode() != Mode::XApic || offset & 0xf != 0 {
            Effect::None
        } else if XAPIC_WRITE.has(offset) {
            self.store(offset, value, now)
        } else if XAPIC_EXISTS.has(offset) {
            Effect::None
        } else {
            self.error(ILLEGAL_REGISTER)
        }
    }

    /// RDMSR of IA32_APIC_BASE, IA32_TSC_DEADLINE or an x2APIC register.
    ///
    /// # Errors
    ///
    /// Another MSR, a register that does not exist or cannot be read, or the APIC is not in x2APIC
    /// mode.
    pub fn msr_read(&self, msr: u32, now: u64) -> Result<u64, GeneralProtection> {
        match msr {
            MSR_APIC_BASE => return Ok(self.base()),
            MSR_TSC_DEADLINE => return Ok(self.deadline(now)),
            _ => {}
        }
        let offset = self.x2apic_register(msr)?;
        if !X2APIC_READ.has(offset) {
            return Err(GeneralProtection);
        }
        let high = if offset == ICR_LOW { self.page.get(X2APIC_ICR_HIGH) } else { 0 };
        Ok(u64::from(high) << 32 | u64::from(self.load(offset, now)))
    }

    /// WRMSR to IA32_APIC_BASE, IA32_TSC_DEADLINE or an x2APIC register.
    ///
    /// # Errors
    ///
    /// Another MSR, a register that does not exist or cannot be written, a reserved bit, a change
    /// of mode that is not allowed, or the APIC is not in x2APIC mode.
    pub fn msr_write(
        &mut self,
        msr: u32,
        value: u64,
        now: u64,
    ) -> Result<Effect, GeneralProtection> {
        match msr {
            MSR_APIC_BASE => return self.write_base(value),
            MSR_TSC_DEADLINE => return Ok(self.write_deadline(value, now)),
            _ => {}
        }
        let offset = self.x2apic_register(msr)?;
        if !X2APIC_WRITE.has(offset) || value & x2apic_reserved(offset) != 0 {
            return Err(GeneralProtection);
        }
        let low = value as u32;
        Ok(match offset {
            ICR_LOW => {
                let destination = (value >> 32) as u32;
                self.page.set(X2APIC_ICR_HIGH, destination);
                self.send(low, destination, u32::MAX)
            }
            ESR | EOI => self.store(offset, 0, now),
            _ => self.store(offset, low, now),
        })
    }

    fn x2apic_register(&self, msr: u32) -> Result<u16, GeneralProtection> {
        if self.mode() != Mode::X2Apic {
            return Err(GeneralProtection);
        }
        register(msr).ok_or(GeneralProtection)
    }

    /// IA32_TSC_DEADLINE: 0 when the timer is not armed or not in TSC-deadline mode.
    pub fn deadline(&self, now: u64) -> u64 {
        self.timer.deadline(now)
    }

    /// Moves the deadline without firing for the old one, which may have passed; 0 disarms.
    pub fn move_deadline(&mut self, tsc: u64) {
        self.timer.set_deadline(tsc);
    }

    /// Writes IA32_TSC_DEADLINE: 0 disarms, a time that has passed fires at once. Without effect
    /// outside TSC-deadline mode.
    pub fn write_deadline(&mut self, tsc: u64, now: u64) -> Effect {
        self.timer_writes = self.timer_writes.wrapping_add(1);
        let before = self.advance(now);
        self.timer.set_deadline(tsc);
        let fired = if before == Effect::None { self.advance(now) } else { before };
        if fired == Effect::None { Effect::Timer } else { fired }
    }
}
