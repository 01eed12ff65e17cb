//! The modes of ICW1, ICW4, OCW2 and OCW3.

use super::*;

#[test]
fn ltim_makes_every_line_level_triggered() {
    let mut pics = pair(0x19, 0x01);
    for irq in [0, 8] {
        pics.set_line(irq, true);
        for _ in 0..2 {
            assert_eq!(take_all(&mut pics), [0x20 + irq]);
            pics.write(SlaveCommand, NON_SPECIFIC_EOI);
            pics.write(MasterCommand, NON_SPECIFIC_EOI);
        }
        pics.set_line(irq, false);
        assert!(!pics.output());
    }
}

#[test]
fn a_level_that_is_there_at_initialization_is_a_request() {
    let mut pics = started();
    pics.set_line(3, true);
    initialize(&mut pics, MasterCommand, MasterData, [0x19, 0x20, 0x04, 0x01]);
    assert_eq!(take_all(&mut pics), [0x23]);
}

#[test]
fn a_single_master_has_no_icw3_and_no_slave() {
    let mut pics = started();
    initialize(&mut pics, MasterCommand, MasterData, [0x13, 0x40, 0xee, 0x01]);
    pics.set_line(8, true);
    assert_eq!((pics.acknowledge(), isr(&mut pics)), (0x42, [0x04, 0]));
    pics.write(MasterData, 0xa5);
    assert_eq!(pics.read(MasterData), 0xa5, "the sequence is over");
}

#[test]
fn without_icw4_the_chip_is_in_mcs_80_mode_and_gives_a_call_address() {
    for (icw1, interval, address) in [(0x10 | 0xa0, 8, 0x80), (0x14 | 0xa0, 4, 0xa0)] {
        let mut pics = started();
        initialize(&mut pics, MasterCommand, MasterData, [0x11, 0x40, 0x04, 0x13]);
        initialize(&mut pics, MasterCommand, MasterData, [icw1, 0x40, 0x04, 0]);
        pics.write(MasterData, 0);
        raise(&mut pics, 5);
        assert_eq!(pics.acknowledge(), address + 5 * interval);
        assert_eq!(isr(&mut pics), [0x20, 0], "and no automatic EOI");
    }
}

#[test]
fn a_slave_with_another_address_does_not_answer() {
    let mut pics = started();
    initialize(&mut pics, SlaveCommand, SlaveData, [0x11, 0x28, 0x05, 0x01]);
    raise(&mut pics, 9);
    assert_eq!((pics.acknowledge(), isr(&mut pics)), (0xff, [0x04, 0]));
    assert_eq!(irr(&mut pics), [0, 0x02]);
    // ICW1 makes the address 7.
    let mut pics = started();
    initialize(&mut pics, SlaveCommand, SlaveData, [0x13, 0x28, 0x02, 0x01]);
    raise(&mut pics, 9);
    assert_eq!(pics.acknowledge(), 0xff);
}

#[test]
fn buffered_mode_changes_nothing() {
    let mut pics = pair(0x11, 0x0d);
    raise(&mut pics, 11);
    raise(&mut pics, 6);
    assert_eq!((pics.acknowledge(), isr(&mut pics)), (0x2b, [0x04, 0x08]));
}

#[test]
fn automatic_eoi_leaves_nothing_in_service() {
    let mut pics = pair(0x11, 0x03);
    for irq in [10, 9, 5, 0] {
        raise(&mut pics, irq);
    }
    assert_eq!(take_all(&mut pics), [0x20, 0x29, 0x2a, 0x25], "each request of the slave an edge");
    assert_eq!(isr(&mut pics), [0, 0]);
}

#[test]
fn a_specific_eoi_ends_the_line_it_names() {
    let mut pics = started();
    for irq in [5, 3, 1] {
        raise(&mut pics, irq);
        pics.acknowledge();
    }
    pics.write(MasterCommand, 0x63);
    assert_eq!(isr(&mut pics)[0], 0x22);
    pics.write(MasterCommand, 0x64);
    assert_eq!(isr(&mut pics)[0], 0x22, "line 4 was not in service");
    pics.write(MasterCommand, 0x45);
    assert_eq!(isr(&mut pics)[0], 0x22, "the command without R and EOI does nothing");
}

