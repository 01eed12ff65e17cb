//! The bundle: one file that carries guest images, initial RAM disks and VM descriptions into the hypervisor, the
//! same on every boot path.
//!
//! It is made by `xtask` with [`Header`] and [`Entry`] and taken apart here, where nothing in it is
//! believed before it is checked.

extern crate alloc;

use alloc::vec::Vec;
use core::fmt;
use core::str;

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// The first bytes of a bundle.
pub const MAGIC: [u8; 8] = *b"PVBUNDLE";
/// The version of the format.
pub const VERSION: u32 = 2;
/// The longest name of an entry in bytes.
pub const NAME: usize = 32;
/// Alignment of members in a bundle, in bytes.
pub const ALIGN: usize = 16;
/// The most entries that a bundle may have.
pub const MAX_ENTRIES: usize = 64;

/// The start of a bundle. All numbers are little endian.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Header {
    /// [`MAGIC`].
    pub magic: [u8; 8],
    /// [`VERSION`].
    pub version: u32,
    /// Number of [`Entry`]s that follow.
    pub count: u32,
    /// Length of the whole bundle in bytes.
    pub length: u32,
    /// [`checksum`] of everything behind the header.
    pub checksum: u32,
}

/// One member of a bundle.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Entry {
    /// Its name, padded with zeros.
    pub name: [u8; NAME],
    /// A [`Kind`].
    pub kind: u32,
    /// Where it starts, in bytes from the start of the bundle; a multiple of [`ALIGN`].
    pub offset: u32,
    /// Its length in bytes.
    pub length: u32,
    /// 0.
    pub reserved: u32,
}

const _: () = assert!(size_of::<Header>() == 24 && size_of::<Entry>() == 48);

/// What a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// A [`crate::vm::desc::VmDesc`].
    Vm = 1,
    /// A guest's image.
    Image = 2,
    /// A guest's initial RAM disk.
    Initrd = 3,
}

/// Why a bundle is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BundleError {
    /// There is none.
    Missing,
    /// It is shorter than its header, or than its header says.
    Truncated {
        /// What it would have to be.
        expected: usize,
        /// What it is.
        found: usize,
    },
    /// It does not start with [`MAGIC`].
    BadMagic,
    /// It is of another version.
    BadVersion(u32),
    /// Its checksum does not fit its contents.
    BadChecksum,
    /// It has more than [`MAX_ENTRIES`].
    TooManyEntries(u32),
    /// The name of this entry is empty, not UTF-8, or not padded with zeros.
    BadName(usize),
    /// This entry is of no known kind.
    BadKind(usize),
    /// This entry lies outside of the bundle or is misplaced.
    BadRange(usize),
    /// This entry has the name and kind of one before it.
    Duplicate(usize),
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            BundleError::Missing => {
                write!(f, "no boot module: pass the bundle as module or initrd")
            }
            BundleError::Truncated { expected, found } => {
                write!(
                    f,
                    "the bundle is cut off: {found} bytes instead of {expected}; build it again"
                )
            }
            BundleError::BadMagic => write!(f, "the boot module is not a Paravane bundle"),
            BundleError::BadVersion(v) => {
                write!(
                    f,
                    "bundle version {v}, this hypervisor reads {VERSION}; build both together"
                )
            }
            BundleError::BadChecksum => {
                write!(f, "the bundle is damaged: its checksum does not fit")
            }
            BundleError::TooManyEntries(n) => {
                write!(f, "{n} bundle entries, at most {MAX_ENTRIES}")
            }
            BundleError::BadName(i) => write!(f, "bundle entry {i} has a malformed name"),
            BundleError::BadKind(i) => write!(f, "bundle entry {i} is of an unknown kind"),
            BundleError::BadRange(i) => write!(f, "bundle entry {i} lies outside of the bundle"),
            BundleError::Duplicate(i) => {
                write!(f, "bundle entry {i} has the name of an earlier one")
            }
        }
    }
}

