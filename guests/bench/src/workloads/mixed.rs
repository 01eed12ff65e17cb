//! The mix of [`MIX`](crate::table::MIX).

use guest_kernel::{interrupts, timer};

use super::{memory, time};
use crate::measure::Meter;
use crate::table::MIX;

/// Rounds of the mix.
pub fn run(meter: &mut Meter, ops: u64) {
    memory::partner();
    memory::faulting_page();
    time::prepare();
    meter.section(ops, || {
        for &(times, op) in MIX {
            for _ in 0..times {
                op();
            }
        }
    });
    interrupts::forget(14);
    timer::arm(0);
}
