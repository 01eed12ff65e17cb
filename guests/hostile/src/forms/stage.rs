//! Where trials take place: two pages, one of which is RAM in one run and the scratch page in the other.

use core::arch::asm;

use guest_kernel::pv;
use guest_kernel::scratch;
use x86_64::instructions::port::Port;

use super::Random;
use super::table::Special;
use super::trial::{LAST, Neighbour, PORT, Trial, WINDOW};
use crate::trip::tables::segment::{OTHER_OWN, OWN};
use crate::trip::{self, ARENA, End, MAPPED, Paging, Start, tables};

/// Bytes of a page.
pub const PAGE: u64 = 0x1000;
/// With it QEMU 7.2 pushes it again for what ends the trip.
const RF: u64 = 1 << 16;
/// An address at which there is nothing.
const NOWHERE: u64 = 0xd000_0000;

type Bytes<const N: usize> = [u8; N];
const ALL: usize = MAPPED as usize;
const ONE: usize = PAGE as usize;

/// What a run left.
#[derive(Clone, Copy, Debug)]
pub struct Taken {
    /// How it ended, and how it went on after a page fault was repaired.
    pub ends: [End; 2],
    /// What the UART's scratch register has.
    pub port: u8,
    /// Exits.
    pub exits: u64,
}

/// The memory of trials, as it is to be before both runs and as the first one left it.
pub struct Stage {
    /// The arena, but for the page that is tried.
    before: Bytes<ALL>,
    after: Bytes<ALL>,
    /// That page: what the scratch page has.
    page: Bytes<ONE>,
    /// What the run in RAM made of it.
    ram: Bytes<ONE>,
    /// Trials taken.
    taken: u64,
}

/// # Safety
///
/// `from` can be read and `to` be written, so many bytes, whose number is a multiple of 8.
unsafe fn copy(from: *const u8, to: *mut u8, bytes: usize) {
    // SAFETY: the caller's promise; the direction is up.
    unsafe {
        asm!("rep movsq", inout("rsi") from => _, inout("rdi") to => _,
            inout("rcx") bytes / 8 => _, options(nostack, preserves_flags));
    }
}

/// Reads memory of the arena, or the scratch page.
fn read<const N: usize>(at: u64, into: &mut Bytes<N>) {
    // SAFETY: both are identity mapped, and no Rust object is in them.
    unsafe { copy(at as *const u8, into.as_mut_ptr(), N) };
}

/// Writes it.
fn write<const N: usize>(at: u64, bytes: &Bytes<N>) {
    // SAFETY: as in `read`.
    unsafe { copy(bytes.as_ptr(), at as *mut u8, N) };
}

impl Stage {
    /// An empty one.
    pub fn new() -> Stage {
        trip::prepare();
        let stage =
            Stage { before: [0xcc; ALL], after: [0; ALL], page: [0; ONE], ram: [0; ONE], taken: 0 };
        stage.renew();
        stage
    }

    /// Makes the scratch page what it is to be.
    pub fn renew(&self) {
        write(scratch::PAGE, &self.page);
    }

