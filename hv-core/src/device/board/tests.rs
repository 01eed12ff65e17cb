use std::vec::Vec;

use super::*;
use crate::device::apic::Trigger;

const EPOCH: u64 = 1_704_067_200;
const MS: u64 = 1_000_000;

fn pc() -> Board {
    Board::new(MachineType::Pc, EPOCH, 256 << 20)
}

/// Brings the board up to `now`; the vectors of the messages.
fn settle(board: &mut Board, serial: bool, now: u64) -> Vec<u8> {
    let mut vectors = Vec::new();
    board.settle(serial, now, &mut |message| vectors.push(message.vector));
    vectors
}

/// An entry of the I/O APIC's table: the vector, and the flags of its lower half.
fn redirect(board: &mut Board, pin: u8, low: u32) -> Vec<u8> {
    let io_apic = board.io_apic().unwrap();
    let mut vectors = Vec::new();
    for (half, value) in [(1, 0), (0, low)] {
        let _ = io_apic.write(0, u32::from(0x10 + 2 * pin + half));
        vectors.extend(io_apic.write(0x10, value).map(|message| message.vector));
    }
    vectors
}

/// Initializes both PICs with vectors 20h and 28h and unmasks these lines.
fn with_pics(board: &mut Board, lines: u16) {
    let mask = (!lines).to_le_bytes();
    for (port, slave) in [(0x20, 0), (0xa0, 1)] {
        let _ = board.write(port, 1, 0x11, 0);
        for value in [0x20 + 8 * slave, if slave == 0 { 4 } else { 2 }, 1] {
            let _ = board.write(port + 1, 1, value, 0);
        }
        let _ = board.write(port + 1, 1, mask[slave as usize].into(), 0);
    }
}

#[test]
fn the_timer_is_irq_0_and_pin_2() {
    let mut board = pc();
    with_pics(&mut board, 1 << 0);
    redirect(&mut board, 2, 0x31);
    // Counter 0, mode 2, 1,193 ticks: about a millisecond.
    for (port, value) in [(0x43, 0x34), (0x40, 0xa9), (0x40, 0x04)] {
        assert_eq!(board.write(port, 1, value, 0), Effect::None);
    }
    // Setting the mode raises the output.
    let _ = settle(&mut board, false, 0);
    let _ = board.intr() && board.acknowledge() == 0x20;
    let _ = board.write(0x20, 1, 0x20, 0);
    let due = board.due(0).unwrap();
    assert!((MS - 2_000..MS + 2_000).contains(&due), "{due}");
    assert!(!board.intr());
    assert_eq!(settle(&mut board, false, due), [0x31]);
    assert!(board.intr());
    assert_eq!(board.acknowledge(), 0x20);
    assert_eq!(settle(&mut board, false, due + 1), [], "one edge, one interrupt");
    // Periods that nobody looked at come one by one.
    let _ = board.write(0x20, 1, 0x20, 0);
    assert_eq!(settle(&mut board, false, 10 * MS), [0x31]);
    assert!(board.intr());
    assert_eq!(board.acknowledge(), 0x20);
    let next = board.due(10 * MS).unwrap();
    assert!((10 * MS + 200_000..10 * MS + 300_000).contains(&next), "{next}");
    assert_eq!(settle(&mut board, false, next), [0x31]);
    // Until the count is set anew.
    let _ = board.write(0x40, 1, 0xa9, next);
    assert_eq!(settle(&mut board, false, next + MS / 2), []);
}

#[test]
fn a_tick_is_not_lost_if_the_output_is_low_again() {
    let mut board = pc();
    with_pics(&mut board, 1 << 0);
    // Mode 3, 1,193 ticks: high for the first half of each millisecond.
    for (port, value) in [(0x43, 0x36), (0x40, 0xa9), (0x40, 0x04)] {
        let _ = board.write(port, 1, value, 0);
    }
    let _ = settle(&mut board, false, 0);
    assert_eq!(board.acknowledge(), 0x20, "setting the mode raises the output");
    let _ = board.write(0x20, 1, 0x20, 0);
    let late = MS + 700_000;
    assert_eq!(settle(&mut board, false, late), []);
    assert!(board.intr());
    assert_eq!(settle(&mut board, false, late + 1_000), []);
    assert_eq!(board.acknowledge(), 0x20, "the line is high for as long as the CPU needs");
    assert_eq!(settle(&mut board, false, late + 260_000), []);
    assert!(!board.intr());
}

