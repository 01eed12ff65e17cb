//! Interrupts between CPUs. They need a handler on the other side, which ends by
//! [`crate::apic::end_of_interrupt`].

use crate::smp::operations;

/// Interrupts a CPU, by its number.
#[inline]
pub fn send(cpu: usize, vector: u8) {
    (operations().send)(cpu, vector);
}

/// Interrupts every CPU but this one.
#[inline]
pub fn broadcast(vector: u8) {
    (operations().broadcast)(vector);
}
