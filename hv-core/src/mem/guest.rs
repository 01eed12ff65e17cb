//! The only door to guest memory: its RAM, and its ROM if it has one.
//!
//! Guest memory is shared with the guest, which is hostile: it is copied, once, by volatile
//! accesses, into values that the hypervisor owns. No reference to it ever exists.

use core::ops::Range;
use core::ptr;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst};

use zerocopy::{FromBytes, IntoBytes};

/// A range of guest-physical addresses that is not, as a whole, memory of the VM that can be accessed so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BadAddress {
    /// Where the range starts.
    pub gpa: u64,
    /// Its length in bytes.
    pub length: u64,
}

/// Where a ROM ends.
const ROM_END: u64 = 4 << 30;

/// The RAM of one VM: guest-physical addresses from 0 up, contiguous in the host. A ROM, which is only
/// read, is another such piece, and ends at 4 GiB.
#[derive(Debug)]
pub struct GuestMemory {
    base: *mut u8,
    size: u64,
    rom: *const u8,
    rom_size: u64,
}

// SAFETY: the memory has no owner but the guest; every access is volatile and goes through
// `base`, which stays valid as `new` was promised, on whichever CPU.
unsafe impl Send for GuestMemory {}
// SAFETY: as above; concurrent accesses race like those of two CPUs on RAM, on bytes without
// meaning to the hypervisor until they are copied.
unsafe impl Sync for GuestMemory {}

impl GuestMemory {
    /// The RAM of `size` bytes at `base`.
    ///
    /// # Safety
    ///
    /// The memory is mapped, readable and writable for the life of the value, 8-byte aligned, and
    /// no Rust object lives in it.
    pub const unsafe fn new(base: *mut u8, size: u64) -> GuestMemory {
        GuestMemory { base, size, rom: ptr::null(), rom_size: 0 }
    }

    /// The same with a ROM of `size` bytes at `rom`, at most 4 GiB less the RAM.
    ///
    /// # Safety
    ///
    /// The ROM is mapped and readable for the life of the value, 8-byte aligned, and nobody writes to it.
    pub const unsafe fn with_rom(self, rom: *const u8, size: u64) -> GuestMemory {
        GuestMemory { rom, rom_size: size, ..self }
    }

    /// The RAM's size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where the ROM is; empty without one.
    pub fn rom(&self) -> Range<u64> {
        ROM_END.saturating_sub(self.rom_size)..ROM_END
    }

    /// The host's address of a guest-physical range of RAM.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] if the range wraps or is not RAM as a whole.
    pub fn locate(&self, gpa: u64, length: u64) -> Result<*mut u8, BadAddress> {
        match gpa.checked_add(length) {
            Some(end) if end <= self.size => Ok(self.base.wrapping_add(gpa as usize)),
            _ => Err(BadAddress { gpa, length }),
        }
    }

    /// As [`GuestMemory::locate`], of RAM or ROM.
    fn readable(&self, gpa: u64, length: u64) -> Result<*const u8, BadAddress> {
        match self.locate(gpa, length) {
            Ok(ram) => Ok(ram),
            Err(bad) => self.in_rom(gpa, length).ok_or(bad),
        }
    }

    fn in_rom(&self, gpa: u64, length: u64) -> Option<*const u8> {
        let rom = self.rom();
        let offset = gpa.checked_sub(rom.start)?;
        let inside = gpa.checked_add(length)? <= rom.end;
        inside.then(|| self.rom.wrapping_add(offset as usize))
    }

    /// Copies bytes out of the guest, each read once.
    ///
    /// # Errors
    ///
    /// [`BadAddress`]; then nothing was read.
    pub fn read(&self, gpa: u64, into: &mut [u8]) -> Result<(), BadAddress> {
        let from = self.readable(gpa, into.len() as u64)?;
        for (i, byte) in into.iter_mut().enumerate() {
            // SAFETY: `readable` found the whole range in the RAM that `new` vouched for, or in the ROM that
            // `with_rom` did.
            *byte = unsafe { ptr::read_volatile(from.wrapping_add(i)) };
        }
        Ok(())
    }