/// The order in which lines 0 to 7 are served when all of them ask.
fn order(pics: &mut Pics) -> Vec<u8> {
    let mut pics = pics.clone();
    pics.write(MasterData, 0);
    (0..8).filter(|&irq| irq != CASCADE).for_each(|irq| raise(&mut pics, irq));
    let mut order = Vec::new();
    while pics.output() && order.len() < 20 {
        let line = pics.acknowledge() & 7;
        order.push(line);
        pics.write(MasterCommand, 0x60 | line);
    }
    order
}

#[test]
fn rotation_moves_the_line_that_was_served_to_the_end() {
    let mut pics = started();
    assert_eq!(order(&mut pics), [0, 1, 3, 4, 5, 6, 7]);
    // Rotate on non-specific EOI.
    raise(&mut pics, 4);
    pics.acknowledge();
    pics.write(MasterCommand, 0xa0);
    assert_eq!(isr(&mut pics)[0], 0);
    assert_eq!(order(&mut pics), [5, 6, 7, 0, 1, 3, 4]);
    pics.write(MasterCommand, 0xa0);
    assert_eq!(order(&mut pics), [5, 6, 7, 0, 1, 3, 4], "nothing was in service");
    // A non-specific EOI follows the rotated order.
    raise(&mut pics, 1);
    pics.acknowledge();
    raise(&mut pics, 6);
    assert_eq!(pics.acknowledge(), 0x26);
    pics.write(MasterCommand, NON_SPECIFIC_EOI);
    assert_eq!(isr(&mut pics)[0], 0x02);
    // Rotate on specific EOI.
    pics.write(MasterCommand, 0xe1);
    assert_eq!(isr(&mut pics)[0], 0);
    assert_eq!(order(&mut pics), [3, 4, 5, 6, 7, 0, 1]);
    // Set priority.
    pics.write(MasterCommand, 0xc6);
    assert_eq!(order(&mut pics), [7, 0, 1, 3, 4, 5, 6]);
}

#[test]
fn rotation_in_automatic_eoi_mode_is_switched_on_and_off() {
    let mut pics = pair(0x11, 0x03);
    pics.write(MasterCommand, 0x80);
    raise(&mut pics, 3);
    pics.acknowledge();
    assert_eq!(order(&mut pics), [4, 5, 6, 7, 0, 1, 3]);
    pics.write(MasterCommand, 0x00);
    raise(&mut pics, 5);
    pics.acknowledge();
    assert_eq!(order(&mut pics), [4, 5, 6, 7, 0, 1, 3]);
}

#[test]
fn special_mask_mode_lets_others_through_while_a_masked_line_is_in_service() {
    let mut pics = started();
    raise(&mut pics, 3);
    pics.acknowledge();
    raise(&mut pics, 6);
    pics.write(MasterData, 0x08);
    assert!(!pics.output());
    pics.write(MasterCommand, 0x68);
    assert_eq!(pics.acknowledge(), 0x26);
    pics.write(MasterCommand, NON_SPECIFIC_EOI);
    assert_eq!(isr(&mut pics)[0], 0x08, "the masked line is not ended without being named");
    pics.write(MasterCommand, NON_SPECIFIC_EOI);
    assert_eq!(isr(&mut pics)[0], 0x08);
    pics.write(MasterCommand, 0x28);
    raise(&mut pics, 6);
    assert!(pics.output(), "without ESMM the SMM bit does not count");
    pics.write(MasterCommand, 0x48);
    assert!(!pics.output(), "off");
    pics.write(MasterCommand, NON_SPECIFIC_EOI);
    assert_eq!(isr(&mut pics)[0], 0);
}

