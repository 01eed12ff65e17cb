//! A VM whose memory is full of something that can be found from outside, until it ends and behind that.

use guest_kernel::serial::COM1;
use guest_kernel::{info, println};
use x86_64::instructions::port::Port;

use super::ends::{crash, halt, triple_fault};
use super::neighbours::{tag, unused};
use super::{Action, Case, Expected, Verdict, Wrong};

/// The cases.
pub const CASES: &[Case] = &[Case {
    name: "remains",
    expected: Expected::Depends,
    needs_pv: true,
    action: Action::Run(remains),
}];

/// Fills all RAM that nobody uses, and ends in a way that is chosen when something is typed.
fn remains() -> Verdict {
    let (tag, words) = (tag(), unused().step_by(8));
    let count = words.clone().count();
    for place in words {
        // SAFETY: RAM that nobody uses.
        unsafe { (place as *mut u64).write_volatile(tag) };
    }
    println!("@hostile remains {count} words");
    while !is_typed() {
        core::hint::spin_loop();
    }
    match info::options().value("way") {
        Some("triple-fault") => triple_fault(),
        Some("halt") => halt(),
        Some("crash") => crash(b"the hostile guest says so\n"),
        Some("shutdown") => Ok(()),
        _ => Err(Wrong::Other("there is no such way to end")),
    }
}

/// The receiver of the UART has something.
fn is_typed() -> bool {
    // SAFETY: the line status register; what reading it clears nobody looks at.
    unsafe { Port::<u8>::new(COM1 + 5).read() & 1 != 0 }
}
