use super::*;
use crate::vm::testing::{Fake, vcpu};
use crate::vm::{Event, Gpr};

fn write(v: &mut Vcpu, h: &mut Fake, number: u8, value: u64) -> Outcome {
    v.registers.set(Gpr::Rbx, value);
    mov_dr(v, h, number, 3, false)
}

fn read(v: &mut Vcpu, h: &mut Fake, number: u8) -> u64 {
    assert_eq!(mov_dr(v, h, number, 1, true), Outcome::Advance);
    v.registers.get(Gpr::Rcx)
}

#[test]
fn addresses_are_kept_whole() {
    let (mut v, mut h) = vcpu();
    for number in 0..4 {
        let address = 0xffff_8000_0000_0000 | u64::from(number);
        assert_eq!(write(&mut v, &mut h, number, address), Outcome::Advance);
        assert_eq!(read(&mut v, &mut h, number), address);
    }
}

#[test]
fn status_and_control_have_fixed_bits() {
    let (mut v, mut h) = vcpu();
    assert_eq!(write(&mut v, &mut h, 6, 0xffff_ffff), Outcome::Advance);
    assert_eq!(read(&mut v, &mut h, 6), 0xffff_efff, "bit 12 is 0");
    write(&mut v, &mut h, 6, 0);
    assert_eq!(read(&mut v, &mut h, 6), 0xffff_0ff0);
    assert_eq!(write(&mut v, &mut h, 7, 0xffff_dfff), Outcome::Advance);
    assert_eq!(read(&mut v, &mut h, 7), 0xffff_0fff);
    write(&mut v, &mut h, 7, 0);
    assert_eq!(read(&mut v, &mut h, 7), 0x400);
    for number in [6, 7] {
        let before = (h.dr, h.kept);
        assert_eq!(write(&mut v, &mut h, number, 1 << 32), Outcome::PROTECTION);
        assert_eq!((h.dr, h.kept), before);
    }
}

#[test]
fn dr4_and_dr5_are_others_unless_debug_extensions_are_on() {
    let (mut v, mut h) = vcpu();
    write(&mut v, &mut h, 4, 0xf);
    assert_eq!((h.dr[6], read(&mut v, &mut h, 4)), (0xffff_0fff, 0xffff_0fff));
    write(&mut v, &mut h, 5, 0x3);
    assert_eq!((h.get(Kept::Dr7), read(&mut v, &mut h, 5)), (0x403, 0x403));
    h.set(Kept::Cr4, 1 << 3);
    for (number, is_read) in [(4, true), (4, false), (5, true), (5, false)] {
        assert_eq!(mov_dr(&mut v, &mut h, number, 3, is_read), Outcome::UNDEFINED);
    }
    assert_eq!(read(&mut v, &mut h, 6), 0xffff_0fff);
}

#[test]
fn general_detect_traps_the_access_itself() {
    for is_read in [true, false] {
        let (mut v, mut h) = vcpu();
        h.set(Kept::Dr7, 1 << 13 | 0x401);
        v.registers.set(Gpr::Rbx, 0x1234);
        let outcome = mov_dr(&mut v, &mut h, 0, 3, is_read);
        assert_eq!(outcome, Outcome::Inject(Event::exception(1, 0)));
        assert_eq!((h.dr[0], v.registers.get(Gpr::Rbx)), (0, 0x1234), "the access is not done");
        assert_eq!((h.dr[6] & 1 << 13, h.get(Kept::Dr7)), (1 << 13, 0x401));
        // The handler's own accesses pass.
        assert_eq!(mov_dr(&mut v, &mut h, 0, 3, is_read), Outcome::Advance);
    }
    let (mut v, mut h) = vcpu();
    h.set(Kept::Dr7, 1 << 13);
    h.set(Kept::Cr4, 1 << 3);
    assert_eq!(mov_dr(&mut v, &mut h, 4, 3, true), Outcome::UNDEFINED, "#UD goes first");
}