#[test]
fn a_timer_that_nobody_listens_to_is_not_waited_for() {
    let mut board = pc();
    for (port, value) in [(0x43, 0x34), (0x40, 1), (0x40, 0)] {
        let _ = board.write(port, 1, value, 0);
    }
    assert_eq!(board.due(0), None, "both controllers mask it");
    redirect(&mut board, 2, 0x31);
    assert!(board.due(0).is_some());
}

#[test]
fn a_device_reaches_both_controllers() {
    let mut board = pc();
    with_pics(&mut board, 1 << 4);
    redirect(&mut board, 4, 0x34);
    assert_eq!(settle(&mut board, true, 0), [0x34], "the serial port");
    assert_eq!(board.acknowledge(), 0x24);
    assert_eq!(settle(&mut board, true, 1), [], "an edge comes once");
    assert_eq!(settle(&mut board, false, 2), []);
    assert_eq!(settle(&mut board, true, 3), [0x34]);
}

#[test]
fn a_level_comes_again_until_it_is_gone() {
    let mut board = pc();
    let level = 1 << 15;
    redirect(&mut board, 4, 0x34 | level);
    assert_eq!(settle(&mut board, true, 0), [0x34]);
    let mut again = Vec::new();
    board.end_of_interrupt(0x34, &mut |message| again.push((message.vector, message.trigger)));
    assert_eq!(again, [(0x34, Trigger::Level)]);
    assert_eq!(settle(&mut board, false, 1), []);
    board.end_of_interrupt(0x34, &mut |_| panic!("the level is gone"));
}

#[test]
fn ports_lead_to_their_chips_and_wide_accesses_to_each_byte() {
    let mut board = pc();
    assert_eq!(board.read(0x64, 1, 0) & 0xff, 0x18 & board.read(0x64, 1, 0), "a sound status");
    let _ = board.write(0x70, 1, 0x14, 0);
    let index_and_data = board.read(0x70, 2, 0);
    assert_eq!(index_and_data & 0xff, 0x14);
    let _ = board.write(0x70, 2, 0x5a40, 0);
    let _ = board.write(0x70, 1, 0x40, 0);
    assert_eq!(board.read(0x71, 1, 0) & 0xff, 0x5a, "one write chose the byte and stored it");
    let time = board.read(0x608, 4, 1_000_000_000);
    assert_eq!(time, 3_579_545, "the PM timer after a second");
    for port in [0x80, 0xcf8, 0xcfc, 0x2f8, 0x402, 0xffff] {
        assert_eq!(board.read(port, 1, 0) & 0xff, 0xff, "{port:#x} is nobody's");
    }
}

#[test]
fn the_machine_is_turned_off_and_reset_by_its_ports() {
    let mut board = pc();
    assert_eq!(board.write(0x604, 2, 0x2000, 0), Effect::PowerOff);
    assert_eq!(board.write(0xcf9, 1, 6, 0), Effect::Reset);
    assert_eq!(board.write(0xcf8, 4, 0x8000_0000, 0), Effect::None, "PCI is not there");
    assert_eq!(board.write(0x64, 1, 0xfe, 0), Effect::Init);
    assert_eq!(board.write(0xf4, 4, 0x1234, 0), Effect::Exit(0x1234));
    let mut minimal = Board::new(MachineType::Minimal, EPOCH, 64 << 20);
    for (port, value) in [(0x604, 0x2000), (0xcf9, 6), (0xf4, 1), (0x64, 0xfe)] {
        assert_eq!(minimal.write(port, 2, value, 0), Effect::None, "{port:#x} is nobody's there");
    }
    assert_eq!(minimal.write(ReducedHardware::SLEEP_CONTROL, 1, 1 << 5, 0), Effect::PowerOff);
    for (port, value) in [(0x42, 0), (0x70, 0), (0x71, 0), (0x61, 0xff), (0x60, 0xff), (0xf4, 0xff)]
    {
        assert_eq!(minimal.read(port, 1, 0) & 0xff, value, "{port:#x}");
    }
    assert_eq!((minimal.due(0), minimal.intr(), minimal.has_interrupts()), (None, false, false));
}

#[test]
fn the_clock_and_its_memory_outlive_a_reset() {
    let mut board = pc();
    let _ = board.write(0x70, 2, 0x5a40, 0);
    with_pics(&mut board, 0xffff);
    board.reset(5_000_000_000);
    let _ = board.write(0x70, 1, 0x40, 0);
    assert_eq!(board.read(0x71, 1, 0) & 0xff, 0x5a);
    let _ = board.write(0x70, 1, 0, 0);
    assert_eq!(board.read(0x71, 1, 5_000_000_000) & 0xff, 5, "seconds");
    assert_eq!(settle(&mut board, true, 0), []);
    assert!(!board.intr(), "the controllers start again");
}