    /// Copies bytes into the guest.
    ///
    /// # Errors
    ///
    /// [`BadAddress`]; then nothing was written.
    pub fn write(&self, gpa: u64, bytes: &[u8]) -> Result<(), BadAddress> {
        let to = self.locate(gpa, bytes.len() as u64)?;
        for (i, &byte) in bytes.iter().enumerate() {
            // SAFETY: as in `read`.
            unsafe { ptr::write_volatile(to.wrapping_add(i), byte) };
        }
        Ok(())
    }

    /// Fills a range with zeros.
    ///
    /// # Errors
    ///
    /// [`BadAddress`]; then nothing was written.
    pub fn zero(&self, gpa: u64, length: u64) -> Result<(), BadAddress> {
        let to = self.locate(gpa, length)?;
        // SAFETY: as in `read`. The guest may race with this; the bytes have no meaning to us.
        unsafe { ptr::write_bytes(to, 0, length as usize) };
        Ok(())
    }

    /// Copies a value out of the guest.
    ///
    /// # Errors
    ///
    /// [`BadAddress`].
    pub fn read_value<T: FromBytes + IntoBytes>(&self, gpa: u64) -> Result<T, BadAddress> {
        let mut value = T::new_zeroed();
        self.read(gpa, value.as_mut_bytes())?;
        Ok(value)
    }

    /// Reads an aligned 64-bit value by one access.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] if it is neither RAM nor ROM, or not aligned.
    pub fn read_u64(&self, gpa: u64) -> Result<u64, BadAddress> {
        let from = self.readable(aligned(gpa, 8)?, 8)?;
        // SAFETY: `readable` found 8 bytes, which are aligned as their address in the guest is.
        Ok(unsafe { ptr::read_volatile(from.cast::<u64>()) })
    }

    /// Reads aligned 64-bit values that follow each other, each by one access.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] if they are not as a whole RAM or ROM, or not aligned.
    #[inline]
    pub fn read_words<const N: usize>(&self, gpa: u64) -> Result<[u64; N], BadAddress> {
        let from = self.readable(aligned(gpa, 8)?, size_of::<[u64; N]>() as u64)?;
        let from = from.cast::<u64>();
        // SAFETY: as in `read_u64`.
        Ok(core::array::from_fn(|i| unsafe { ptr::read_volatile(from.wrapping_add(i)) }))
    }

    /// Writes an aligned 64-bit value by one access.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] if it is not RAM or not aligned.
    pub fn write_u64(&self, gpa: u64, value: u64) -> Result<(), BadAddress> {
        let to = self.locate(aligned(gpa, 8)?, 8)?;
        // SAFETY: `locate` found 8 bytes of RAM, which are aligned as their address in the guest is.
        unsafe { ptr::write_volatile(to.cast::<u64>(), value) };
        Ok(())
    }

    /// Reads an aligned 32-bit value by one access.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] if it is neither RAM nor ROM, or not aligned.
    pub fn read_u32(&self, gpa: u64) -> Result<u32, BadAddress> {
        let from = self.readable(aligned(gpa, 4)?, 4)?;
        // SAFETY: as in `read_u64`.
        Ok(unsafe { ptr::read_volatile(from.cast::<u32>()) })
    }

    /// Writes an aligned 32-bit value by one access.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] if it is not RAM or not aligned.
    pub fn write_u32(&self, gpa: u64, value: u32) -> Result<(), BadAddress> {
        let to = self.locate(aligned(gpa, 4)?, 4)?;
        // SAFETY: as in `write_u64`.
        unsafe { ptr::write_volatile(to.cast::<u32>(), value) };
        Ok(())
    }

    /// Sets bits of an aligned 64-bit value, and returns what it was.
    ///
    /// # Errors
    ///
    /// [`BadAddress`] if it is not RAM or not aligned.
    #[inline(never)]
    pub fn set_bits(&self, gpa: u64, bits: u64) -> Result<u64, BadAddress> {
        let at = self.locate(aligned(gpa, 8)?, 8)?;
        // SAFETY: as in `write_u64`; whoever else writes there does it by accesses of a CPU like this one.
        Ok(unsafe { AtomicU64::from_ptr(at.cast()) }.fetch_or(bits, SeqCst))
    }

