use std::vec::Vec;

use super::Register::*;
use super::*;

mod model;
mod modes;

const NON_SPECIFIC_EOI: u8 = 0x20;
const READ_IRR: u8 = 0x0a;
const READ_ISR: u8 = 0x0b;

/// Initializes one chip; `icw3` is left out in single mode, `icw4` if ICW1 does not ask for it.
fn initialize(pics: &mut Pics, command: Register, data: Register, words: [u8; 4]) {
    let [icw1, icw2, icw3, icw4] = words;
    pics.write(command, icw1);
    pics.write(data, icw2);
    if icw1 & 2 == 0 {
        pics.write(data, icw3);
    }
    if icw1 & 1 != 0 {
        pics.write(data, icw4);
    }
}

fn pair(icw1: u8, icw4: u8) -> Pics {
    let mut pics = Pics::new();
    initialize(&mut pics, MasterCommand, MasterData, [icw1, 0x20, 0x04, icw4]);
    initialize(&mut pics, SlaveCommand, SlaveData, [icw1, 0x28, 0x02, icw4]);
    pics
}

/// As a PC's system software does it: vectors 20h to 2Fh.
fn started() -> Pics {
    pair(0x11, 0x01)
}

fn raise(pics: &mut Pics, irq: u8) {
    pics.set_line(irq, false);
    pics.set_line(irq, true);
}

fn irr(pics: &mut Pics) -> [u8; 2] {
    pics.write(MasterCommand, READ_IRR);
    pics.write(SlaveCommand, READ_IRR);
    [pics.read(MasterCommand), pics.read(SlaveCommand)]
}

fn isr(pics: &mut Pics) -> [u8; 2] {
    pics.write(MasterCommand, READ_ISR);
    pics.write(SlaveCommand, READ_ISR);
    [pics.read(MasterCommand), pics.read(SlaveCommand)]
}

/// Acknowledges until nothing is requested any more, or far too often.
fn take_all(pics: &mut Pics) -> Vec<u8> {
    let mut vectors = Vec::new();
    while pics.output() && vectors.len() < 20 {
        vectors.push(pics.acknowledge());
    }
    vectors
}

#[test]
fn nothing_is_requested_before_the_chips_are_initialized() {
    let mut pics = Pics::new();
    raise(&mut pics, 0);
    raise(&mut pics, 8);
    assert!(!pics.output());
    for (icw, value) in [(MasterCommand, 0x11), (MasterData, 0x20), (MasterData, 0x04)] {
        pics.write(icw, value);
        raise(&mut pics, 1);
        assert!(!pics.output());
    }
    pics.write(MasterData, 0x01);
    assert!(pics.output(), "an edge during the sequence counts");
    assert_eq!(pics.acknowledge(), 0x21);
}

#[test]
fn each_line_has_its_vector_and_the_low_bits_of_icw2_do_not_count() {
    for irq in (0..16).filter(|&irq| irq != CASCADE) {
        let mut pics = started();
        initialize(&mut pics, MasterCommand, MasterData, [0x11, 0x37, 0x04, 0x01]);
        initialize(&mut pics, SlaveCommand, SlaveData, [0x11, 0x75, 0x02, 0x01]);
        assert!(!pics.output());
        pics.set_line(irq, true);
        assert!(pics.output());
        assert_eq!(pics.acknowledge(), if irq < 8 { 0x30 + irq } else { 0x68 + irq });
        assert!(!pics.output(), "the edge is used up");
        let expected = if irq < 8 { [1 << irq, 0] } else { [0x04, 1 << (irq - 8)] };
        assert_eq!((isr(&mut pics), irr(&mut pics)), (expected, [0, 0]));
    }
}

#[test]
fn the_cascade_line_and_numbers_that_do_not_exist_are_nobodys() {
    let mut pics = started();
    for irq in [2, 16, 0xff] {
        pics.set_line(irq, true);
        assert!(!pics.output());
        pics.set_line(irq, false);
    }
    pics.set_line(8, true);
    pics.set_line(CASCADE, false);
    assert_eq!(take_all(&mut pics), [0x28]);
}