/// A check of damage, not of who made it. It takes a word at a time, as bundles hold whole kernels: the
/// last word is filled up with zeros, which the bundle's length tells apart.
pub fn checksum(bytes: &[u8]) -> u32 {
    // What differs in one word differs in every state after it, as each step can be undone.
    let step =
        |state: u64, word: u64| (state.rotate_left(5) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let (words, rest) = bytes.as_chunks::<8>();
    let state = words.iter().fold(0, |state, word| step(state, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    for (place, byte) in last.iter_mut().zip(rest) {
        *place = *byte;
    }
    let state = step(state, u64::from_le_bytes(last));
    (state ^ state >> 32) as u32
}

/// A bundle that has been checked.
pub struct Bundle<'a> {
    /// Kind, name and bytes of each; there are at most [`MAX_ENTRIES`].
    members: Vec<(u32, &'a str, &'a [u8])>,
    vms: [Option<&'a [u8]>; MAX_ENTRIES],
}

impl<'a> Bundle<'a> {
    /// Checks a bundle whole.
    ///
    /// # Errors
    ///
    /// The first fault found, as [`BundleError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Bundle<'a>, BundleError> {
        let (header, rest) = Header::read_from_prefix(bytes).map_err(|_| {
            BundleError::Truncated { expected: size_of::<Header>(), found: bytes.len() }
        })?;
        if header.magic != MAGIC {
            return Err(BundleError::BadMagic);
        }
        if header.version != VERSION {
            return Err(BundleError::BadVersion(header.version));
        }
        let truncated =
            || BundleError::Truncated { expected: header.length as usize, found: bytes.len() };
        let body = (header.length as usize)
            .checked_sub(size_of::<Header>())
            .and_then(|length| rest.get(..length))
            .ok_or_else(truncated)?;
        if checksum(body) != header.checksum {
            return Err(BundleError::BadChecksum);
        }
        if header.count as usize > MAX_ENTRIES {
            return Err(BundleError::TooManyEntries(header.count));
        }
        let whole = bytes.get(..header.length as usize).ok_or_else(truncated)?;

        let mut bundle = Bundle { members: Vec::new(), vms: [None; MAX_ENTRIES] };
        let mut table = body;
        for index in 0..header.count as usize {
            let (entry, rest) = Entry::read_from_prefix(table).map_err(|_| truncated())?;
            // The name is borrowed from the bundle, not from the copy of the entry.
            let name = table.get(..NAME).and_then(name).ok_or(BundleError::BadName(index))?;
            bundle.add(whole, index, &entry, name)?;
            table = rest;
        }
        Ok(bundle)
    }

    fn add(
        &mut self,
        whole: &'a [u8],
        index: usize,
        entry: &Entry,
        name: &'a str,
    ) -> Result<(), BundleError> {
        let first = size_of::<Header>();
        let start = entry.offset as usize;
        let member = start
            .checked_add(entry.length as usize)
            .and_then(|end| whole.get(start..end))
            .filter(|_| start >= first && start.is_multiple_of(ALIGN))
            .ok_or(BundleError::BadRange(index))?;
        if entry.kind == Kind::Vm as u32 {
            let free = self.vms.iter_mut().find(|v| v.is_none());
            *free.ok_or(BundleError::TooManyEntries(entry.kind))? = Some(member);
        } else if ![Kind::Image as u32, Kind::Initrd as u32].contains(&entry.kind) {
            return Err(BundleError::BadKind(index));
        }
        if self.member(entry.kind, name).is_some() {
            return Err(BundleError::Duplicate(index));
        }
        self.members.push((entry.kind, name, member));
        Ok(())
    }

    fn member(&self, kind: u32, name: &str) -> Option<&'a [u8]> {
        self.members.iter().find(|m| (m.0, m.1) == (kind, name)).map(|m| m.2)
    }

    /// The image with this name.
    pub fn image(&self, name: &str) -> Option<&'a [u8]> {
        self.member(Kind::Image as u32, name)
    }

    /// The initial RAM disk with this name.
    pub fn initrd(&self, name: &str) -> Option<&'a [u8]> {
        self.member(Kind::Initrd as u32, name)
    }

    /// The packed VM descriptions, in the order of the bundle.
    pub fn vms(&self) -> impl Iterator<Item = &'a [u8]> + '_ {
        self.vms.iter().map_while(|v| *v)
    }
}

/// A zero-padded name: not empty, UTF-8, nothing behind the first zero.
#[inline(never)]
pub fn name(bytes: &[u8]) -> Option<&str> {
    let end = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    let (text, padding) = bytes.split_at_checked(end)?;
    let text = str::from_utf8(text).ok()?;
    (!text.is_empty() && padding.iter().all(|&b| b == 0)).then_some(text)
}

#[cfg(test)]
mod tests;