    /// Sets memory for a trial, and returns what is at its operand.
    pub fn set(&mut self, trial: &Trial, random: &mut Random) -> u64 {
        self.before.fill(0xcc);
        let code = (trial.start.ip + trial.mode.base - ARENA.start) as usize;
        let bytes = trial.made.bytes();
        self.before[code..code + bytes.len()].copy_from_slice(bytes);
        let even = random.once_in(2).then(|| random.next() as u8);
        let window = WINDOW as usize;
        for word in self.before[window..window + 2 * ONE].chunks_exact_mut(8) {
            word.copy_from_slice(&even.map_or(random.next().to_le_bytes(), |byte| [byte; 8]));
        }
        let mut near = [0; 8];
        for place in [trial.setting.target, trial.setting.other] {
            // A few words around it, in the page that is tried.
            let at = self.in_page(trial, place);
            for (i, byte) in (0u64..64).zip(random.next().to_le_bytes().into_iter().cycle()) {
                let at = at.wrapping_sub(32).wrapping_add(i) as usize;
                if let Some(to) = self.page.get_mut(at) {
                    *to = even.unwrap_or(byte ^ i as u8);
                }
            }
        }
        if trial.form.special == Special::Selector && !random.once_in(4) {
            let selector = *random.of(&[0, trial.start.data[1], trial.start.ss, trial.start.cs]);
            self.put(trial, trial.setting.target, &selector.to_le_bytes());
        }
        for (i, byte) in (0u64..).zip(&mut near) {
            *byte = self.get(trial, trial.setting.target + i);
        }
        for place in [trial.setting.target, trial.setting.other] {
            self.write_through(self.in_page(trial, place));
        }
        u64::from_le_bytes(near)
    }

    /// The offset in the page that is tried, of an offset in the trial's segments.
    fn in_page(&self, trial: &Trial, place: u64) -> u64 {
        match trial.own {
            Some(_) => place.wrapping_sub(LAST),
            None => {
                let first = ARENA.start - trial.mode.base + WINDOW;
                place.wrapping_sub(first).wrapping_sub(u64::from(trial.second) * PAGE)
            }
        }
    }

    fn get(&self, trial: &Trial, place: u64) -> u8 {
        let at = self.in_page(trial, place) as usize;
        let neighbour = if trial.second { WINDOW } else { WINDOW + PAGE };
        let beside = neighbour.wrapping_add(at as u64 & (PAGE - 1)) as usize;
        *self.page.get(at).or(self.before.get(beside)).unwrap_or(&0)
    }

    fn put(&mut self, trial: &Trial, place: u64, bytes: &[u8]) {
        for (i, &byte) in (0u64..).zip(bytes) {
            let at = self.in_page(trial, place + i) as usize;
            if let Some(to) = self.page.get_mut(at) {
                *to = byte;
            }
        }
    }

    /// Writes the words around an offset to the scratch page.
    fn write_through(&self, at: u64) {
        let words = (0..9).map(|word| (at.wrapping_sub(32) & !7).wrapping_add(8 * word));
        for at in words.filter(|&at| at < PAGE) {
            let word = &self.page[at as usize..at as usize + 8];
            let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
            // SAFETY: the page is there, and identity mapped.
            unsafe { ((scratch::PAGE + at) as *mut u64).write_volatile(word) };
        }
    }

    /// Where the page that is tried is as RAM.
    fn ram_page(trial: &Trial) -> u64 {
        ARENA.start + WINDOW + if trial.second { PAGE } else { 0 }
    }

