//! What a protocol hands over, in common terms.

use core::fmt;

use crate::memory::{Text, bytes, sum, u32_at, u64_at};

/// What is handed over; a protocol that has no place for something leaves it out.
#[derive(Default)]
pub struct Told {
    /// The address of the command line.
    pub line: Option<u64>,
    /// Address and length of the module.
    pub module: Option<(u64, u64)>,
    pub map: Map,
    /// The address of the RSDP, or of a copy.
    pub rsdp: Option<u64>,
}

/// A memory map: start, end and type of each region.
#[derive(Default)]
pub struct Map {
    regions: [(u64, u64, u32); 16],
    count: usize,
}

impl Map {
    /// The next region.
    pub fn push(&mut self, start: u64, length: u64, kind: u32) {
        self.regions[self.count] = (start, start + length, kind);
        self.count += 1;
    }

    /// Start and end of each region of RAM.
    pub fn ram(&self) -> impl Iterator<Item = (u64, u64)> {
        let ram = self.regions[..self.count].iter().filter(|(_, _, kind)| *kind == 1);
        ram.map(|&(start, end, _)| (start, end))
    }

    /// Regions come in order and apart, and RAM has this.
    fn check(&self, start: u64, end: u64) {
        let regions = &self.regions[..self.count];
        assert!(regions.iter().all(|(start, end, _)| start < end), "empty regions: {self}");
        assert!(regions.windows(2).all(|w| w[0].1 <= w[1].0), "no order: {self}");
        let inside = self.ram().any(|ram| ram.0 <= start && end <= ram.1);
        assert!(inside, "{start:x}-{end:x} is not RAM: {self}");
    }
}

impl fmt::Display for Map {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ram().try_for_each(|(start, end)| write!(f, " {start:x}-{end:x}"))
    }
}

impl Told {
    /// Checks what holds for every protocol that has a memory map: the image and the module are in RAM.
    pub fn check(&self, image: (u64, u64)) {
        self.map.check(image.0, image.1);
        if let Some((start, length)) = self.module {
            self.map.check(start, start + length);
            assert!(image.1 <= start || start + length <= image.0, "the module is on the image");
        }
        if let Some(rsdp) = self.rsdp {
            check_acpi(rsdp);
        }
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(at) = self.line {
            write!(f, ", line \"{}\"", Text { at, most: 2048 })?;
        }
        if let Some((at, most)) = self.module {
            write!(f, ", module \"{}\"", Text { at, most })?;
        }
        if self.map.count > 0 {
            write!(f, ", RAM{}", self.map)?;
        }
        self.rsdp.map_or(Ok(()), |_| write!(f, ", ACPI"))
    }
}

/// Follows the RSDP to the tables that every kernel needs (ACPI specification, Root System Description
/// Pointer).
fn check_acpi(rsdp: u64) {
    assert_eq!(&bytes::<8>(rsdp), b"RSD PTR ");
    assert_eq!((sum(rsdp, 20), sum(rsdp, 36)), (0, 0), "checksums of the RSDP");
    let xsdt = u64_at(rsdp + 24);
    let length = check_table(xsdt, b"XSDT");
    let has = |name: &[u8; 4]| {
        let mut entries = (xsdt + 36..xsdt + length).step_by(8).map(u64_at);
        let table = entries.find(|&table| bytes(table) == *name);
        check_table(table.expect("a table is missing"), name)
    };
    has(b"FACP");
    has(b"APIC");
}

/// Checks a table, and gives its length.
fn check_table(at: u64, name: &[u8; 4]) -> u64 {
    let length = u32_at(at + 4).into();
    assert_eq!((&bytes::<4>(at), sum(at, length)), (name, 0));
    length
}

/// Looks for the RSDP as kernels do that are not told (ACPI specification, Finding the RSDP on IA-PC
/// Systems).
pub fn find_rsdp() -> Option<u64> {
    (0xe_0000..0x10_0000).step_by(16).find(|&at| bytes(at) == *b"RSD PTR ")
}
