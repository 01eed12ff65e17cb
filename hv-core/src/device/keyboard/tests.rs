use super::*;

const FULL: u8 = 0x01;
const SYSTEM: u8 = 0x04;
const COMMAND_LAST: u8 = 0x08;
const UNLOCKED: u8 = 0x10;
const AUX: u8 = 0x20;
const TIMEOUT: u8 = 0x40;

/// Gives a command that is answered by a byte, and takes it.
fn ask(keyboard: &mut Keyboard, command: u8) -> u8 {
    assert_eq!(keyboard.command(command), Effect::None);
    assert_eq!(keyboard.status() & (FULL | AUX | TIMEOUT), FULL, "command {command:#x}");
    let answer = keyboard.read();
    assert_eq!(keyboard.status() & FULL, 0);
    answer
}

/// Gives a command with a parameter.
fn tell(keyboard: &mut Keyboard, command: u8, parameter: u8) -> Effect {
    assert_eq!(keyboard.command(command), Effect::None);
    assert_eq!(keyboard.status() & FULL, 0, "no answer yet");
    keyboard.write(parameter)
}

#[test]
fn status_after_power_up_is_an_empty_controller_with_an_open_keylock() {
    let keyboard = Keyboard::new();
    assert_eq!(keyboard.status(), UNLOCKED);
    assert!(!keyboard.interrupt() && !keyboard.aux_interrupt() && keyboard.a20());
}

#[test]
fn self_test_and_interface_tests_pass() {
    let mut keyboard = Keyboard::new();
    assert_eq!(ask(&mut keyboard, 0xaa), 0x55);
    assert_eq!(keyboard.status() & SYSTEM, SYSTEM, "the system flag says that it passed");
    assert_eq!(ask(&mut keyboard, 0xab), 0);
    assert_eq!(ask(&mut keyboard, 0xa9), 0);
    assert_eq!(ask(&mut keyboard, 0xc0), 0x80);
}

#[test]
fn the_command_byte_is_kept_but_for_reserved_bits() {
    let mut keyboard = Keyboard::new();
    assert_eq!(tell(&mut keyboard, 0x60, 0xff), Effect::None);
    assert_eq!(ask(&mut keyboard, 0x20), 0x77);
    assert_eq!(keyboard.status() & SYSTEM, SYSTEM);
    let _ = tell(&mut keyboard, 0x60, 0);
    assert_eq!(ask(&mut keyboard, 0x20), 0);
    assert_eq!(keyboard.status() & SYSTEM, 0);
}

#[test]
fn interfaces_are_turned_off_and_on_in_the_command_byte() {
    let mut keyboard = Keyboard::new();
    let _ = tell(&mut keyboard, 0x60, 0);
    for (command, byte) in [(0xad, 0x10), (0xa7, 0x30), (0xae, 0x20), (0xa8, 0x00)] {
        assert_eq!(keyboard.command(command), Effect::None);
        assert_eq!(ask(&mut keyboard, 0x20), byte, "after {command:#x}");
    }
}

#[test]
fn status_tells_commands_from_data() {
    let mut keyboard = Keyboard::new();
    let _ = keyboard.command(0x60);
    assert_eq!(keyboard.status(), UNLOCKED | COMMAND_LAST);
    let _ = keyboard.write(0);
    assert_eq!(keyboard.status(), UNLOCKED);
}

#[test]
fn a_byte_for_the_keyboard_times_out() {
    let mut keyboard = Keyboard::new();
    let _ = tell(&mut keyboard, 0x60, 0x11);
    assert_eq!(keyboard.write(0xff), Effect::None);
    assert_eq!(keyboard.status(), UNLOCKED | TIMEOUT | FULL);
    assert!(keyboard.interrupt() && !keyboard.aux_interrupt());
    assert_eq!(keyboard.read(), 0xfe);
    assert!(!keyboard.interrupt());
    assert_eq!(ask(&mut keyboard, 0x20), 0x01, "sending turned the interface on");
}

#[test]
fn a_byte_for_the_auxiliary_device_times_out_as_its_own() {
    let mut keyboard = Keyboard::new();
    let _ = tell(&mut keyboard, 0x60, 0x22);
    assert_eq!(tell(&mut keyboard, 0xd4, 0xf2), Effect::None);
    assert_eq!(keyboard.status(), UNLOCKED | TIMEOUT | AUX | FULL);
    assert!(!keyboard.interrupt() && keyboard.aux_interrupt());
    assert_eq!(keyboard.read(), 0xfe);
    assert!(!keyboard.aux_interrupt());
    assert_eq!(ask(&mut keyboard, 0x20), 0x02);
}

