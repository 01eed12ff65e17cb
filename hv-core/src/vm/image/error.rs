//! Why an image is refused, in words for whoever wrote the VM's description.

use core::fmt;

use super::layout::{HIGH_RAM, IMAGE_FLOOR, LOW_RAM_END};
use super::rom;
use crate::mem::frames::PAGE;
use crate::vm::ImageKind;

/// Why an image is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// It is no kernel of a known kind.
    Unknown,
    /// It is not what the description says.
    NotA(ImageKind),
    /// A part that its headers name lies outside of the file.
    Truncated,
    /// A field of its headers has a value that means nothing.
    Malformed(&'static str),
    /// It speaks a version of its boot protocol that is too old.
    Version {
        /// The version that it speaks.
        found: u16,
        /// The oldest that is understood.
        least: u16,
    },
    /// It insists on something that this version does not do.
    Unsupported(&'static str),
    /// It insists on a tag of its Multiboot2 header that is not understood.
    Tag(u16),
    /// It insists on boot information of a type that is not understood.
    Information(u32),
    /// It has more segments than are kept apart.
    TooManySegments,
    /// Its section headers do not fit into the boot information.
    TooManySections,
    /// Its size, in bytes, is not that of a ROM.
    RomSize(u64),
    /// The description has something that this kind of image is never given.
    NoPlace(&'static str),
    /// A part of it would not lie in RAM, or below where images may be.
    DoesNotFit {
        /// Where the part starts.
        address: u64,
        /// Its length in memory.
        length: u64,
    },
    /// A part of it would lie on another part, or on what the loader itself puts into memory.
    Overlap {
        /// Where the part starts.
        address: u64,
        /// Its length in memory.
        length: u64,
    },
    /// Beside the kernel there is no room for the initial ramdisk, or for sections that the kernel is to
    /// find in memory.
    NoRoom {
        /// The length of what has no room.
        length: u64,
    },
    /// It is no ELF file, and its Multiboot header does not say either where it goes.
    NoAddresses,
    /// The command line is longer than the kernel, or the place for it, takes.
    CommandLine {
        /// Its length in bytes.
        length: usize,
        /// The most that is taken.
        most: usize,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            ImageError::Unknown => write!(
                f,
                "the image is no kernel that can be started: neither a Linux bzImage, nor an x86 ELF file \
                 with a PVH note (XEN_ELFNOTE_PHYS32_ENTRY), nor one with a Multiboot header. Is it the \
                 right file? For a ROM, the description must say so"
            ),
            ImageError::NotA(kind) => write!(
                f,
                "the image cannot be started as {:?}: give another image, or say \"auto\"",
                kind.name()
            ),
            ImageError::Truncated => write!(f, "the image is cut off: copy or build it again"),
            ImageError::Malformed(field) => {
                write!(f, "the image's {field} makes no sense: build it again")
            }
            ImageError::Version { found, least } => write!(
                f,
                "the kernel speaks version {}.{:02} of its boot protocol, {}.{:02} is needed: take a newer one",
                found >> 8,
                found & 0xff,
                least >> 8,
                least & 0xff
            ),
            ImageError::Unsupported(what) => {
                write!(f, "the image insists on {what}, which is not there: build it without")
            }
            ImageError::Tag(kind) => write!(
                f,
                "the image insists on Multiboot2 header tag {kind}, which is not supported: mark the tag \
                 as optional"
            ),
            ImageError::Information(kind) => write!(
                f,
                "the image insists on Multiboot2 information of type {kind}, which is not understood: \
                 mark the request as optional"
            ),
            ImageError::TooManySections => write!(
                f,
                "the image asks for its section headers and has too many: strip it, or link it into fewer"
            ),
            ImageError::RomSize(size) => write!(
                f,
                "a ROM of {size} bytes: it must be a multiple of {PAGE} from {} to {}, so fill it up",
                rom::SIZE.start(),
                rom::SIZE.end()
            ),
            ImageError::NoPlace(what) => {
                write!(
                    f,
                    "this kind of image is never given {what}: leave it out of the description"
                )
            }
            ImageError::TooManySegments => {
                write!(f, "the image has too many segments: link it into fewer")
            }
            ImageError::DoesNotFit { address, length } => write!(
                f,
                "{length} bytes of the image at {address:#x} are not in RAM: give the VM more memory, or \
                 link it from {IMAGE_FLOOR:#x} to {LOW_RAM_END:#x} or above {HIGH_RAM:#x}"
            ),
            ImageError::Overlap { address, length } => write!(
                f,
                "{length} bytes of the image at {address:#x} would lie on something else: link it so \
                 that its segments are apart"
            ),
            ImageError::NoRoom { length } => write!(
                f,
                "beside the kernel there is no room for {length} bytes of the initial ramdisk, or of \
                 sections that the kernel asks for: give the VM more memory"
            ),
            ImageError::NoAddresses => write!(
                f,
                "the image has a Multiboot header without addresses, and is no x86 ELF executable: \
                 build it as one"
            ),
            ImageError::CommandLine { length, most } => write!(
                f,
                "the command line has {length} bytes, and at most {most} are taken: make it shorter"
            ),
        }
    }
}
