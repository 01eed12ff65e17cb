//! The vCPU that exited as a [`Machine`].

use super::{Machine, Place, Stop};
use crate::emulate::decode::ones;
use crate::emulate::{instruction, mmio, port};
use crate::mem::paging::{self, Access, NoTranslation, Rules};
use crate::vm::exit::PortAccess;
use crate::vm::hardware::{Kept, Mode, Segment};
use crate::vm::{Event, Hardware, Leave, Vcpu};

const CR0_PE: u64 = 1 << 0;
const CR0_AM: u64 = 1 << 18;
const CR4_PKE: u64 = 1 << 22;
const EFER_NXE: u64 = 1 << 11;
const RFLAGS_VM: u64 = 1 << 17;
const RFLAGS_AC: u64 = 1 << 18;

/// A vCPU and its backend while an instruction is executed for them.
pub struct Guest<'a, H> {
    vcpu: &'a mut Vcpu,
    hardware: &'a mut H,
    mode: Mode,
    /// What page tables and ports depend on; no instruction that is executed here changes it.
    rules: Option<Rules>,
    port: Option<PortAccess>,
    /// Why the VM ends.
    end: Option<Leave>,
}

impl<'a, H: Hardware> Guest<'a, H> {
    /// For an instruction in this mode. `port`: what INS and OUTS may do, which the CPU has found to
    /// be allowed; another CPU may have changed the instruction since.
    pub fn new(
        vcpu: &'a mut Vcpu,
        hardware: &'a mut H,
        mode: Mode,
        port: Option<PortAccess>,
    ) -> Guest<'a, H> {
        Guest { vcpu, hardware, mode, rules: None, port, end: None }
    }

    #[inline(never)]
    fn rules(&mut self) -> Rules {
        if let Some(rules) = self.rules {
            return rules;
        }
        let paging = instruction::paging(self.vcpu, self.hardware);
        let pae = paging.cr4 & 1 << 5 != 0 && !paging.long_mode;
        let rules = Rules {
            no_execute: self.hardware.kept(Kept::Efer) & EFER_NXE != 0,
            user: self.hardware.cpl() == 3,
            user_pages: self.hardware.kept(Kept::Rflags) & RFLAGS_AC != 0,
            keys: if paging.cr4 & CR4_PKE != 0 { self.hardware.protection_keys() } else { 0 },
            physical_bits: self.vcpu.physical_bits,
            pointers: if pae { self.hardware.pdptes() } else { None },
            paging,
        };
        self.rules = Some(rules);
        rules
    }

    /// The guest-physical address of a linear one; CR2 is set where that is a page fault.
    ///
    /// # Errors
    ///
    /// The access faults.
    #[inline(never)]
    pub fn translate(&mut self, linear: u64, access: Access) -> Result<u64, Stop> {
        let rules = self.rules();
        paging::translate(&self.vcpu.vm.memory, &rules, linear, access).map_err(|why| match why {
            NoTranslation::Fault(code) => {
                self.hardware.set_cr2(linear);
                Stop::Fault(Event::exception(14, code))
            }
            NoTranslation::Busy => Stop::Again,
        })
    }

    #[inline(never)]
    fn read_physical(&mut self, gpa: u64, size: u8) -> u64 {
        match self.vcpu.vm.memory.load(gpa, size) {
            Ok(value) => value,
            Err(_) => mmio::device_read(self.vcpu, self.hardware, gpa, size) & ones(size),
        }
    }

    #[inline(never)]
    fn write_physical(&mut self, gpa: u64, size: u8, value: u64) -> Result<(), Stop> {
        match self.vcpu.vm.memory.store(gpa, size, value) {
            Ok(()) => Ok(()),
            Err(_) => mmio::device_write(self.vcpu, self.hardware, gpa, size, value & ones(size))
                .map_err(|leave| {
                    self.end = Some(leave);
                    Stop::End
                }),
        }
    }

    /// How the vCPU leaves after [`Stop::End`].
    pub fn end(&self) -> Option<Leave> {
        self.end
    }

    /// Ends an instruction of this length that holds interrupts off until the next one is complete.
    pub fn advance_into_shadow(&mut self, length: u32) {
        let mut rip = self.hardware.kept(Kept::Rip).wrapping_add(length.into());
        if self.mode != Mode::Code64 {
            rip &= 0xffff_ffff;
        }
        self.hardware.keep(Kept::Rip, rip);
        self.hardware.shadow();
    }

    /// Whether the exit was for this access to a port.
    fn check(&self, port: u16, size: u8, input: bool) -> Result<(), Stop> {
        let is = |asked: PortAccess| (asked.port, asked.size, asked.input) == (port, size, input);
        if self.port.is_some_and(is) { Ok(()) } else { Err(Stop::Again) }
    }
}

