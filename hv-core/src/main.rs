//! The bare-metal image: the library, its entry point, and what happens when its code panics.
#![no_std]
#![no_main]

use core::fmt::Write;
use core::panic::PanicInfo;

use hv_core::hw::{exceptions, output::Text};

#[panic_handler]
fn panic(info: &PanicInfo) -> ! {
    let mut text = Text::<384>::new();
    let _ = write!(text, "{info}");
    exceptions::panic(text.as_bytes())
}
