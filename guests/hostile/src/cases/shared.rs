//! Shared memory filled with nonsense, and floods of what is cheap to ask for.

use core::ptr::write_bytes;

use guest_kernel::{frames, pv};
use pv_abi::call::{base, console, stat};
use pv_abi::ring::{CAPACITY, ConsoleRing};
use pv_abi::{Status, area};

use super::{Action, Case, Expected, Verdict, Wrong};
use crate::raw::{Registers, call};

const fn survives(name: &'static str, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Survives, needs_pv: true, action: Action::Run(run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    survives("area-nonsense", area_nonsense),
    survives("mark-flood", mark_flood),
    survives("ring-head", ring_head),
];

/// Marks in a flood: enough to fill any buffer for reports that the hypervisor may have.
const MARKS: u64 = 256;

fn make(number: pv_abi::call::Number, rdi: u64, rsi: u64) -> Registers {
    // SAFETY: the calls of this module name frames that are theirs.
    unsafe { call(Registers { rax: number.0, rdi, rsi, ..Registers::default() }) }
}

fn succeed(number: pv_abi::call::Number, rdi: u64, rsi: u64) -> Result<u64, Wrong> {
    let got = make(number, rdi, rsi);
    if got.rax == u64::from(Status::Success) {
        Ok(got.rdx)
    } else {
        Err(Wrong::Answer { got, want: Status::Success })
    }
}

/// Nothing that the shared half says may matter to anybody but this guest.
fn area_nonsense() -> Verdict {
    let shared = pv::area_addresses()
        .map(|(shared, _)| shared)
        .ok_or(Wrong::Other("the area is not registered"))?;
    for pattern in [0xff, 0x80, 0x01, 0x00] {
        // SAFETY: the page is the guest's; the shim only reads numbers from it.
        unsafe { write_bytes(shared as *mut u8, pattern, area::SHARED_SIZE) };
        for _ in 0..16 {
            succeed(base::NOP, 0, 0)?;
        }
    }
    Ok(())
}

/// Marks are for measuring; a guest that means harm gets no more than reports of them.
fn mark_flood() -> Verdict {
    (0..MARKS).try_for_each(|n| succeed(stat::MARK, u64::MAX - n / 2, n % 2).map(drop))
}

/// A head that is further ahead than the ring is long makes the hypervisor skip to it, at once and
/// without writing anything.
fn ring_head() -> Verdict {
    let ring = frames::allocate_fresh().start_address().as_u64() as *mut ConsoleRing;
    // SAFETY: the frame is ours; from the registration on it is shared, and accessed by volatile
    // writes and reads only.
    unsafe { write_bytes(ring.cast::<u8>(), 0, 4096) };
    if succeed(console::RING_REGISTER, ring as u64, 0)? != CAPACITY as u64 {
        return Err(Wrong::Other("the ring has another capacity"));
    }
    let again = make(console::RING_REGISTER, ring as u64, 0);
    if again.rax != u64::from(Status::AlreadyDone) {
        return Err(Wrong::Answer { got: again, want: Status::AlreadyDone });
    }
    for head in [CAPACITY as u32 + 1, 1 << 31, u32::MAX, 1 << 30] {
        // SAFETY: as above.
        unsafe { (&raw mut (*ring).head).write_volatile(head) };
        make(console::RING_FLUSH, 0, 0);
        // SAFETY: as above.
        if unsafe { (&raw const (*ring).tail).read_volatile() } != head {
            return Err(Wrong::Other("the hypervisor did not skip to the head"));
        }
    }
    // SAFETY: as above. A tail that the guest forges is its own loss.
    unsafe { (&raw mut (*ring).tail).write_volatile(0x8000_0000) };
    make(console::RING_FLUSH, 0, 0);
    Ok(())
}
