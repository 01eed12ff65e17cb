//! Calls that must be refused, each with the error that the specification names, and nothing else
//! changed.

use guest_kernel::{info, pv};
use pv_abi::Status::{self, *};
use pv_abi::call::{Number, area, base, console, halt, sched, stat, sys, timer};

use super::{Action, Case, Expected, Verdict, Wrong};
use crate::raw::{Registers, call};

/// One call and its answer.
pub struct BadCall {
    number: u64,
    arguments: [u64; 5],
    r9: u64,
    want: Status,
}

const fn bad(number: Number, arguments: [u64; 2], want: Status) -> BadCall {
    raw(number.0, [arguments[0], arguments[1], 0, 0, 0], 0, want)
}

pub(super) const fn raw(number: u64, arguments: [u64; 5], r9: u64, want: Status) -> BadCall {
    BadCall { number, arguments, r9, want }
}

/// In the first GiB beyond any RAM that a VM can have, and not a device.
pub(super) const NOWHERE: u64 = 0xd000_0000;
pub(super) const LOCAL_APIC: u64 = 0xfee0_0000;
const TOP: u64 = !0xfff;
/// RAM of every VM.
pub(super) const SOMEWHERE: u64 = 0x1000;
const PAGE: u64 = 4096;

const fn calls(name: &'static str, calls: &'static [BadCall]) -> Case {
    Case { name, expected: Expected::Survives, needs_pv: true, action: Action::Calls(calls) }
}

const fn code(name: &'static str, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Survives, needs_pv: true, action: Action::Run(run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    calls(
        "unknown-extension",
        &[
            raw(0x7fff << 16, [0; 5], 0, UnknownExtension),
            raw(0xffff_ffff, [0; 5], 0, UnknownExtension),
        ],
    ),
    calls(
        "unknown-function",
        &[raw(99, [0; 5], 0, UnknownFunction), raw(0x1_ffff, [0; 5], 0, UnknownFunction)],
    ),
    calls(
        "reserved-number-bits",
        &[
            raw(base::NOP.0 | 1 << 32, [0; 5], 0, Reserved),
            raw(base::NOP.0 | 1 << 63, [0; 5], 0, Reserved),
            raw(u64::MAX, [0; 5], 0, Reserved),
        ],
    ),
    calls(
        "reserved-register",
        &[raw(base::NOP.0, [0; 5], 1, Reserved), raw(base::NOP.0, [0; 5], 1 << 63, Reserved)],
    ),
    // The lowest status wins when several apply.
    calls(
        "error-priority",
        &[
            raw(0x7fff << 16, [0; 5], 1, Reserved),
            raw(area::REGISTER.0, [NOWHERE + 1, 0, 0, 0, 0], 1, Reserved),
            bad(area::REGISTER, [NOWHERE + 1, 0], Misaligned),
            bad(console::WRITE, [NOWHERE, 0], BadLength),
        ],
    ),
    calls("unused-arguments", &[raw(base::NOP.0, [u64::MAX; 5], 0, Success)]),
    calls(
        "base-arguments",
        &[
            bad(base::PROBE, [0x7fff, 0], Success),
            bad(base::PROBE, [1 << 16, 0], InvalidArgument),
            bad(base::PROBE, [u64::MAX, 0], InvalidArgument),
            bad(base::ACKNOWLEDGE, [0xffff_0000, 0], InvalidArgument),
            bad(base::ACKNOWLEDGE, [1 << 32 | pv_abi::VERSION as u64, 0], InvalidArgument),
        ],
    ),
    calls(
        "area-address",
        &[
            bad(area::REGISTER, [SOMEWHERE + 8, 0], Misaligned),
            bad(area::REGISTER, [NOWHERE, 0], BadAddress),
            bad(area::REGISTER, [LOCAL_APIC, 0], BadAddress),
            bad(area::REGISTER, [TOP, 0], BadAddress),
            bad(area::REGISTER, [1 << 52, 0], BadAddress),
        ],
    ),
    calls("area-twice", &[bad(area::REGISTER, [SOMEWHERE, 0], AlreadyDone)]),
    calls(
        "console-length",
        &[
            bad(console::WRITE, [SOMEWHERE, 0], BadLength),
            bad(console::WRITE, [SOMEWHERE, PAGE + 1], BadLength),
            bad(console::WRITE, [SOMEWHERE, u64::MAX], BadLength),
            bad(console::READ, [SOMEWHERE, 0], BadLength),
            bad(console::READ, [SOMEWHERE, 1 << 32], BadLength),
        ],
    ),
    calls(
        "console-address",
        &[
            bad(console::WRITE, [NOWHERE, 1], BadAddress),
            bad(console::WRITE, [LOCAL_APIC, 16], BadAddress),
            bad(console::WRITE, [LOCAL_APIC - 8, 16], BadAddress),
            bad(console::WRITE, [u64::MAX, 1], BadAddress),
            bad(console::WRITE, [u64::MAX - 7, 16], BadAddress),
            bad(console::READ, [NOWHERE, 1], BadAddress),
            bad(console::READ, [LOCAL_APIC, 16], BadAddress),
            bad(console::READ, [u64::MAX - 7, 16], BadAddress),
        ],
    ),
    calls(
        "ring-address",
        &[
            bad(console::RING_REGISTER, [SOMEWHERE + 1, 0], Misaligned),
            bad(console::RING_REGISTER, [NOWHERE, 0], BadAddress),
            bad(console::RING_REGISTER, [LOCAL_APIC, 0], BadAddress),
            bad(console::RING_REGISTER, [TOP, 0], BadAddress),
        ],
    ),
    calls(
        "halt-flags",
        &[
            bad(sched::HALT_UNTIL, [0, !halt::ENABLE_INTERRUPTS], Reserved),
            bad(sched::HALT_UNTIL, [0, 1 << 63], Reserved),
        ],
    ),
    calls("reset-denied", &[bad(sys::RESET, [0; 2], Denied)]),
    calls(
        "shutdown-code",
        &[
            bad(sys::SHUTDOWN, [256, 0], InvalidArgument),
            bad(sys::SHUTDOWN, [1 << 32, 0], InvalidArgument),
        ],
    ),
    calls(
        "crash-message",
        &[
            bad(sys::CRASH, [SOMEWHERE, PAGE + 1], BadLength),
            bad(sys::CRASH, [SOMEWHERE, u64::MAX], BadLength),
            bad(sys::CRASH, [NOWHERE, 16], BadAddress),
            bad(sys::CRASH, [u64::MAX - 7, 16], BadAddress),
        ],
    ),
    calls(
        "stat-arguments",
        &[
            bad(stat::MARK, [1, 2], InvalidArgument),
            bad(stat::MARK, [1, u64::MAX], InvalidArgument),
            bad(stat::READ, [u64::MAX, 0], InvalidArgument),
            bad(stat::READ, [pv_abi::exit::SLOTS as u64, 0], InvalidArgument),
            bad(stat::READ, [99 << 32, 0], InvalidArgument),
        ],
    ),
    calls("timer-disarm", &[bad(timer::ARM, [0, 0], Success)]),
    code("read-only-half", read_only_half),
    code("end-of-memory", end_of_memory),
    code("unregister-twice", unregister_twice),
    code("flush-before-register", || check(&bad(console::RING_FLUSH, [0; 2], NotReady))),
];

