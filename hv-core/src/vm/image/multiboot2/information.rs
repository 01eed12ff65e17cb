//! The boot information of Multiboot2: tags, each padded to 8 bytes.

use crate::vm::image::elf::Elf;
use crate::vm::image::layout::{self, COMMAND_LINE, INFORMATION};
use crate::vm::image::room::Room;
use crate::vm::image::{ImageError, Parts, multiboot, part};

/// The type of the section headers.
pub const SECTIONS: u32 = 9;
/// The highest type that is understood. Of many it is understood that they are never there: the boot
/// device, what video hardware, APM, SMBIOS, EFI or a network would say.
pub const LAST: u32 = 21;

/// Types of the tags that are given.
mod tag {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const LOADER_NAME: u32 = 2;
    pub const MODULE: u32 = 3;
    pub const MEMORY_SIZES: u32 = 4;
    pub const MEMORY_MAP: u32 = 6;
    pub const OLD_RSDP: u32 = 14;
    pub const NEW_RSDP: u32 = 15;
    pub const LOAD_BASE: u32 = 21;
}

/// What some kernels are told and others not.
#[derive(Clone, Copy, Default)]
pub struct Asked<'a> {
    /// Where a kernel that can be moved is.
    pub load_base: Option<u32>,
    /// The executable whose sections are told.
    pub sections: Option<Elf<'a>>,
}

/// Writes the boot information and puts the module into memory.
pub fn write(parts: &Parts<'_>, asked: Asked<'_>, room: &mut Room<'_>) -> Result<(), ImageError> {
    let memory = room.memory().size();
    let module = match parts.initrd {
        Some(initrd) => {
            let start = room.put_high(initrd, u64::MAX)? as u32;
            Some([start, start.wrapping_add(initrd.len() as u32)])
        }
        None => None,
    };
    // Total size and a reserved word come first.
    let mut to = Tags { room, at: INFORMATION.wrapping_add(8) };
    to.tag(tag::COMMAND_LINE, &[parts.command_line.as_bytes(), b"\0"])?;
    to.tag(tag::LOADER_NAME, &[multiboot::LOADER])?;
    if let Some([start, end]) = module {
        to.tag(tag::MODULE, &[&start.to_le_bytes(), &end.to_le_bytes(), b"\0"])?;
    }
    let [lower, upper] = multiboot::kib(memory);
    to.tag(tag::MEMORY_SIZES, &[&lower.to_le_bytes(), &upper.to_le_bytes()])?;
    to.memory_map(memory)?;
    if let Some(rsdp) = parts.rsdp {
        to.rsdp(rsdp)?;
    }
    if let Some(base) = asked.load_base {
        to.tag(tag::LOAD_BASE, &[&base.to_le_bytes()])?;
    }
    if let Some(elf) = asked.sections {
        to.sections(elf)?;
    }
    to.tag(tag::END, &[])?;
    let size = to.at.wrapping_sub(INFORMATION) as u32;
    room.write(INFORMATION, &size.to_le_bytes())
}

/// Where the next tag goes.
struct Tags<'r, 'm> {
    room: &'r mut Room<'m>,
    at: u64,
}

impl Tags<'_, '_> {
    /// Writes bytes at an address, if the place for the boot information goes as far.
    #[inline(never)]
    fn put(&self, at: u64, bytes: &[u8]) -> Result<u64, ImageError> {
        let end = at.saturating_add(bytes.len() as u64);
        if end > COMMAND_LINE {
            return Err(ImageError::TooManySections);
        }
        self.room.write(at, bytes)?;
        Ok(end)
    }

    /// A tag with this content.
    #[inline(never)]
    fn tag(&mut self, kind: u32, content: &[&[u8]]) -> Result<(), ImageError> {
        let mut end = self.at.wrapping_add(8);
        for bytes in content {
            end = self.put(end, bytes)?;
        }
        self.end(kind, end)
    }

    /// Writes the head of a tag whose content has been written.
    fn end(&mut self, kind: u32, end: u64) -> Result<(), ImageError> {
        let size = end.wrapping_sub(self.at) as u32;
        self.put(self.at, &kind.to_le_bytes())?;
        self.put(self.at.wrapping_add(4), &size.to_le_bytes())?;
        self.at = end.next_multiple_of(8);
        Ok(())
    }

    fn memory_map(&mut self, memory: u64) -> Result<(), ImageError> {
        const ENTRY: u32 = 24;
        const VERSION: u32 = 0;
        let mut end = self.at.wrapping_add(8);
        end = self.put(end, &ENTRY.to_le_bytes())?;
        end = self.put(end, &VERSION.to_le_bytes())?;
        for region in layout::memory_map(memory) {
            for word in [region.start, region.length, region.kind().into()] {
                end = self.put(end, &word.to_le_bytes())?;
            }
        }
        self.end(tag::MEMORY_MAP, end)
    }

    /// Copies of the RSDP (ACPI specification, Root System Description Pointer): as the first version
    /// has it, if it points to an RSDT, and as later ones do.
    fn rsdp(&mut self, at: u64) -> Result<(), ImageError> {
        const OLD: usize = 20;
        let mut new = [0; 36];
        self.room
            .memory()
            .read(at, &mut new)
            .map_err(|bad| ImageError::DoesNotFit { address: bad.gpa, length: bad.length })?;
        let (old, _) = new.split_at(OLD);
        if old.get(16..OLD) != Some(&[0; 4]) {
            self.tag(tag::OLD_RSDP, &[old])?;
        }
        if old.get(15).is_some_and(|&revision| revision >= 2) {
            self.tag(tag::NEW_RSDP, &[&new])?;
        }
        Ok(())
    }

    /// The section headers. What of their contents is not loaded with the kernel, such as symbols, is put
    /// into memory here, and the copies of the headers say where.
    fn sections(&mut self, elf: Elf<'_>) -> Result<(), ImageError> {
        let table = elf.sections()?;
        let mut end = self.at.wrapping_add(8);
        for word in [table.count, table.entry_size, table.names] {
            end = self.put(end, &(word as u32).to_le_bytes())?;
        }
        for i in 0..table.count {
            let section = elf.section(&table, i)?;
            let head = end;
            end = self.put(end, section.header)?;
            if let Some(bytes) = section.unloaded {
                let address = self.room.put_high(bytes, u64::MAX)?;
                let field = section.address.clone();
                let bytes = address.to_le_bytes();
                let word = part(&bytes, 0, field.end.saturating_sub(field.start)).unwrap_or(&bytes);
                self.put(head.wrapping_add(field.start), word)?;
            }
        }
        self.end(SECTIONS, end)
    }
}
