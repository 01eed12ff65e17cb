//! Memory shared between VMs: calls that must be refused.

use pv_abi::Status::{self, *};
use pv_abi::call::{Number, share as abi};

use super::calls::{BadCall, LOCAL_APIC, NOWHERE, SOMEWHERE, raw};
use super::{Action, Case, Expected};

/// The cases.
pub const CASES: &[Case] = &[Case {
    name: "share-calls",
    expected: Expected::Survives,
    needs_pv: true,
    action: Action::Calls(CALLS),
}];

/// A VM that nobody is linked to.
const NOBODY: u64 = 63;
/// A slot that nothing is offered in.
const FREE: u64 = 200;

const fn bad(number: Number, arguments: [u64; 4], want: Status) -> BadCall {
    let [a, b, c, d] = arguments;
    raw(number.0, [a, b, c, d, 0], 0, want)
}

const CALLS: &[BadCall] = &[
    bad(abi::OFFER, [256, NOWHERE + 8, NOBODY, 2], Misaligned),
    bad(abi::OFFER, [256, u64::MAX, NOBODY, 2], Misaligned),
    bad(abi::OFFER, [256, NOWHERE, NOBODY, 2], BadAddress),
    bad(abi::OFFER, [256, LOCAL_APIC, NOBODY, 2], BadAddress),
    bad(abi::OFFER, [FREE, 1 << 52, NOBODY, 0], BadAddress),
    bad(abi::OFFER, [FREE, !0xfff, NOBODY, 0], BadAddress),
    bad(abi::OFFER, [256, SOMEWHERE, NOBODY, 0], InvalidArgument),
    bad(abi::OFFER, [1 << 32 | FREE, SOMEWHERE, NOBODY, 0], InvalidArgument),
    bad(abi::OFFER, [FREE, SOMEWHERE, NOBODY, 2], InvalidArgument),
    bad(abi::OFFER, [FREE, SOMEWHERE, NOBODY, 1 << 32], InvalidArgument),
    bad(abi::OFFER, [FREE, SOMEWHERE, NOBODY, 1], Denied),
    bad(abi::OFFER, [FREE, SOMEWHERE, 64, 0], Denied),
    bad(abi::OFFER, [FREE, SOMEWHERE, 256, 0], Denied),
    bad(abi::OFFER, [FREE, SOMEWHERE, u64::MAX, 0], Denied),
    bad(abi::REVOKE, [256, 0, 0, 0], InvalidArgument),
    bad(abi::REVOKE, [u64::MAX, 0, 0, 0], InvalidArgument),
    bad(abi::REVOKE, [FREE, 0, 0, 0], NotReady),
    bad(abi::MAP, [NOBODY, 256, 0, 0], InvalidArgument),
    bad(abi::MAP, [NOBODY, 0, 512, 0], InvalidArgument),
    bad(abi::MAP, [0, 1 << 32, 0, 0], InvalidArgument),
    bad(abi::MAP, [0, 0, u64::MAX, 0], InvalidArgument),
    bad(abi::MAP, [NOBODY, FREE, 300, 0], NotReady),
    bad(abi::MAP, [64, FREE, 300, 0], NotReady),
    bad(abi::MAP, [u64::MAX, FREE, 300, 0], NotReady),
    bad(abi::MAP, [0, FREE, 300, 0], NotReady),
    bad(abi::UNMAP, [NOBODY, 256, 0, 0], InvalidArgument),
    bad(abi::UNMAP, [NOBODY, FREE, 0, 0], NotReady),
    bad(abi::UNMAP, [u64::MAX, FREE, 0, 0], NotReady),
    bad(Number::new(abi::EXTENSION, 4), [0; 4], UnknownFunction),
];