#[test]
fn in_special_fully_nested_mode_a_more_important_line_of_the_same_slave_interrupts() {
    for (icw4, expected) in [(0x01, &[][..]), (0x11, &[0x29][..])] {
        let mut pics = started();
        initialize(&mut pics, MasterCommand, MasterData, [0x11, 0x20, 0x04, icw4]);
        raise(&mut pics, 12);
        assert_eq!(pics.acknowledge(), 0x2c);
        raise(&mut pics, 9);
        raise(&mut pics, 14);
        raise(&mut pics, 3);
        assert_eq!(take_all(&mut pics), expected, "ICW4 {icw4:#x}");
    }
    // It is the slave's line only that may ask again.
    let mut pics = pair(0x11, 0x11);
    raise(&mut pics, 9);
    raise(&mut pics, 4);
    assert_eq!(take_all(&mut pics), [0x29]);
    raise(&mut pics, 9);
    assert!(!pics.output());
    pics.write(SlaveCommand, NON_SPECIFIC_EOI);
    assert_eq!(take_all(&mut pics), [0x29]);
    pics.write(SlaveCommand, NON_SPECIFIC_EOI);
    pics.write(MasterCommand, NON_SPECIFIC_EOI);
    assert_eq!(take_all(&mut pics), [0x24]);
    raise(&mut pics, 4);
    assert!(!pics.output());
}

#[test]
fn a_poll_acknowledges_with_the_next_read() {
    for data in [false, true] {
        let mut pics = started();
        let register = if data { MasterData } else { MasterCommand };
        pics.write(MasterData, 0x40);
        raise(&mut pics, 6);
        pics.write(MasterCommand, 0x0c);
        assert_eq!(pics.read(register) & 0x80, 0, "masked");
        raise(&mut pics, 5);
        pics.write(MasterCommand, 0x0e);
        assert_eq!(pics.read(register), 0x85, "poll overrides the status read");
        assert!(!pics.output());
        assert_eq!(isr(&mut pics)[0], 0x20);
        assert_eq!(pics.read(MasterData), 0x40, "one read only");
    }
}

#[test]
fn a_poll_command_waits_for_its_read() {
    let mut pics = pair(0x11, 0x03);
    raise(&mut pics, 5);
    pics.write(MasterCommand, 0x0c);
    pics.write(MasterCommand, READ_ISR);
    assert_eq!(pics.read(MasterCommand), 0x85);
    assert_eq!(isr(&mut pics), [0, 0], "which in automatic EOI mode is the end as well");
}

#[test]
fn a_polled_slave_may_be_served_without_its_master() {
    let mut pics = started();
    raise(&mut pics, 12);
    raise(&mut pics, 9);
    pics.write(SlaveCommand, 0x0c);
    assert_eq!(pics.read(SlaveCommand), 0x81);
    assert!(!pics.output(), "the slave has nothing more important");
    assert_eq!(isr(&mut pics), [0, 0x02]);
    pics.write(SlaveCommand, NON_SPECIFIC_EOI);
    assert!(pics.output());
    pics.write(MasterCommand, 0x0c);
    assert_eq!(pics.read(MasterCommand), 0x82);
    pics.write(SlaveCommand, 0x0c);
    assert_eq!(pics.read(SlaveData), 0x84);
    assert_eq!(isr(&mut pics), [0x04, 0x10]);
}

#[test]
fn a_status_read_shows_what_was_selected_last() {
    let mut pics = started();
    raise(&mut pics, 4);
    assert_eq!(pics.read(MasterCommand), 0x10, "the IRR after initialization");
    pics.acknowledge();
    raise(&mut pics, 6);
    pics.write(MasterCommand, READ_ISR);
    assert_eq!((pics.read(MasterCommand), pics.read(MasterCommand)), (0x10, 0x10));
    pics.write(MasterCommand, 0x09);
    assert_eq!(pics.read(MasterCommand), 0x10, "RIS counts only with RR");
    pics.write(MasterCommand, READ_IRR);
    assert_eq!(pics.read(MasterCommand), 0x40);
}
