//! The mix of [`MIX`].

use guest_kernel::{interrupts, timer};

use super::{memory, time};
use crate::measure::Meter;
use crate::table::MIX;

/// Rounds of the mix.
pub fn run(meter: &mut Meter, ops: u64) {
    memory::partner();
    memory::faulting_page();
    time::prepare();
    let wait =
        time::SOON * MIX.iter().filter(|part| part.waits).map(|part| part.times).sum::<u64>();
    meter.section_with_waits(ops, ops, wait, || {
        for part in MIX {
            for _ in 0..part.times {
                (part.op)();
            }
        }
    });
    interrupts::forget(14);
    timer::arm(0);
}
