//! What an instruction asks of the machine.

use super::Stop;
use crate::mem::paging::Access;
use crate::vm::hardware::{Mode, Segment};

/// The machine as an instruction sees it. Registers are named by their numbers in encodings, segment
/// registers likewise: ES, CS, SS, DS, FS, GS.
pub trait Machine {
    /// A general register.
    fn register(&mut self, number: u8) -> u64;
    /// Sets a general register.
    fn set_register(&mut self, number: u8, value: u64);
    /// RFLAGS.
    fn flags(&mut self) -> u64;
    /// Sets RFLAGS.
    fn set_flags(&mut self, flags: u64);
    /// How instructions are read.
    fn mode(&self) -> Mode;
    /// Protected mode, and not virtual-8086 mode.
    fn protected(&mut self) -> bool;
    /// The privilege level.
    fn privilege(&mut self) -> u8;
    /// CR0.AM.
    fn checks_alignment(&mut self) -> bool;
    /// A segment register, or LDTR as number 6.
    fn segment(&mut self, number: u8) -> Segment;
    /// Loads a segment register's hidden parts and selector.
    fn set_segment(&mut self, number: u8, segment: &Segment);
    /// Base and limit of the GDT.
    fn gdt(&mut self) -> (u64, u32);
    /// Makes an access to linear memory ready.
    ///
    /// # Errors
    ///
    /// The access faults.
    fn place(&mut self, linear: u64, size: u8, access: Access) -> Result<Place, Stop>;
    /// Loads.
    ///
    /// # Errors
    ///
    /// A device ends the VM.
    fn read(&mut self, place: Place) -> Result<u64, Stop>;
    /// Stores the low bytes of `value`.
    ///
    /// # Errors
    ///
    /// A device ends the VM.
    fn write(&mut self, place: Place, value: u64) -> Result<(), Stop>;
    /// Stores `new` where `old` was read, or says `false` because memory has changed: in one step
    /// where it is RAM and aligned.
    ///
    /// # Errors
    ///
    /// A device ends the VM.
    fn replace(&mut self, place: Place, old: u64, new: u64) -> Result<bool, Stop>;
    /// IN.
    ///
    /// # Errors
    ///
    /// This access was not asked for.
    fn input(&mut self, port: u16, size: u8) -> Result<u32, Stop>;
    /// OUT.
    ///
    /// # Errors
    ///
    /// This access was not asked for.
    fn output(&mut self, port: u16, size: u8, value: u32) -> Result<(), Stop>;
}

/// Where up to 8 bytes of linear memory are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The address of the first byte.
    pub first: u64,
    /// The address of the first byte on the second page.
    pub second: u64,
    /// How many bytes are on the first page.
    pub split: u8,
    /// How many bytes there are.
    pub size: u8,
}