#[test]
fn a_time_out_is_over_with_the_next_answer() {
    let mut keyboard = Keyboard::new();
    let _ = keyboard.write(0xff);
    assert_eq!(ask(&mut keyboard, 0xaa), 0x55);
    assert_eq!(keyboard.status() & TIMEOUT, 0);
}

#[test]
fn output_that_is_looped_back_interrupts_as_its_device() {
    for (command, status, mode) in [(0xd2, FULL, 0x01), (0xd3, FULL | AUX, 0x02)] {
        let mut keyboard = Keyboard::new();
        let _ = tell(&mut keyboard, 0x60, 0);
        assert_eq!(tell(&mut keyboard, command, 0x5a), Effect::None);
        assert_eq!(keyboard.status() & (FULL | AUX | TIMEOUT), status);
        assert!(!keyboard.interrupt() && !keyboard.aux_interrupt(), "not enabled");
        assert_eq!(keyboard.read(), 0x5a);
        let _ = tell(&mut keyboard, 0x60, mode);
        let _ = tell(&mut keyboard, command, 0xa5);
        assert_eq!((keyboard.interrupt(), keyboard.aux_interrupt()), (mode == 1, mode == 2));
        assert_eq!(keyboard.read(), 0xa5);
    }
}

#[test]
fn answers_of_the_controller_interrupt_as_the_keyboard() {
    let mut keyboard = Keyboard::new();
    let _ = tell(&mut keyboard, 0x60, 0x03);
    let _ = keyboard.command(0xaa);
    assert!(keyboard.interrupt() && !keyboard.aux_interrupt());
}

#[test]
fn an_empty_buffer_shows_its_last_byte() {
    let mut keyboard = Keyboard::new();
    assert_eq!(ask(&mut keyboard, 0xaa), 0x55);
    assert_eq!(keyboard.read(), 0x55);
}

#[test]
fn the_output_port_has_the_a20_gate() {
    let mut keyboard = Keyboard::new();
    assert_eq!(ask(&mut keyboard, 0xd0), 0xcf);
    assert_eq!(tell(&mut keyboard, 0xd1, 0xdd), Effect::A20(false));
    assert!(!keyboard.a20());
    assert_eq!(ask(&mut keyboard, 0xd0), 0xcd);
    assert_eq!(tell(&mut keyboard, 0xd1, 0xdd), Effect::None, "as it was");
    assert_eq!(tell(&mut keyboard, 0xd1, 0xdf), Effect::A20(true));
    assert!(keyboard.a20());
}

#[test]
fn the_output_port_shows_both_interrupts() {
    for (command, bit) in [(0xd2, 0x10), (0xd3, 0x20)] {
        let mut keyboard = Keyboard::new();
        let _ = tell(&mut keyboard, 0x60, 0x03);
        let _ = tell(&mut keyboard, command, 0);
        assert_eq!(ask(&mut keyboard, 0xd0) & 0x30, bit);
    }
}

#[test]
fn a_low_reset_line_initializes() {
    let mut keyboard = Keyboard::new();
    assert_eq!(tell(&mut keyboard, 0xd1, 0xde), Effect::Init);
    for command in 0xf0..=0xff {
        let expected = if command & 1 == 0 { Effect::Init } else { Effect::None };
        assert_eq!(keyboard.command(command), expected, "{command:#x}");
        assert_eq!(keyboard.status() & FULL, 0);
        assert!(keyboard.a20());
    }
}

#[test]
fn a_command_in_place_of_a_parameter_takes_over() {
    let mut keyboard = Keyboard::new();
    let _ = keyboard.command(0xd1);
    assert_eq!(ask(&mut keyboard, 0xaa), 0x55);
    assert_eq!(keyboard.write(0x00), Effect::None, "for the keyboard");
    assert!(keyboard.a20());
    assert_eq!(keyboard.read(), 0xfe);
}

#[test]
fn unknown_commands_are_not_answered() {
    let mut keyboard = Keyboard::new();
    for command in [0x00, 0x21, 0x61, 0xa4, 0xac, 0xb0, 0xc1, 0xd5, 0xe0] {
        assert_eq!(keyboard.command(command), Effect::None);
        assert_eq!(keyboard.status(), UNLOCKED | COMMAND_LAST, "{command:#x}");
    }
    assert_eq!(ask(&mut keyboard, 0x20), 0x30);
}
