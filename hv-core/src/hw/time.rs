//! How fast the TSC counts.

use x86_64::instructions::port::Port;

use super::Cpuid;
use super::instructions::tsc;

/// The PIT's input clock in Hz.
const PIT_HZ: u64 = 1_193_182;
/// Ticks of the PIT that are waited for: about 10 ms.
const PIT_TICKS: u16 = 11_932;

/// The TSC's frequency in Hz: what CPUID says (SDM vol. 2, CPUID leaf 15h), otherwise measured
/// against channel 2 of the PIT, rounded to 10 kHz, because the measurement is no better.
pub fn tsc_hz(cpuid: &impl Cpuid) -> u64 {
    if cpuid.cpuid(0, 0)[0] >= 0x15 {
        let [denominator, numerator, crystal, _] = cpuid.cpuid(0x15, 0).map(u64::from);
        let product = crystal.saturating_mul(numerator);
        if let Some(hz @ 1..) = product.checked_div(denominator) {
            return hz;
        }
    }
    let ticks = measure();
    let hz = ticks.saturating_mul(PIT_HZ).checked_div(PIT_TICKS.into()).unwrap_or(0);
    (hz.saturating_add(5_000) / 10_000).saturating_mul(10_000).max(1_000_000)
}

fn measure() -> u64 {
    let [low, high] = PIT_TICKS.to_le_bytes();
    // SAFETY: channel 2 of the PIT drives only the speaker, whose gate is kept closed (bit 1 of
    // port 61h); the hypervisor owns the machine.
    unsafe {
        let mut gate = Port::<u8>::new(0x61);
        let old: u8 = gate.read();
        gate.write(old & !3 | 1);
        // Channel 2, both bytes, mode 0: the output rises when the count is over.
        Port::<u8>::new(0x43).write(0xb0);
        Port::<u8>::new(0x42).write(low);
        Port::<u8>::new(0x42).write(high);
        let start = tsc();
        let mut polls = 0u32;
        while gate.read() & 1 << 5 == 0 && polls < 100_000_000 {
            polls = polls.wrapping_add(1);
        }
        let end = tsc();
        gate.write(old);
        end.wrapping_sub(start)
    }
}
