use super::super::testing::memory;
use super::*;

const RAM: u64 = 2 << 20;

#[test]
fn the_highest_and_the_lowest_place_go_around_what_is_taken() {
    let memory = memory(RAM);
    let mut room = Room::new(&memory);
    assert_eq!(room.highest(0x1800, PAGE, 0..u64::MAX), Some(RAM - 0x2000));
    assert_eq!(room.lowest(0x1800, PAGE, 0..u64::MAX), Some(HIGH_RAM));
    room.take(RAM - 0x3000, 0x2000).unwrap();
    room.take(HIGH_RAM + 0x1000, 0x2000).unwrap();
    assert_eq!(room.highest(0x1000, PAGE, 0..u64::MAX), Some(RAM - 0x1000), "above it");
    assert_eq!(room.highest(0x1001, PAGE, 0..u64::MAX), Some(RAM - 0x5000), "below it");
    assert_eq!(room.lowest(0x1000, PAGE, 0..u64::MAX), Some(HIGH_RAM), "below it");
    assert_eq!(room.lowest(0x1001, PAGE, 0..u64::MAX), Some(HIGH_RAM + 0x3000), "above it");
    assert_eq!(room.lowest(0x1001, 0x1_0000, 0..u64::MAX), Some(HIGH_RAM + 0x1_0000), "aligned");
    let narrow = HIGH_RAM + 0x800..HIGH_RAM + 0x4000;
    assert_eq!(room.lowest(0x1000, PAGE, narrow.clone()), Some(HIGH_RAM + 0x3000));
    assert_eq!(room.highest(0x1000, PAGE, narrow.clone()), Some(HIGH_RAM + 0x3000));
    assert_eq!(room.lowest(0x1001, PAGE, narrow.clone()), None);
    assert_eq!(room.highest(0x1001, PAGE, narrow), None);
    assert_eq!(room.lowest(RAM, 1, 0..u64::MAX), None);
    assert_eq!(room.highest(u64::MAX, 1, 0..u64::MAX), None);
    assert_eq!(room.lowest(u64::MAX, 1, 0..u64::MAX), None);
}

#[test]
fn what_is_put_is_in_ram_and_apart_from_all_else() {
    let memory = memory(RAM);
    let mut room = Room::new(&memory);
    room.put(0x1_0000, b"abc", 8).unwrap();
    for (address, length) in [(0xfff9, 8), (0x1_0007, 1), (0x1_0000, 8), (0xf000, 0x2000)] {
        assert_eq!(room.put(address, b"", length), Err(ImageError::Overlap { address, length }));
    }
    room.put(0x1_0008, b"d", 1).unwrap();
    room.put(0x1_0000, b"", 0).unwrap();
    let mut bytes = [0; 9];
    memory.read(0x1_0000, &mut bytes).unwrap();
    assert_eq!(&bytes, b"abc\0\0\0\0\0d");
}
