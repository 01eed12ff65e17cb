use proptest::prelude::*;
use std::string::ToString;
use std::vec::Vec;

use super::testing::{load, memory, parts, survives};
use super::*;

#[test]
fn what_is_no_kernel_is_refused() {
    for image in [&b""[..], b"MZ", &[0; 4096], &[0xff; 100]] {
        assert_eq!(load(image, "", &memory(2 << 20)), Err(ImageError::Unknown));
        for kind in ImageKind::ALL {
            let parts = Parts { kind, ..parts(image, "") };
            assert!(super::load(&parts, &memory(2 << 20)).is_err(), "{kind:?}");
        }
    }
    let error = ImageError::NotA(ImageKind::Linux32).to_string();
    assert!(error.contains("linux32") && error.contains("auto"), "{error}");
}

/// Where each of the marks that tell the formats apart is, if there is room.
fn with_marks(mut image: Vec<u8>, marks: u8) -> Vec<u8> {
    let marked: [&[(usize, &[u8])]; 4] = [
        &[(0x1fe, b"\x55\xaa"), (0x202, b"HdrS\x0f\x02")],
        &[(0, b"\x7fELF\x02\x01"), (16, b"\x02\0\x3e\0"), (54, b"\x38\0")],
        &[(64, b"\x02\xb0\xad\x1b\0\0\0\0\xfe\x4f\x52\xe4")],
        &[(80, b"\xd6\x50\x52\xe8\0\0\0\0\x18\0\0\0\x12\xaf\xad\x17\0\0\0\0\x08\0\0\0")],
    ];
    for (bit, parts) in marked.into_iter().enumerate() {
        for (at, bytes) in parts.iter().filter(|_| marks & 1 << bit != 0) {
            if let Some(to) = image.get_mut(*at..at + bytes.len()) {
                to.copy_from_slice(bytes);
            }
        }
    }
    image
}

#[test]
fn the_formats_are_told_apart_by_their_marks() {
    use ImageKind::{Auto, Linux, Multiboot, Multiboot2};
    for (marks, expected) in
        [(0, Auto), (1, Linux), (2, Auto), (4, Multiboot), (8, Multiboot2), (12, Multiboot2)]
    {
        let image = with_marks([0; 1024].to_vec(), marks);
        assert_eq!(kind(&parts(&image, "")), Ok(expected), "{marks}");
        let said = Parts { kind: ImageKind::Rom, ..parts(&image, "") };
        assert_eq!(kind(&said), Ok(ImageKind::Rom), "what is said counts");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn random_bytes_are_answered(
        bytes in prop::collection::vec(any::<u8>(), 1..2048),
        marks: u8,
        kind in prop::sample::select(ImageKind::ALL.to_vec()),
    ) {
        survives(&with_marks(bytes, marks), &[], kind);
    }
}
