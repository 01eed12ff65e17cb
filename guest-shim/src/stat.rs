//! Accounting: marks in the hypervisor's report, and counters without an area.

use pv_abi::stat::{BEGIN, Class, END};

use crate::hypercall::{self, CallError};

/// Marks the begin of the measured section `id`. Returns the exits of this vCPU so far, marks left
/// out. It works in every mode, as long as Paravane is there.
///
/// # Errors
///
/// The call's.
#[inline]
pub fn begin(id: u64) -> Result<u64, CallError> {
    mark(id, BEGIN)
}

/// Marks the end of the measured section `id`; see [`begin`].
///
/// # Errors
///
/// The call's.
#[inline]
pub fn end(id: u64) -> Result<u64, CallError> {
    mark(id, END)
}

/// Marks the begin ([`BEGIN`]) or end ([`END`]) of the measured section `id`; see [`begin`].
///
/// # Errors
///
/// The call's.
#[inline]
pub fn mark(id: u64, phase: u64) -> Result<u64, CallError> {
    hypercall::stat::mark(id, phase)
}

/// Reads one counter of the calling vCPU by a call, which is counted itself. With an area,
/// [`Area::exits`](crate::area::Area::exits) and its neighbours cost nothing.
///
/// # Errors
///
/// The call's.
#[inline]
pub fn read(class: Class, index: u32) -> Result<u64, CallError> {
    hypercall::stat::read(class.selector(index))
}
