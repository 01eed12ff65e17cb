//! Port 61h, system control: the gate and the output of counter 2, and the refresh of memory.

use super::{Pit, clock};

const GATE_2: u8 = 1 << 0;
/// The bits that keep what is written. Bit 1 connects the speaker, of which there is none; bits 2 and
/// 3 disable the NMIs of parity errors and of the I/O channel, and since nothing raises those, bits 7
/// and 6, which report them, are 0.
const WRITABLE: u8 = 0x0f;
const REFRESH: u8 = 1 << 4;
const OUT_2: u8 = 1 << 5;

/// Ticks of one refresh cycle of memory, 15.085 µs: what a PC programs counter 1 for.
const REFRESH_TICKS: u64 = 18;

impl Pit {
    /// A read of port 61h.
    pub fn read_system_control(&self, now: u64) -> u8 {
        let refresh = clock::tick(now).wrapping_div(REFRESH_TICKS) & 1 != 0;
        let refresh = if refresh { REFRESH } else { 0 };
        let out = if self.output(2, now) { OUT_2 } else { 0 };
        self.system | refresh | out
    }

    /// A write to port 61h.
    pub fn write_system_control(&mut self, value: u8, now: u64) {
        self.system = value & WRITABLE;
        let [_, _, counter] = &mut self.counters;
        counter.set_gate(value & GATE_2 != 0, clock::tick(now));
    }
}
