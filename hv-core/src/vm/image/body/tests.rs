use super::super::testing::{bytes, memory};
use super::*;

const FILE: &[u8] = b"..headertext and data";
const HEADER: u64 = 2;
const SOUND: Addresses =
    Addresses { header: 0x10_0000, load: 0x10_0000, load_end: 0x10_000a, bss_end: 0x10_0100 };

fn piece(addresses: Addresses) -> Result<(&'static [u8], Range<u64>), ImageError> {
    match Body::find(FILE, HEADER, Some(addresses))? {
        Body::Piece { bytes, span } => Ok((bytes, span)),
        Body::Elf(_) => panic!("an ELF file"),
    }
}

#[test]
fn the_header_says_which_piece_of_the_file_goes_where() {
    let at = 0x10_0000;
    assert_eq!(piece(SOUND), Ok((&b"headertext"[..], at..at + 0x100)));
    let all = Addresses { load_end: 0, bss_end: 0, ..SOUND };
    assert_eq!(piece(all), Ok((&FILE[2..], at..at + 19)), "to the end of the file");
    let before = Addresses { load: 0xf_ffff, ..SOUND };
    assert_eq!(piece(before), Ok((&b".headertext"[..], at - 1..at + 0x100)));
    let whole = Addresses { load: u32::MAX, ..SOUND };
    assert_eq!(piece(whole), Ok((&b"..headertext"[..], at - 2..at + 0x100)), "from the beginning");
}

#[test]
fn addresses_that_contradict_each_other_or_the_file_are_refused() {
    for wrong in [
        Addresses { load: 0x10_0001, ..SOUND },
        Addresses { load: 0xf_fffd, ..SOUND },
        Addresses { load_end: 0xf_ffff, ..SOUND },
        Addresses { bss_end: 0x10_0009, ..SOUND },
        Addresses { load_end: 0x10_0000, bss_end: 0, ..SOUND },
        Addresses { header: 1, load: u32::MAX, ..SOUND },
    ] {
        assert!(matches!(piece(wrong), Err(ImageError::Malformed(_))), "{wrong:x?}");
    }
    let cut = Addresses { load_end: 0x10_0014, ..SOUND };
    assert_eq!(piece(cut), Err(ImageError::Truncated));
    assert_eq!(Body::find(FILE, HEADER, None).err(), Some(ImageError::NoAddresses));
}

#[test]
fn a_piece_is_loaded_with_zeros_behind() {
    let memory = memory(2 << 20);
    memory.write(0x10_1000, &[0; 8]).unwrap();
    let body = Body::find(FILE, HEADER, Some(SOUND)).unwrap();
    body.load(0x1000, &mut Room::new(&memory)).unwrap();
    assert_eq!(bytes(&memory, 0x10_1000, 11), b"headertext\0");
    assert_eq!(body.entry(Some(7)), Ok(7));
    assert!(body.entry(None).is_err());
}
