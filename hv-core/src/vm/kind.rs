//! What a guest's image is, and so how its first vCPU starts.

/// The kind of an image, as a VM's description names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum ImageKind {
    /// What the image says of itself. A ROM does not say it.
    Auto = 0,
    /// An ELF file with a PVH note.
    Pvh = 1,
    /// A Linux kernel (bzImage), entered by its 64-bit boot protocol.
    Linux = 2,
    /// A Linux kernel (bzImage), entered by its 32-bit boot protocol.
    Linux32 = 3,
    /// A kernel with a header of the Multiboot Specification 0.6.96.
    Multiboot = 4,
    /// A kernel with a header of the Multiboot2 Specification.
    Multiboot2 = 5,
    /// Firmware, which ends at 4 GiB and starts in real mode at the reset vector.
    Rom = 6,
}

impl ImageKind {
    /// Every kind, in the order of their numbers.
    pub const ALL: [ImageKind; 7] = [
        ImageKind::Auto,
        ImageKind::Pvh,
        ImageKind::Linux,
        ImageKind::Linux32,
        ImageKind::Multiboot,
        ImageKind::Multiboot2,
        ImageKind::Rom,
    ];

    /// The name that users type.
    pub const fn name(self) -> &'static str {
        match self {
            ImageKind::Auto => "auto",
            ImageKind::Pvh => "pvh",
            ImageKind::Linux => "linux",
            ImageKind::Linux32 => "linux32",
            ImageKind::Multiboot => "multiboot",
            ImageKind::Multiboot2 => "multiboot2",
            ImageKind::Rom => "rom",
        }
    }

    /// The kind with this number in a packed description.
    pub const fn from_number(number: u32) -> Option<ImageKind> {
        Some(match number {
            0 => ImageKind::Auto,
            1 => ImageKind::Pvh,
            2 => ImageKind::Linux,
            3 => ImageKind::Linux32,
            4 => ImageKind::Multiboot,
            5 => ImageKind::Multiboot2,
            6 => ImageKind::Rom,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_from_its_number() {
        for (number, kind) in (0u32..).zip(ImageKind::ALL) {
            assert_eq!((kind as u32, ImageKind::from_number(number)), (number, Some(kind)));
        }
        assert_eq!(ImageKind::from_number(ImageKind::ALL.len() as u32), None);
    }
}
