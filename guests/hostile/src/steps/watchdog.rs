//! What ends a step that nothing else ends, on a machine of type `pc`: an NMI.
//!
//! Channel 0 of the PIT counts down once, and pin 2 of the I/O APIC, to which it is wired, makes an NMI
//! of that, which resets the machine. No flag of a step holds it off. What a step has done to the two is set right each time.

use x86_64::instructions::port::Port;

/// The vector of an NMI.
pub const NMI: u8 = 2;

const IO_APIC: u64 = 0xfec0_0000;
const SELECT: u64 = 0x00;
const WINDOW: u64 = 0x10;
const VERSION: u32 = 1;
/// The entry of the pin; the upper half of it follows.
const PIN: u32 = 0x10 + 2 * 2;
/// An edge that is active high, to the APIC with ID 0.
const DELIVERY_NMI: u32 = 0b100 << 8;

const COUNTER: u16 = 0x40;
const CONTROL: u16 = 0x43;
/// Counter 0, upper byte alone, mode 0: the output rises when it has counted down. Each write of the
/// byte begins anew.
const ONCE: u8 = 0x20;

/// It is there.
#[derive(Clone, Copy)]
pub struct Watchdog(());

fn register(offset: u64) -> *mut u32 {
    (IO_APIC + offset) as *mut u32
}

impl Watchdog {
    /// Finds it.
    pub fn find() -> Option<Watchdog> {
        /// 24 pins.
        const PINS: u32 = 23;
        // SAFETY: identity mapped; where there is no I/O APIC there is nothing.
        let version = unsafe {
            register(SELECT).write_volatile(VERSION);
            register(WINDOW).read_volatile()
        };
        (version >> 16 & 0xff == PINS).then_some(Watchdog(()))
    }

    /// Sets timer and pin right.
    pub fn wire(self) {
        self.stop();
        for (index, value) in [(PIN + 1, 0), (PIN, DELIVERY_NMI)] {
            // SAFETY: the registers of an I/O APIC that nothing else uses; NMIs have a handler.
            unsafe {
                register(SELECT).write_volatile(index);
                register(WINDOW).write_volatile(value);
            }
        }
    }

    /// It comes in 55 ms, and no longer when it would have come.
    pub fn arm(self) {
        // SAFETY: nothing else uses the PIT.
        unsafe { Port::<u8>::new(COUNTER).write(0xff) };
    }

    /// The counter stands still.
    pub fn stop(self) {
        // SAFETY: as above; without a count it does not begin.
        unsafe { Port::<u8>::new(CONTROL).write(ONCE) };
    }
}
