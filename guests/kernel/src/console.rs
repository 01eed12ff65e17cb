//! The console: the UART, or the hypervisor's when the shim is in use.

use core::fmt::{self, Write};
use core::hint;

use drivers::console::{Page, PvConsole, RingConsole};
use spin::{Mutex, MutexGuard};
use x86_64::hypercall::CallError;
use x86_64::{Operations, PhysAddr};

use crate::{pv, serial};

enum Console {
    /// Nothing has been set up: the UART will be, by the first write.
    Unset,
    Serial,
    Paravirtual(PvConsole),
}

static CONSOLE: Mutex<Console> = Mutex::new(Console::Unset);
static CALL_PAGE: Page = Page::new();
static RING_PAGE: Page = Page::new();

fn address(page: &'static Page) -> PhysAddr {
    PhysAddr::new(page.as_ptr() as u64)
}

pub(crate) fn init() {
    if let Some(paravane) = pv::paravane()
        && x86_64::operations().contains(Operations::CONSOLE)
    {
        // SAFETY: identity mapped, and only this console uses the page.
        let console =
            unsafe { PvConsole::new(&CALL_PAGE, address(&CALL_PAGE), paravane.console_max) };
        *CONSOLE.lock() = Console::Paravirtual(console);
    }
}

/// Writes bytes to the console, with nothing of another CPU's between them.
pub fn write(bytes: &[u8]) {
    let Some(mut console) = CONSOLE.try_lock().or_else(wait) else {
        return serial::write(bytes);
    };
    match &mut *console {
        Console::Paravirtual(console) => {
            // There is nowhere to report that a console does not take bytes.
            let _ = console.write(bytes);
        }
        Console::Serial => serial::write(bytes),
        unset => {
            serial::init();
            *unset = Console::Serial;
            serial::write(bytes);
        }
    }
}

/// Waits for the lock, while another CPU may have it. If nobody gives it back, a write itself caused a panic,
/// whose message must get out.
#[cold]
fn wait() -> Option<MutexGuard<'static, Console>> {
    const PATIENCE: u32 = 10_000_000;
    (0..PATIENCE).find_map(|_| {
        hint::spin_loop();
        CONSOLE.try_lock()
    })
}

/// The console's ring. It can be had once: the hypervisor keeps it for good.
///
/// # Errors
///
/// The call's.
pub fn ring() -> Result<RingConsole, CallError> {
    // SAFETY: identity mapped; a second registration is refused, so the page has one user.
    unsafe { RingConsole::register(&RING_PAGE, address(&RING_PAGE)) }
}

/// The longest text that is written at once, in bytes; more is written in pieces.
const LINE: usize = 256;

/// Collects a formatted text, so that the parts of a line do not cost a call each.
struct Buffer {
    bytes: [u8; LINE],
    length: usize,
}

impl Buffer {
    fn flush(&mut self) {
        write(&self.bytes[..self.length]);
        self.length = 0;
    }
}

impl Write for Buffer {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for &byte in text.as_bytes() {
            if self.length == LINE {
                self.flush();
            }
            self.bytes[self.length] = byte;
            self.length += 1;
        }
        Ok(())
    }
}

/// Writes a formatted text to the console.
pub fn print(text: fmt::Arguments<'_>) {
    let mut buffer = Buffer { bytes: [0; LINE], length: 0 };
    // A formatting error can only come from a `Display` that fails; what it wrote is shown.
    let _ = buffer.write_fmt(text);
    buffer.flush();
}

/// Writes a formatted line to the console.
#[macro_export]
macro_rules! println {
    ($($text:tt)*) => { $crate::console::print(format_args!("{}\n", format_args!($($text)*))) };
}