    /// Reads a value of 1, 2, 4 or 8 bytes: by one access where it is aligned, else by byte.
    ///
    /// # Errors
    ///
    /// [`BadAddress`].
    #[inline(never)]
    pub fn load(&self, gpa: u64, size: u8) -> Result<u64, BadAddress> {
        let from = self.readable(gpa, size.into())?;
        // SAFETY: `readable` found the bytes in the RAM that `new` vouched for, or in the ROM that
        // `with_rom` did; they are aligned in the host as they are in the guest.
        Ok(unsafe {
            match (size, gpa & u64::from(size).wrapping_sub(1)) {
                (8, 0) => ptr::read_volatile(from.cast::<u64>()),
                (4, 0) => ptr::read_volatile(from.cast::<u32>()).into(),
                (2, 0) => ptr::read_volatile(from.cast::<u16>()).into(),
                _ => {
                    let mut value = [0; 8];
                    self.read(gpa, value.get_mut(..size.into()).unwrap_or(&mut []))?;
                    u64::from_le_bytes(value)
                }
            }
        })
    }

    /// Writes the low `size` bytes of a value, 1, 2, 4 or 8: by one access where they are aligned, else
    /// by byte.
    ///
    /// # Errors
    ///
    /// [`BadAddress`]; then nothing was written.
    #[inline(never)]
    pub fn store(&self, gpa: u64, size: u8, value: u64) -> Result<(), BadAddress> {
        let to = self.locate(gpa, size.into())?;
        // SAFETY: as in `load`.
        unsafe {
            match (size, gpa & u64::from(size).wrapping_sub(1)) {
                (8, 0) => ptr::write_volatile(to.cast::<u64>(), value),
                (4, 0) => ptr::write_volatile(to.cast::<u32>(), value as u32),
                (2, 0) => ptr::write_volatile(to.cast::<u16>(), value as u16),
                _ => self.write(gpa, value.to_le_bytes().get(..size.into()).unwrap_or(&[]))?,
            }
        }
        Ok(())
    }

    /// Replaces the low `size` bytes of `old`, 1, 2, 4 or 8, by those of `new`; `false` if something
    /// else is there. It is atomic where the address is aligned.
    ///
    /// # Errors
    ///
    /// [`BadAddress`]; then nothing was written.
    #[inline(never)]
    pub fn replace(&self, gpa: u64, size: u8, old: u64, new: u64) -> Result<bool, BadAddress> {
        let at = self.locate(gpa, size.into())?;
        // SAFETY: as in `load`. Whoever else writes there is a CPU that runs the guest, or the
        // hypervisor by accesses like this one.
        Ok(unsafe {
            match (size, gpa & u64::from(size).wrapping_sub(1)) {
                (8, 0) => AtomicU64::from_ptr(at.cast())
                    .compare_exchange(old, new, SeqCst, SeqCst)
                    .is_ok(),
                (4, 0) => AtomicU32::from_ptr(at.cast())
                    .compare_exchange(old as u32, new as u32, SeqCst, SeqCst)
                    .is_ok(),
                (2, 0) => AtomicU16::from_ptr(at.cast())
                    .compare_exchange(old as u16, new as u16, SeqCst, SeqCst)
                    .is_ok(),
                (1, _) => AtomicU8::from_ptr(at)
                    .compare_exchange(old as u8, new as u8, SeqCst, SeqCst)
                    .is_ok(),
                _ => {
                    let same = self.load(gpa, size)? == old;
                    if same {
                        self.store(gpa, size, new)?;
                    }
                    same
                }
            }
        })
    }
}

