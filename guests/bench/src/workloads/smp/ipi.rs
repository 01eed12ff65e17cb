//! Interrupts between CPUs.

use core::hint;
use core::sync::atomic::{AtomicU64, Ordering};

use guest_kernel::apic;
use guest_kernel::interrupts::{self, Frame};
use guest_kernel::ipi;
use guest_kernel::smp::Wait;
use x86_64::instructions::interrupts as flag;

use super::{begin, end};
use crate::measure::Meter;

const PING: u8 = 0x60;
const PONG: u8 = 0x61;
const CALL: u8 = 0x62;

/// Answers that have come.
static ANSWERS: AtomicU64 = AtomicU64::new(0);

fn ping(_: &mut Frame) {
    apic::end_of_interrupt();
    ipi::send(0, PONG);
}

fn pong(_: &mut Frame) {
    ANSWERS.fetch_add(1, Ordering::Relaxed);
    apic::end_of_interrupt();
}

/// As the flush of a TLB is acknowledged: by memory.
fn acknowledge(_: &mut Frame) {
    ANSWERS.fetch_add(1, Ordering::Release);
    apic::end_of_interrupt();
}

/// Does something that brings about `answers` of them, and waits for the last.
fn until_answered(answers: u64, something: impl FnOnce()) {
    let last = ANSWERS.load(Ordering::Relaxed) + answers;
    something();
    while ANSWERS.load(Ordering::Acquire) != last {
        hint::spin_loop();
    }
}

fn there_and_back(meter: &mut Meter, ops: u64, wait: Wait) {
    begin(wait);
    interrupts::handle(PING, ping);
    interrupts::handle(PONG, pong);
    meter.section(ops, || {
        flag::enable();
        until_answered(1, || ipi::send(1, PING));
        flag::disable();
    });
    end();
}

/// An interrupt to another CPU, which looks for work, and one back.
pub fn ping_pong(meter: &mut Meter, ops: u64) {
    there_and_back(meter, ops, Wait::Spin);
}

/// The same to a CPU that is halted.
pub fn wake(meter: &mut Meter, ops: u64) {
    there_and_back(meter, ops, Wait::Halt);
}

/// An interrupt to all other CPUs, which acknowledge it by memory.
pub fn broadcast(meter: &mut Meter, ops: u64) {
    let others = begin(Wait::Spin) as u64 - 1;
    interrupts::handle(CALL, acknowledge);
    meter.section(ops, || until_answered(others, || ipi::broadcast(CALL)));
    end();
}