impl BadCall {
    fn registers(&self) -> Registers {
        let [rdi, rsi, rdx, rcx, r8] = self.arguments;
        Registers { rax: self.number, rdi, rsi, rdx, rcx, r8, r9: self.r9 }
    }
}

/// Makes the call and compares the answer. Besides RAX and RDX no register may change.
pub fn check(bad: &BadCall) -> Verdict {
    let before = bad.registers();
    // SAFETY: every call here is refused, or does nothing to memory.
    let after = unsafe { call(before) };
    let preserved = Registers { rax: after.rax, rdx: after.rdx, ..before };
    if after != preserved {
        return Err(Wrong::Register(after));
    }
    if after.rax != u64::from(bad.want) || after.rdx != 0 {
        return Err(Wrong::Answer { got: after, want: bad.want });
    }
    Ok(())
}

fn all(calls: &[BadCall]) -> Verdict {
    calls.iter().try_for_each(check)
}

/// The read-only half is mapped but belongs to the hypervisor, so no call may take it.
fn read_only_half() -> Verdict {
    let info = pv::area_addresses()
        .map(|(_, info)| info)
        .ok_or(Wrong::Other("the area is not registered"))?;
    let before = pv::exits();
    all(&[
        bad(area::REGISTER, [info, 0], BadAddress),
        bad(console::READ, [info, 16], BadAddress),
        bad(console::RING_REGISTER, [info, 0], BadAddress),
    ])?;
    if pv::exits() <= before { Err(Wrong::Other("the counters stand still")) } else { Ok(()) }
}

/// A range that begins in RAM and ends behind it.
fn end_of_memory() -> Verdict {
    let end = info::memory().map(|r| r.end).max().unwrap_or(0);
    all(&[
        bad(console::WRITE, [end - 8, 16], BadAddress),
        bad(console::READ, [end - 8, 16], BadAddress),
        bad(sys::CRASH, [end - 8, 16], BadAddress),
        bad(area::REGISTER, [end, 0], BadAddress),
        bad(console::RING_REGISTER, [end, 0], BadAddress),
    ])
}

/// What was taken back can be neither taken back again nor used, and can be registered anew.
fn unregister_twice() -> Verdict {
    pv::unregister();
    let refused = check(&bad(area::UNREGISTER, [0; 2], NotReady));
    pv::register();
    refused?;
    check(&bad(area::REGISTER, [SOMEWHERE, 0], AlreadyDone))
}