fn aligned(gpa: u64, size: u64) -> Result<u64, BadAddress> {
    let is = gpa & size.wrapping_sub(1) == 0;
    is.then_some(gpa).ok_or(BadAddress { gpa, length: size })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    fn memory() -> (Box<[u64; 512]>, GuestMemory) {
        let mut ram = Box::new([0u64; 512]);
        // SAFETY: the box outlives the value in every test and is used through it alone.
        let memory = unsafe { GuestMemory::new(ram.as_mut_ptr().cast(), 4096) };
        (ram, memory)
    }

    #[test]
    fn what_is_written_is_read_back() {
        let (_ram, m) = memory();
        m.write(4091, b"hello").unwrap();
        let mut back = [0; 5];
        m.read(4091, &mut back).unwrap();
        assert_eq!(&back, b"hello");
        m.write_u64(8, 7).unwrap();
        assert_eq!((m.read_u64(8), m.read_u32(8), m.read_value::<u32>(12)), (Ok(7), Ok(7), Ok(0)));
        assert_eq!((m.set_bits(8, 12), m.read_u64(8)), (Ok(7), Ok(15)));
        assert!(m.set_bits(4, 1).is_err() && m.set_bits(4096, 1).is_err());
    }

    #[test]
    fn values_of_each_size_are_moved_wherever_they_are() {
        let (_ram, m) = memory();
        for size in [1u8, 2, 4, 8] {
            for gpa in 64..80 {
                let mask = u64::MAX >> (64 - 8 * u32::from(size));
                m.write(48, &[0xaa; 48]).unwrap();
                m.store(gpa, size, 0x8877_6655_4433_2211).unwrap();
                assert_eq!(m.load(gpa, size), Ok(0x8877_6655_4433_2211 & mask), "{gpa}+{size}");
                let around = [m.load(gpa - 1, 1), m.load(gpa + u64::from(size), 1)];
                assert_eq!(around, [Ok(0xaa); 2], "{gpa}+{size}");
                assert_eq!(m.replace(gpa, size, 0, 5), Ok(false));
                assert_eq!(m.replace(gpa, size, 0x8877_6655_4433_2211 & mask, 5), Ok(true));
                assert_eq!(m.load(gpa, size), Ok(5));
            }
            let outside = 4097 - u64::from(size);
            let bad = BadAddress { gpa: outside, length: size.into() };
            assert_eq!(m.load(outside, size), Err(bad));
            assert_eq!(m.store(outside, size, 1), Err(bad));
            assert_eq!(m.replace(outside, size, 0, 1), Err(bad));
        }
    }

    #[test]
    fn a_rom_ends_at_4_gib_and_is_only_read() {
        const END: u64 = 4 << 30;
        let (_ram, m) = memory();
        assert!(m.rom().is_empty() && m.read_u32(END - 4).is_err(), "there is none");
        let rom: [u64; 2] = [1, 0x1122_3344_5566_7788];
        // SAFETY: the array outlives the value, and is not written.
        let m = unsafe { m.with_rom(rom.as_ptr().cast(), 16) };
        assert_eq!(m.rom(), END - 16..END);
        assert_eq!((m.read_u64(END - 8), m.read_u32(END - 4)), (Ok(rom[1]), Ok(0x1122_3344)));
        let mut all = [0; 16];
        m.read(END - 16, &mut all).unwrap();
        assert_eq!(all[..9], [1, 0, 0, 0, 0, 0, 0, 0, 0x88]);
        for (gpa, length) in [(END - 17, 16), (END - 8, 9), (END, 1), (u64::MAX, 1)] {
            assert!(m.read(gpa, &mut all[..length]).is_err(), "{gpa:#x}+{length}");
        }
        assert!(m.write(END - 8, &[0]).is_err() && m.write_u64(END - 8, 0).is_err());
        assert!(m.write_u32(END - 8, 0).is_err() && m.zero(END - 8, 1).is_err());
        assert!(m.locate(END - 8, 8).is_err(), "the guest's own structures are not in ROM");
        assert_eq!((m.write_u64(8, 7), m.read_u64(8)), (Ok(()), Ok(7)), "RAM is what it was");
    }

    #[test]
    fn nothing_outside_of_ram_is_touched() {
        let (_ram, m) = memory();
        for (gpa, length) in [(4092, 5), (4096, 1), (u64::MAX, 1), (u64::MAX - 3, 8), (0, 4097)] {
            assert_eq!(m.locate(gpa, length), Err(BadAddress { gpa, length }), "{gpa:#x}+{length}");
        }
        assert!(m.write(4092, b"hello").is_err());
        assert_eq!(m.read_u32(4092), Ok(0), "a refused write changes nothing");
        assert!(m.read_u64(4).is_err(), "not aligned");
        assert!(m.locate(4096, 0).is_ok(), "an empty range at the end is in RAM");
    }
}