impl Place {
    /// The parts on the one and on the other page: address, size, and shift in the value.
    fn parts(self) -> [(u64, u8, u32); 2] {
        let rest = self.size.saturating_sub(self.split);
        [(self.first, self.split, 0), (self.second, rest, u32::from(self.split).wrapping_mul(8))]
    }

    fn whole(self) -> bool {
        self.split == self.size
    }
}

impl<H: Hardware> Machine for Guest<'_, H> {
    fn register(&mut self, number: u8) -> u64 {
        self.vcpu.gpr(self.hardware, number)
    }

    fn set_register(&mut self, number: u8, value: u64) {
        self.vcpu.set_gpr(self.hardware, number, value);
    }

    fn flags(&mut self) -> u64 {
        self.hardware.kept(Kept::Rflags)
    }

    fn set_flags(&mut self, flags: u64) {
        self.hardware.keep(Kept::Rflags, flags);
    }

    fn mode(&self) -> Mode {
        self.mode
    }

    fn protected(&mut self) -> bool {
        self.hardware.kept(Kept::Cr0) & CR0_PE != 0
            && self.hardware.kept(Kept::Rflags) & RFLAGS_VM == 0
    }

    fn privilege(&mut self) -> u8 {
        self.hardware.cpl()
    }

    fn checks_alignment(&mut self) -> bool {
        self.hardware.kept(Kept::Cr0) & CR0_AM != 0
    }

    fn segment(&mut self, number: u8) -> Segment {
        self.hardware.segment(number)
    }

    fn set_segment(&mut self, number: u8, segment: &Segment) {
        self.hardware.set_segment(number, segment);
    }

    fn gdt(&mut self) -> (u64, u32) {
        self.hardware.gdt()
    }

    fn place(&mut self, linear: u64, size: u8, access: Access) -> Result<Place, Stop> {
        const PAGE: u64 = crate::mem::frames::PAGE;
        let first = self.translate(linear, access)?;
        let on_page = PAGE.wrapping_sub(linear & PAGE.wrapping_sub(1));
        let split = u64::from(size).min(on_page) as u8;
        let mut second = first;
        if split < size {
            let mut next = linear.wrapping_add(on_page);
            if self.mode != Mode::Code64 {
                next &= 0xffff_ffff;
            }
            second = self.translate(next, access)?;
        }
        Ok(Place { first, second, split, size })
    }

    fn read(&mut self, place: Place) -> Result<u64, Stop> {
        if place.whole() {
            return Ok(self.read_physical(place.first, place.size));
        }
        let mut value = 0;
        for (gpa, size, shift) in place.parts() {
            for (byte, gpa) in (0..u32::from(size)).zip(gpa..) {
                let shift = byte.wrapping_mul(8).wrapping_add(shift);
                value |= self.read_physical(gpa, 1).wrapping_shl(shift);
            }
        }
        Ok(value)
    }

    fn write(&mut self, place: Place, value: u64) -> Result<(), Stop> {
        if place.whole() {
            return self.write_physical(place.first, place.size, value);
        }
        for (gpa, size, shift) in place.parts() {
            for (byte, gpa) in (0..u32::from(size)).zip(gpa..) {
                let shift = byte.wrapping_mul(8).wrapping_add(shift);
                self.write_physical(gpa, 1, value.wrapping_shr(shift) & 0xff)?;
            }
        }
        Ok(())
    }

    fn replace(&mut self, place: Place, old: u64, new: u64) -> Result<bool, Stop> {
        if place.whole()
            && let Ok(replaced) = self.vcpu.vm.memory.replace(place.first, place.size, old, new)
        {
            return Ok(replaced);
        }
        self.write(place, new).map(|()| true)
    }

    fn input(&mut self, number: u16, size: u8) -> Result<u32, Stop> {
        self.check(number, size, true)?;
        Ok(port::read(self.vcpu, self.hardware, number, size))
    }

    fn output(&mut self, number: u16, size: u8, value: u32) -> Result<(), Stop> {
        self.check(number, size, false)?;
        port::write(self.vcpu, self.hardware, number, size, value);
        Ok(())
    }
}