#[test]
fn more_important_lines_interrupt_and_others_wait_for_the_end() {
    let mut pics = started();
    raise(&mut pics, 5);
    assert_eq!(pics.acknowledge(), 0x25);
    raise(&mut pics, 6);
    raise(&mut pics, 5);
    assert!(!pics.output(), "neither a less important one nor the same");
    raise(&mut pics, 12);
    assert!(pics.output(), "the slave's lines stand at line 2");
    assert_eq!(pics.acknowledge(), 0x2c);
    raise(&mut pics, 0);
    assert_eq!(take_all(&mut pics), [0x20]);
    assert_eq!(isr(&mut pics), [0x25, 0x10]);
    for (left, next) in [(0x24, None), (0x20, None), (0, Some(0x25))] {
        pics.write(MasterCommand, NON_SPECIFIC_EOI);
        assert_eq!(isr(&mut pics)[0], left);
        assert_eq!(take_all(&mut pics).first().copied(), next);
    }
    assert!(!pics.output());
    pics.write(MasterCommand, NON_SPECIFIC_EOI);
    assert_eq!(take_all(&mut pics), [0x26]);
}

#[test]
fn the_slave_asks_again_after_its_own_end_and_the_masters() {
    let mut pics = started();
    raise(&mut pics, 14);
    raise(&mut pics, 15);
    assert_eq!(take_all(&mut pics), [0x2e]);
    pics.write(SlaveCommand, NON_SPECIFIC_EOI);
    assert_eq!(irr(&mut pics), [0x04, 0x80], "a new edge on the cascade line");
    assert!(!pics.output(), "which is still in service");
    pics.write(MasterCommand, NON_SPECIFIC_EOI);
    assert_eq!(take_all(&mut pics), [0x2f]);
}

#[test]
fn the_end_order_of_master_and_slave_does_not_matter() {
    let mut pics = started();
    raise(&mut pics, 14);
    raise(&mut pics, 15);
    assert_eq!(take_all(&mut pics), [0x2e]);
    pics.write(MasterCommand, NON_SPECIFIC_EOI);
    assert!(!pics.output());
    pics.write(SlaveCommand, NON_SPECIFIC_EOI);
    assert_eq!(take_all(&mut pics), [0x2f]);
}

#[test]
fn an_edge_line_needs_a_new_edge_and_a_level_line_does_not() {
    let mut pics = started();
    pics.write(MasterElcr, 1 << 5);
    for irq in [4, 5] {
        pics.set_line(irq, true);
        assert_eq!(pics.acknowledge(), 0x20 + irq);
        pics.write(MasterCommand, NON_SPECIFIC_EOI);
    }
    assert_eq!(irr(&mut pics), [0x20, 0]);
    assert_eq!(take_all(&mut pics), [0x25], "the level goes on asking");
    pics.set_line(5, false);
    pics.write(MasterCommand, NON_SPECIFIC_EOI);
    pics.set_line(4, true);
    assert!(!pics.output());
    raise(&mut pics, 4);
    assert_eq!(take_all(&mut pics), [0x24]);
}

#[test]
fn the_elcr_keeps_the_system_lines_edge_triggered() {
    let mut pics = started();
    pics.write(MasterElcr, 0xff);
    pics.write(SlaveElcr, 0xff);
    assert_eq!((pics.read(MasterElcr), pics.read(SlaveElcr)), (0xf8, 0xde));
    initialize(&mut pics, MasterCommand, MasterData, [0x11, 0x20, 0x04, 0x01]);
    assert_eq!(pics.read(MasterElcr), 0xf8, "it is not the chip's to reset");
    for irq in [0, 1, 8, 13] {
        pics.set_line(irq, true);
        assert_eq!(take_all(&mut pics).len(), 1);
        pics.write(SlaveCommand, NON_SPECIFIC_EOI);
        pics.write(MasterCommand, NON_SPECIFIC_EOI);
        assert!(!pics.output(), "line {irq}");
    }
}

