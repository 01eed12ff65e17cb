//! What xtask needs to know about ELF files: the size in memory, and a copy without symbols.

use std::ops::Range;

use anyhow::{Context, Result, ensure};
use object::LittleEndian as Le;
use object::elf::{FileHeader64, PT_LOAD, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader};

fn segments(elf: &[u8]) -> Result<&[ProgramHeader64<Le>]> {
    let header = FileHeader64::<Le>::parse(elf).context("not a little-endian ELF64 file")?;
    Ok(header.program_headers(Le, elf)?)
}

/// Bytes of memory that the image takes: the sum of `p_memsz` of its loaded segments.
pub fn memory_size(elf: &[u8]) -> Result<u64> {
    let loaded = segments(elf)?.iter().filter(|s| s.p_type(Le) == PT_LOAD);
    Ok(loaded.map(|s| s.p_memsz(Le)).sum())
}

/// The addresses from the first loaded segment to the end of the last.
pub fn loaded(elf: &[u8]) -> Result<Range<u64>> {
    let loaded = || segments(elf).map(|all| all.iter().filter(|s| s.p_type(Le) == PT_LOAD));
    let start = loaded()?.map(|s| s.p_vaddr(Le)).min().unwrap_or(0);
    let end = loaded()?.map(|s| s.p_vaddr(Le).saturating_add(s.p_memsz(Le))).max().unwrap_or(0);
    Ok(start..end)
}

/// Of the first loaded segment, where it goes, its length in memory, and what the file has of it.
pub fn first_loaded(elf: &[u8]) -> Result<(u64, u64, &[u8])> {
    let loaded = segments(elf)?.iter().find(|s| s.p_type(Le) == PT_LOAD);
    let first = loaded.context("nothing is loaded")?;
    let bytes = first.data(Le, elf).ok().context("a segment ends behind the file")?;
    Ok((first.p_paddr(Le), first.p_memsz(Le), bytes))
}

/// The image without everything that only debuggers read. Boot loaders go by the segments, so the
/// file is cut behind the last of them and the section table is disowned.
pub fn stripped(elf: &[u8]) -> Result<Vec<u8>> {
    let header = FileHeader64::<Le>::parse(elf).context("not a little-endian ELF64 file")?;
    let table =
        header.e_phoff(Le) + u64::from(header.e_phnum(Le)) * u64::from(header.e_phentsize(Le));
    let end = segments(elf)?.iter().map(|s| s.p_offset(Le) + s.p_filesz(Le)).fold(table, u64::max);
    let mut copy =
        elf.get(..usize::try_from(end)?).context("a segment ends behind the file")?.to_vec();
    ensure!(copy.len() >= 64, "no room for an ELF header");
    copy[0x28..0x30].fill(0); // e_shoff
    copy[0x3a..0x40].fill(0); // e_shentsize, e_shnum, e_shstrndx
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::Object;

    /// An ELF file with one segment of 5 bytes that takes 4096 in memory, and a tail.
    fn sample() -> Vec<u8> {
        let mut elf = vec![0; 64 + 56];
        elf[..8].copy_from_slice(b"\x7fELF\x02\x01\x01\0");
        let mut put = |at: usize, bytes: &[u8]| elf[at..at + bytes.len()].copy_from_slice(bytes);
        put(16, &2u16.to_le_bytes());
        put(18, &62u16.to_le_bytes());
        put(20, &1u32.to_le_bytes());
        put(32, &64u64.to_le_bytes()); // e_phoff
        put(52, &64u16.to_le_bytes());
        put(54, &56u16.to_le_bytes());
        put(56, &1u16.to_le_bytes()); // e_phnum
        put(64, &1u32.to_le_bytes()); // PT_LOAD
        put(64 + 8, &120u64.to_le_bytes()); // p_offset
        put(64 + 32, &5u64.to_le_bytes()); // p_filesz
        put(64 + 40, &4096u64.to_le_bytes()); // p_memsz
        elf.extend_from_slice(b"codesymbols and sections");
        elf
    }

    #[test]
    fn the_size_counts_memory_not_file() {
        assert_eq!(memory_size(&sample()).unwrap(), 4096);
        assert_eq!(loaded(&sample()).unwrap(), 0..4096);
    }

    #[test]
    fn stripping_keeps_the_segments_and_drops_the_tail() {
        let short = stripped(&sample()).unwrap();
        assert_eq!(short.len(), 125);
        assert_eq!(memory_size(&short).unwrap(), 4096);
        let file = object::File::parse(&short[..]).unwrap();
        assert_eq!(file.sections().count(), 0);
    }

    #[test]
    fn a_segment_outside_of_the_file_is_refused() {
        let mut elf = sample();
        elf[64 + 32..64 + 40].copy_from_slice(&u64::from(u32::MAX).to_le_bytes());
        assert!(stripped(&elf).is_err());
        assert!(memory_size(b"#!/bin/sh").is_err());
    }
}
