use std::vec::Vec;

use super::*;

const RBR: u8 = 0;
const THR: u8 = 0;
const IER: u8 = 1;
const IIR: u8 = 2;
const FCR: u8 = 2;
const LCR: u8 = 3;
const MCR: u8 = 4;
const LSR: u8 = 5;
const MSR: u8 = 6;
const SCR: u8 = 7;

const OUT2: u8 = 1 << 3;
const LOOP: u8 = 1 << 4;

/// With FIFOs on, every interrupt enabled and gated through, and nothing pending.
fn driven() -> Uart {
    let mut uart = Uart::new();
    uart.write(FCR, 0x07);
    uart.write(MCR, OUT2);
    uart.write(IER, 0x0f);
    assert_eq!(uart.read(IIR), 0xc2, "the transmitter is empty");
    assert_eq!(uart.read(IIR), 0xc1);
    uart
}

#[test]
fn registers_after_reset_are_those_of_the_data_sheet() {
    let mut uart = Uart::new();
    for (register, value) in [(IER, 0), (IIR, 0x01), (LCR, 0), (MCR, 0), (LSR, 0x60), (SCR, 0)] {
        assert_eq!(uart.read(register), value, "register {register}");
    }
    assert!(!uart.interrupt());
}

#[test]
fn the_divisor_latch_hides_data_and_interrupt_enable() {
    let mut uart = Uart::new();
    uart.write(IER, 0x05);
    uart.write(LCR, 0x83);
    assert_eq!(uart.write(0, 0x34), None, "not sent");
    uart.write(1, 0x12);
    assert_eq!((uart.read(0), uart.read(1)), (0x34, 0x12));
    uart.write(LCR, 0x03);
    assert_eq!((uart.read(LCR), uart.read(IER)), (0x03, 0x05));
    assert_eq!(uart.write(THR, b'x'), Some(b'x'));
    uart.write(LCR, 0x80);
    assert_eq!((uart.read(0), uart.read(1)), (0x34, 0x12), "kept");
}

#[test]
fn bits_that_do_not_exist_read_zero() {
    let mut uart = Uart::new();
    uart.write(IER, 0xff);
    uart.write(MCR, 0xff);
    uart.write(SCR, 0xa5);
    assert_eq!((uart.read(IER), uart.read(MCR), uart.read(SCR)), (0x0f, 0x1f, 0xa5));
    assert_eq!(uart.read(SCR | 8), 0xa5, "three address lines");
}

#[test]
fn a_line_of_text_goes_out_byte_by_byte_and_the_transmitter_stays_empty() {
    let mut uart = driven();
    let text = b"hello, world";
    let mut out = Vec::new();
    for &byte in text {
        out.extend(uart.write(THR, byte));
        assert_eq!(uart.read(LSR), 0x60);
    }
    assert_eq!(out, text);
}

#[test]
fn the_transmitter_interrupt_goes_by_reading_it_or_by_being_disabled() {
    let mut uart = driven();
    uart.write(THR, b'x');
    assert!(uart.interrupt());
    assert_eq!(uart.read(IIR), 0xc2);
    assert!(!uart.interrupt());
    assert_eq!(uart.read(IIR), 0xc1);
    uart.write(THR, b'x');
    uart.write(IER, 0x0d);
    assert!(!uart.interrupt());
    uart.write(IER, 0x0f);
    assert!(uart.interrupt(), "enabling it again finds the transmitter empty");
}

#[test]
fn received_bytes_come_in_order_and_wrap_around() {
    let mut uart = driven();
    for round in 0..5u8 {
        let bytes: Vec<u8> = (0..10).map(|i| round * 10 + i).collect();
        assert_eq!(uart.receive(&bytes), 10);
        for byte in bytes {
            assert_eq!(uart.read(LSR), 0x61);
            assert_eq!(uart.read(RBR), byte);
        }
        assert_eq!(uart.read(LSR), 0x60);
    }
}

#[test]
fn what_does_not_fit_stays_with_the_sender() {
    let mut uart = driven();
    assert_eq!(uart.receive_room(), FIFO);
    assert_eq!(uart.receive(&[7; 20]), FIFO);
    assert_eq!((uart.receive(&[8]), uart.receive_room()), (0, 0));
    assert_eq!(uart.read(LSR), 0x61, "no overrun");
    uart.write(FCR, 0x00);
    assert_eq!(uart.receive(&[1, 2]), 1, "one holding register without the FIFO");
    assert_eq!(uart.read(RBR), 1);
}

#[test]
fn the_trigger_level_separates_data_from_timeout() {
    for (bits, level) in [(0, 1), (1, 4), (2, 8), (3, 14)] {
        let mut uart = driven();
        uart.write(FCR, bits << 6 | 1);
        for n in 1..=FIFO {
            uart.receive(&[0]);
            let expected = if n >= level { 0xc4 } else { 0xcc };
            assert_eq!(uart.read(IIR), expected, "{n} bytes, trigger level {level}");
        }
        for _ in 0..FIFO {
            assert!(uart.interrupt());
            uart.read(RBR);
        }
        assert!(!uart.interrupt());
    }
}

