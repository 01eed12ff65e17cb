use std::vec;
use std::vec::Vec;

use super::arithmetic::flag;
use super::*;
use crate::emulate::decode::{Part, decode, ones};
use crate::mem::paging::Access;
use crate::vm::hardware::{Mode, Segment};
use crate::vm::testing::FLAT;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod against_the_cpu;
mod faults;
mod operations;
mod random_bytes;
mod strings;

/// A machine with a piece of memory at `base`, and nothing elsewhere.
struct Plain {
    mode: Mode,
    protected: bool,
    privilege: u8,
    alignment: bool,
    registers: [u64; 16],
    flags: u64,
    segments: [Segment; 7],
    gdt: (u64, u32),
    base: u64,
    memory: Vec<u8>,
    /// Linear addresses from here to there cannot be written.
    read_only: core::ops::Range<u64>,
    /// Replacements that fail because somebody else was there first.
    contended: u32,
    /// Reads, writes, replacements.
    counts: [u32; 3],
    /// What was written to ports.
    ports: Vec<(u16, u8, u32)>,
    /// Loads of segment registers.
    loaded: Vec<(u8, Segment)>,
}

impl Plain {
    fn new(mode: Mode, base: u64, memory: Vec<u8>) -> Plain {
        Plain {
            mode,
            protected: true,
            privilege: 0,
            alignment: false,
            registers: [0; 16],
            flags: 2,
            segments: [FLAT; 7],
            gdt: (0, 0),
            base,
            memory,
            read_only: 0..0,
            contended: 0,
            counts: [0; 3],
            ports: Vec::new(),
            loaded: Vec::new(),
        }
    }

    fn run(&mut self, code: &[u8], budget: u32) -> Result<Done, Stop> {
        let instruction = decode(code, self.mode, 0x1000).expect("an instruction");
        assert_eq!(instruction.len(), code.len(), "{code:x?}");
        execute(self, &instruction, budget)
    }

    fn bytes(&mut self, place: Place) -> &mut [u8] {
        let at = (place.first - self.base) as usize;
        &mut self.memory[at..at + usize::from(place.size)]
    }

    /// Everything that an instruction may change.
    fn all(&self) -> ([u64; 16], u64, Vec<u8>, usize) {
        (self.registers, self.flags, self.memory.clone(), self.loaded.len())
    }
}

impl Machine for Plain {
    fn register(&mut self, number: u8) -> u64 {
        self.registers[usize::from(number)]
    }
    fn set_register(&mut self, number: u8, value: u64) {
        self.registers[usize::from(number)] = value;
    }
    fn flags(&mut self) -> u64 {
        self.flags
    }
    fn set_flags(&mut self, flags: u64) {
        self.flags = flags;
    }
    fn mode(&self) -> Mode {
        self.mode
    }
    fn protected(&mut self) -> bool {
        self.protected
    }
    fn privilege(&mut self) -> u8 {
        self.privilege
    }
    fn checks_alignment(&mut self) -> bool {
        self.alignment
    }
    fn segment(&mut self, number: u8) -> Segment {
        self.segments[usize::from(number)]
    }
    fn set_segment(&mut self, number: u8, segment: &Segment) {
        self.segments[usize::from(number)] = *segment;
        self.loaded.push((number, *segment));
    }
    fn gdt(&mut self) -> (u64, u32) {
        self.gdt
    }
    fn place(&mut self, linear: u64, size: u8, access: Access) -> Result<Place, Stop> {
        for at in (0..u64::from(size)).map(|byte| linear.wrapping_add(byte)) {
            let there = at.wrapping_sub(self.base) < self.memory.len() as u64;
            if !there || access.writes() && self.read_only.contains(&at) {
                let code = u32::from(there) | u32::from(access.writes()) << 1;
                return Err(Stop::Fault(Event::exception(14, code)));
            }
        }
        Ok(Place { first: linear, second: linear, split: size, size })
    }
    fn read(&mut self, place: Place) -> Result<u64, Stop> {
        self.counts[0] += 1;
        let mut value = [0; 8];
        value[..usize::from(place.size)].copy_from_slice(self.bytes(place));
        Ok(u64::from_le_bytes(value))
    }
    fn write(&mut self, place: Place, value: u64) -> Result<(), Stop> {
        self.counts[1] += 1;
        self.bytes(place).copy_from_slice(&value.to_le_bytes()[..usize::from(place.size)]);
        Ok(())
    }
    fn replace(&mut self, place: Place, old: u64, new: u64) -> Result<bool, Stop> {
        self.counts[2] += 1;
        if self.contended > 0 {
            self.contended -= 1;
            self.bytes(place)[0] ^= 0x80;
            return Ok(false);
        }
        assert_eq!(self.read(place)?, old);
        self.counts[0] -= 1;
        self.bytes(place).copy_from_slice(&new.to_le_bytes()[..usize::from(place.size)]);
        Ok(true)
    }
    fn input(&mut self, port: u16, size: u8) -> Result<u32, Stop> {
        self.ports.push((port, size, u32::MAX));
        Ok(0x4433_2211u32.wrapping_add(self.ports.len() as u32))
    }
    fn output(&mut self, port: u16, size: u8, value: u32) -> Result<(), Stop> {
        self.ports.push((port, size, value));
        Ok(())
    }
}

const AT: u64 = 0x4000;

/// A machine with 0x2000 bytes of 0x11 at 0x4000.
fn plain(mode: Mode) -> Plain {
    Plain::new(mode, AT, vec![0x11; 0x2000])
}