    /// Takes the trial, on RAM or on the scratch page.
    pub fn take(&mut self, trial: &Trial, trapped: bool) -> Taken {
        const PRESENT: u64 = 7;
        const READ_ONLY: u64 = 5;
        if trial.mode.is_unconfined() || trial.own.is_some() {
            trip::prepare();
        }
        let ram = Self::ram_page(trial);
        write(ARENA.start, &self.before);
        write(ram, &self.page);
        let tried = if trapped { scratch::PAGE } else { ram };
        let beside = if trial.second { ram - PAGE } else { ram + PAGE };
        let neighbour = match trial.neighbour {
            Neighbour::Ram => beside | PRESENT,
            Neighbour::ReadOnly => beside | READ_ONLY,
            Neighbour::Absent => 0,
            Neighbour::Nobody => NOWHERE | PRESENT,
        };
        for paging in [Paging::TwoLevels, Paging::Pae] {
            tables::set_page_entry(paging, ram, tried | PRESENT);
            tables::set_page_entry(paging, beside, neighbour);
        }
        if let Some(own) = &trial.own {
            let is_32 = trial.mode.bits == 32;
            for (selector, own) in [OWN, OTHER_OWN].into_iter().zip(own) {
                let page = match (trial.mode.is_unconfined(), own.on_window) {
                    (true, true) => tried,
                    (_, false) => ram + PAGE,
                    (false, true) => ram,
                };
                tables::set_segment(
                    selector,
                    page.wrapping_sub(LAST),
                    own.limit,
                    own.access,
                    is_32,
                );
            }
        }
        tables::allow_port(PORT);
        let mut port = Port::<u8>::new(PORT);
        // SAFETY: the UART's scratch register has no effect.
        unsafe { port.write(0x5a) };
        let exits = pv::exits().unwrap_or(0);
        let first = trip::go(&trial.start);
        let mut ends = [first, End::default()];
        let is_beside = first.cr2 & !(PAGE - 1) == beside;
        if first.vector == 14 && is_beside && trial.neighbour != Neighbour::Nobody {
            for paging in [Paging::TwoLevels, Paging::Pae] {
                tables::set_page_entry(paging, beside, beside | PRESENT);
            }
            ends[1] = trip::go(&Start {
                registers: first.registers,
                ip: first.ip,
                flags: first.flags & !RF,
                ..trial.start
            });
        }
        let exits = pv::exits().unwrap_or(0).wrapping_sub(exits);
        if !trapped {
            read(ARENA.start, &mut self.after);
            read(ram, &mut self.ram);
        }
        for end in &mut ends {
            end.cr0 = 0;
            end.cr4 = 0;
        }
        // SAFETY: as above.
        Taken { ends, port: unsafe { port.read() }, exits }
    }

    /// The first byte in which the runs differ: where it is, in RAM, and trapped. The scratch page is
    /// looked at around the operands and where RAM has changed, and as a whole once in a while.
    pub fn compare(&mut self, trial: &Trial) -> Option<(u64, u8, u8)> {
        let tried = (Self::ram_page(trial) - ARENA.start) as usize;
        let arena = ARENA.start as *const u8;
        // SAFETY: it is RAM that only trips use.
        let now = unsafe { core::slice::from_raw_parts(arena, ALL) };
        // An exception's frame has the flags in it, of which some are undefined.
        let compared = if trial.mode.is_safe_stack() { ALL } else { 3 * ONE };
        let pages = self.after[..compared].chunks(ONE).zip(now.chunks(ONE)).zip(0..);
        for ((a, b), page) in pages.filter(|(_, page)| page * ONE != tried) {
            if a != b {
                let i = a.iter().zip(b).position(|(a, b)| a != b)?;
                return Some((ARENA.start + (page * ONE + i) as u64, a[i], b[i]));
            }
        }
        let changed = |at: &usize| self.ram[*at] != self.page[*at];
        let (first, last) = ((0..ONE).find(changed), (0..ONE).rfind(changed));
        self.page = self.ram;
        let places = [trial.setting.target, trial.setting.other];
        let around = places.map(|place| self.in_page(trial, place).wrapping_sub(32));
        let range = first.zip(last).map_or(0..0, |(first, last)| first & !7..last + 1);
        let whole = if self.taken.is_multiple_of(64) { 0..ONE } else { 0..0 };
        self.taken += 1;
        around
            .into_iter()
            .flat_map(|at| (0..9).map(move |word| (at & !7).wrapping_add(8 * word)))
            .map(|at| at as usize)
            .chain(range.step_by(8))
            .chain(whole.step_by(8))
            .filter(|&at| at < ONE)
            .find_map(|at| {
                // SAFETY: the page is there, and identity mapped.
                let word = unsafe { ((scratch::PAGE + at as u64) as *const u64).read_volatile() };
                let (ram, word) = (&self.ram[at..at + 8], word.to_le_bytes());
                let i = ram.iter().zip(&word).position(|(a, b)| a != b)?;
                Some((scratch::PAGE + (at + i) as u64, ram[i], word[i]))
            })
    }
}
