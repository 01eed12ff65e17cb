//! A guest that can be started by every protocol. It checks the state that the protocol promises, and what
//! it hands over, and says so in one line on COM1: `@protocols NAME, ..., ok`, or `@protocols wrong:` and
//! what is. Then it ends by what the machine has for that: with code 0 or 1 by port F4h of a PC; else, if
//! all is well, by the sleep control register.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod com1;
#[cfg(target_os = "none")]
mod entry;
#[cfg(target_os = "none")]
mod memory;
#[cfg(target_os = "none")]
mod protocols;
#[cfg(target_os = "none")]
mod told;

#[cfg(target_os = "none")]
extern "C" fn start(protocol: u32) -> ! {
    unsafe extern "C" {
        static image: u8;
        static image_end: u8;
    }
    let entry = entry::Entry::recorded();
    let protocol = &protocols::PROTOCOLS[protocol as usize];
    let told = (protocol.check)(&entry);
    if protocol.name != "rom" {
        told.check((&raw const image as u64, &raw const image_end as u64));
    }
    com1::print(format_args!("@protocols {}{told}, ok\n", protocol.name));
    com1::end(0)
}

#[cfg(target_os = "none")]
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    com1::print(format_args!("@protocols wrong: {info}\n"));
    com1::end(1)
}

#[cfg(not(target_os = "none"))]
fn main() {}