#[test]
fn interrupts_are_identified_by_priority() {
    let mut uart = driven();
    // Loopback makes an overrun, data, an empty transmitter and a modem change at once.
    uart.write(MCR, LOOP);
    for byte in 0..17 {
        uart.write(THR, byte);
    }
    uart.write(MCR, OUT2);
    assert_eq!(uart.read(IIR), 0xc6, "line status");
    assert_eq!(uart.read(IIR), 0xc6, "until it is read");
    assert_eq!(uart.read(LSR), 0x63);
    assert_eq!(uart.read(IIR), 0xc4, "data");
    for byte in 0..16 {
        assert_eq!(uart.read(RBR), byte, "the FIFO kept what came first");
    }
    assert_eq!(uart.read(IIR), 0xc2, "transmitter");
    assert_eq!(uart.read(IIR), 0xc0, "modem status");
    uart.read(MSR);
    assert_eq!(uart.read(IIR), 0xc1, "none");
}

#[test]
fn each_interrupt_has_its_enable_bit() {
    for (enable, iir) in [(0x01, 0xc4), (0x02, 0xc2), (0x04, 0xc6), (0x08, 0xc0), (0, 0xc1)] {
        let mut uart = driven();
        uart.write(MCR, LOOP);
        for byte in 0..17 {
            uart.write(THR, byte);
        }
        uart.write(MCR, OUT2);
        uart.write(IER, enable);
        assert_eq!(uart.interrupt(), enable != 0);
        assert_eq!(uart.read(IIR), iir);
    }
}

#[test]
fn out2_gates_the_interrupt_and_loopback_takes_it_away() {
    let mut uart = driven();
    uart.receive(b"x");
    assert!(uart.interrupt());
    uart.write(MCR, 0);
    assert!(!uart.interrupt());
    assert_eq!(uart.read(IIR), 0xc4, "it still pends");
    uart.write(MCR, OUT2 | LOOP);
    assert!(!uart.interrupt());
}

#[test]
fn fifo_control_clears_and_switches() {
    let mut uart = Uart::new();
    assert_eq!(uart.read(IIR), 0x01, "FIFOs off");
    uart.receive(b"a");
    uart.write(FCR, 0x01);
    assert_eq!((uart.read(IIR), uart.read(LSR)), (0xc1, 0x60), "switching on empties");
    uart.receive(b"abc");
    uart.write(FCR, 0x01);
    assert_eq!(uart.read(LSR), 0x61, "writing the same again does not");
    uart.write(FCR, 0x03);
    assert_eq!(uart.read(LSR), 0x60);
    uart.receive(b"abc");
    uart.write(FCR, 0x00);
    assert_eq!((uart.read(IIR), uart.read(LSR)), (0x01, 0x60), "switching off empties");
    uart.receive(b"a");
    uart.write(FCR, 0xc2);
    assert_eq!(uart.read(LSR), 0x61, "without the enable bit nothing else is taken");
}

#[test]
fn loopback_returns_data_and_modem_lines_and_cuts_the_wire() {
    let mut uart = driven();
    assert_eq!(uart.read(MSR), 0xb0);
    uart.write(MCR, LOOP);
    uart.read(MSR);
    assert_eq!(uart.receive(b"x"), 0, "from outside nothing comes");
    assert_eq!(uart.write(THR, 0x5a), None, "and nothing goes there");
    assert_eq!(uart.read(RBR), 0x5a);
    // (MCR, lines): DTR-DSR, RTS-CTS, OUT1-RI, OUT2-DCD.
    for (mcr, lines) in [(0x1, 0x20), (0x2, 0x10), (0x4, 0x40), (0x8, 0x80), (0xf, 0xf0)] {
        uart.write(MCR, LOOP | mcr);
        assert_eq!(uart.read(MSR) & 0xf0, lines);
    }
}

#[test]
fn modem_changes_are_noted_until_read_and_ring_by_its_end() {
    let mut uart = driven();
    uart.write(MCR, LOOP);
    uart.read(MSR);
    uart.write(MCR, LOOP | 0x0f);
    assert_eq!(uart.read(MSR), 0xfb, "a ring that begins does not count");
    assert_eq!(uart.read(MSR), 0xf0);
    uart.write(MCR, LOOP);
    assert_eq!(uart.read(MSR), 0x0f);
    assert_eq!(uart.read(MSR), 0x00);
}

#[test]
fn overrun_without_the_fifo_keeps_the_last_byte() {
    let mut uart = Uart::new();
    uart.write(MCR, LOOP);
    uart.write(THR, 1);
    uart.write(THR, 2);
    assert_eq!(uart.read(LSR), 0x63);
    assert_eq!(uart.read(LSR), 0x61, "reading clears the error");
    assert_eq!(uart.read(RBR), 2);
}

#[test]
fn a_break_in_loopback_is_a_zero_byte_and_an_error() {
    let mut uart = driven();
    uart.write(MCR, LOOP);
    uart.write(LCR, 0x43);
    assert_eq!(uart.read(LSR), 0xf1, "break, and an error in the FIFO");
    assert_eq!((uart.read(RBR), uart.read(LSR)), (0, 0x60));
}
