use super::*;
use crate::vm::testing::{Fake, Setup, vcpu};
use crate::vm::{Options, Vcpu};

fn access(v: &mut Vcpu, h: &mut Fake, port: u16, size: u8, input: bool) -> Outcome {
    super::port(v, h, PortAccess { port, size, input, string: false, repeated: false })
}

fn input(v: &mut Vcpu, h: &mut Fake, port: u16, size: u8) -> u64 {
    v.registers.set(Gpr::Rax, 0x1122_3344_5566_7788);
    assert_eq!(access(v, h, port, size, true), Outcome::Advance);
    v.registers.get(Gpr::Rax)
}

fn output(v: &mut Vcpu, h: &mut Fake, port: u16, value: u8) {
    v.registers.set(Gpr::Rax, 0xaaaa_aa00 | u64::from(value));
    assert_eq!(access(v, h, port, 1, false), Outcome::Advance);
}

#[test]
fn absent_ports_read_as_ones_of_their_width() {
    let (mut v, mut h) = vcpu();
    for port in [0, 0x3f7, 0x400, 0xcf8, 0xffff] {
        assert_eq!(input(&mut v, &mut h, port, 1), 0x1122_3344_5566_77ff);
        assert_eq!(input(&mut v, &mut h, port, 2), 0x1122_3344_5566_ffff);
        assert_eq!(input(&mut v, &mut h, port, 4), 0xffff_ffff, "the upper half is cleared");
        output(&mut v, &mut h, port, b'x');
    }
    assert_eq!(h.console(&mut v), "");
}

#[test]
fn com1_is_the_console() {
    let (mut v, mut h) = vcpu();
    for &byte in b"hi" {
        output(&mut v, &mut h, 0x3f8, byte);
    }
    assert_ne!(v.send_at, u64::MAX);
    assert_eq!(h.console(&mut v), "hi");
    h.input.extend(b"ab");
    assert_eq!(input(&mut v, &mut h, 0x3fd, 1), 0x1122_3344_5566_7761, "data ready, empty");
    assert_eq!(input(&mut v, &mut h, 0x3f8, 1), 0x1122_3344_5566_7700 | u64::from(b'a'));
    assert_eq!(input(&mut v, &mut h, 0x3f8, 1) & 0xff, u64::from(b'b'));
    output(&mut v, &mut h, 0x3ff, 0x5a);
    assert_eq!(input(&mut v, &mut h, 0x3ff, 1) & 0xff, 0x5a, "the last register");
    // Wider accesses find nobody.
    assert_eq!(input(&mut v, &mut h, 0x3f8, 2) & 0xffff, 0xffff);
}

#[test]
fn what_is_typed_while_the_guest_tests_its_uart_is_not_lost() {
    let (mut v, mut h) = vcpu();
    h.input.extend(b"ab");
    output(&mut v, &mut h, 0x3fc, 0x10);
    assert_eq!(input(&mut v, &mut h, 0x3fd, 1) & 0xff, 0x60, "loopback hears nothing");
    output(&mut v, &mut h, 0x3fc, 0);
    assert_eq!(input(&mut v, &mut h, 0x3f8, 1) & 0xff, u64::from(b'a'));
}

#[test]
fn a_vm_without_a_uart_has_none() {
    let mut v = Setup { options: Options::ABI, ..Setup::default() }.vcpu();
    let mut h = Fake::new();
    assert_eq!(input(&mut v, &mut h, 0x3f8, 1) & 0xff, 0xff);
    output(&mut v, &mut h, 0x3f8, b'x');
    assert_eq!(h.console(&mut v), "");
}
