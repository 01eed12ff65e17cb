//! The kinds of guest images, by name.

/// What an image is, and so how it is loaded and started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// What its bytes say, a ROM excepted: nothing tells one.
    #[default]
    Auto = 0,
    /// An ELF executable with a PVH entry note.
    Pvh = 1,
    /// A Linux bzImage, by its 64-bit entry if it has one.
    Linux = 2,
    /// A Linux bzImage, by its 32-bit entry.
    Linux32 = 3,
    /// A kernel with a Multiboot header.
    Multiboot = 4,
    /// A kernel with a Multiboot2 header.
    Multiboot2 = 5,
    /// A raw ROM, which is started as a machine is: at the reset vector.
    Rom = 6,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 7] = [
        Kind::Auto,
        Kind::Pvh,
        Kind::Linux,
        Kind::Linux32,
        Kind::Multiboot,
        Kind::Multiboot2,
        Kind::Rom,
    ];

    /// The name that users type.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Auto => "auto",
            Kind::Pvh => "pvh",
            Kind::Linux => "linux",
            Kind::Linux32 => "linux32",
            Kind::Multiboot => "multiboot",
            Kind::Multiboot2 => "multiboot2",
            Kind::Rom => "rom",
        }
    }

    /// The kind with this number in a packed description.
    pub const fn from_number(number: u32) -> Option<Kind> {
        Some(match number {
            0 => Kind::Auto,
            1 => Kind::Pvh,
            2 => Kind::Linux,
            3 => Kind::Linux32,
            4 => Kind::Multiboot,
            5 => Kind::Multiboot2,
            6 => Kind::Rom,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_comes_back_from_its_number_and_has_its_own_name() {
        for (index, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!(Kind::from_number(kind as u32), Some(kind));
            assert!(Kind::ALL[..index].iter().all(|other| other.name() != kind.name()));
        }
        assert_eq!(Kind::from_number(Kind::ALL.len() as u32), None);
    }
}