#[test]
fn the_mask_holds_requests_back_without_losing_them() {
    let mut pics = started();
    pics.write(MasterData, 0x10);
    raise(&mut pics, 4);
    assert_eq!((pics.output(), pics.read(MasterData), irr(&mut pics)), (false, 0x10, [0x10, 0]));
    pics.write(MasterData, 0x00);
    assert_eq!(take_all(&mut pics), [0x24]);
    pics.write(SlaveData, 0x02);
    raise(&mut pics, 9);
    assert!(!pics.output());
    pics.write(SlaveData, 0x00);
    pics.write(MasterData, 0x04);
    assert!(!pics.output());
    pics.write(MasterData, 0xfb);
    assert_eq!(take_all(&mut pics), [0x29]);
}

#[test]
fn a_request_that_went_away_gives_the_spurious_vector_of_its_chip() {
    let mut pics = started();
    raise(&mut pics, 3);
    assert!(pics.output());
    pics.set_line(3, false);
    assert!(!pics.output());
    assert_eq!((pics.acknowledge(), isr(&mut pics)), (0x27, [0, 0]));
    // Also when more has to be ended: line 3 is in service, and stays that.
    raise(&mut pics, 3);
    assert_eq!(pics.acknowledge(), 0x23);
    assert_eq!((pics.acknowledge(), isr(&mut pics)), (0x27, [0x08, 0]));
}

#[test]
fn a_spurious_request_of_the_slave_is_in_service_at_the_master() {
    let mut pics = started();
    // Only a cascade line that stays up outlives the slave's request: it is wired to a device of
    // its own here, by level.
    initialize(&mut pics, MasterCommand, MasterData, [0x19, 0x20, 0x08, 0x01]);
    initialize(&mut pics, SlaveCommand, SlaveData, [0x11, 0x28, 0x03, 0x01]);
    pics.set_line(3, true);
    assert_eq!((pics.acknowledge(), isr(&mut pics)), (0x2f, [0x08, 0]));
}

#[test]
fn a_real_interrupt_on_line_7_is_in_service() {
    let mut pics = started();
    raise(&mut pics, 7);
    raise(&mut pics, 15);
    assert_eq!((pics.acknowledge(), isr(&mut pics)), (0x2f, [0x04, 0x80]));
    pics.write(MasterCommand, NON_SPECIFIC_EOI);
    assert_eq!((pics.acknowledge(), isr(&mut pics)), (0x27, [0x80, 0x80]));
}

#[test]
fn initialization_forgets_edges_masks_service_and_modes() {
    let mut pics = started();
    pics.set_line(4, true);
    pics.set_line(1, true);
    assert_eq!(pics.acknowledge(), 0x21);
    pics.write(MasterData, 0x55);
    pics.write(MasterCommand, 0xc2); // lowest priority: line 2
    pics.write(MasterCommand, 0x68); // special mask mode
    pics.write(MasterCommand, 0x0f); // poll, and read the ISR
    pics.write(MasterCommand, 0x80); // rotate in automatic EOI mode
    initialize(&mut pics, MasterCommand, MasterData, [0x11, 0x40, 0x04, 0x03]);
    assert_eq!(pics.read(MasterCommand), 0, "the IRR, empty although lines 1 and 4 are high");
    assert_eq!((pics.read(MasterData), isr(&mut pics)), (0, [0, 0]));
    for irq in [3, 0, 4] {
        raise(&mut pics, irq);
    }
    assert_eq!(take_all(&mut pics), [0x40, 0x43, 0x44], "line 0 first, and it stays that");
    raise(&mut pics, 4);
    raise(&mut pics, 0);
    assert_eq!(take_all(&mut pics), [0x40, 0x44]);
    initialize(&mut pics, MasterCommand, MasterData, [0x11, 0x40, 0x04, 0x01]);
    raise(&mut pics, 3);
    assert_eq!(pics.acknowledge(), 0x43);
    pics.write(MasterData, 0x08);
    raise(&mut pics, 4);
    assert!(!pics.output(), "no special mask mode");
}
