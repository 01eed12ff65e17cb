use super::*;
use std::vec::Vec;

fn entry(name: &str, kind: u32, offset: u32, length: u32) -> Entry {
    let mut padded = [0; NAME];
    padded[..name.len()].copy_from_slice(name.as_bytes());
    Entry { name: padded, kind, offset, length, reserved: 0 }
}

fn bundle(entries: &[Entry], data: &[u8]) -> Vec<u8> {
    let body: Vec<u8> =
        entries.iter().flat_map(|e| e.as_bytes().to_vec()).chain(data.iter().copied()).collect();
    let header = Header {
        magic: MAGIC,
        version: VERSION,
        count: entries.len() as u32,
        length: (size_of::<Header>() + body.len()) as u32,
        checksum: checksum(&body),
    };
    [header.as_bytes(), &body].concat()
}

const DATA: u32 = 24 + 48;

fn refused(bytes: &[u8]) -> BundleError {
    Bundle::parse(bytes).err().expect("accepted")
}

#[test]
fn members_are_found_by_kind_and_name() {
    // Three entries end at 24 + 144 = 168; the data is padded to the next multiple of 16.
    let bytes = bundle(
        &[
            entry("a", Kind::Image as u32, 176, 3),
            entry("a", Kind::Vm as u32, 176, 2),
            entry("a", Kind::Initrd as u32, 176, 1),
        ],
        b"........xyz",
    );
    let bundle = Bundle::parse(&bytes).unwrap();
    assert_eq!(bundle.image("a"), Some(&b"xyz"[..]));
    assert_eq!(bundle.image("b"), None);
    assert_eq!((bundle.initrd("a"), bundle.initrd("b")), (Some(&b"x"[..]), None));
    assert_eq!(bundle.vms().collect::<Vec<_>>(), [&b"xy"[..]]);
}

#[test]
fn every_cut_is_refused() {
    let bytes = bundle(&[entry("a", Kind::Image as u32, 80, 3)], b"........xyz");
    for length in 0..bytes.len() {
        assert!(matches!(refused(&bytes[..length]), BundleError::Truncated { .. }), "{length}");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let bytes = bundle(&[entry("a", Kind::Image as u32, 80, 3)], b"........xyz");
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        // A smaller length or count is caught by the checksum or the entries.
        assert!(Bundle::parse(&damaged).is_err() || (12..16).contains(&(bit / 8)), "bit {bit}");
    }
}

#[test]
fn faults_of_entries_are_named() {
    let image = Kind::Image as u32;
    let one = |e| refused(&bundle(&[e], b"........xyz"));
    assert_eq!(one(entry("a", 7, 80, 1)), BundleError::BadKind(0));
    assert_eq!(one(entry("", image, 80, 1)), BundleError::BadName(0));
    assert_eq!(one(entry("a", image, DATA + 1, 1)), BundleError::BadRange(0), "misaligned");
    assert_eq!(one(entry("a", image, 80, 4)), BundleError::BadRange(0), "past the end");
    assert_eq!(one(entry("a", image, !15, u32::MAX)), BundleError::BadRange(0));
    let twice = [entry("a", image, 128, 1), entry("a", image, 128, 1)];
    assert_eq!(refused(&bundle(&twice, b"........xyz")), BundleError::Duplicate(1));
}
