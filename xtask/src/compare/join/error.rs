//! How guest and hypervisor disagree.

use std::fmt;

use pv_abi::stat::BEGIN;

/// How guest and hypervisor disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinError {
    /// A section ends that has not begun, or begins within another.
    Unpaired { id: u64, phase: u64 },
    /// A section has not ended.
    Open { id: u64 },
    /// A row without a section.
    NoSection { workload: String },
    /// A section without a row.
    NoRow { id: u64 },
    /// A counter ran backwards.
    Backwards { workload: String },
    /// The guest counted other exits than the hypervisor.
    Exits { workload: String, guest: u64, hypervisor: u64 },
    /// The guest's ticks and those between the marks differ by more than the marks cost.
    Ticks { workload: String, guest: u64, hypervisor: u64, allowed: u64 },
}

impl fmt::Display for JoinError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            JoinError::Unpaired { id, phase } => {
                let phase = if *phase == BEGIN { "begins within another" } else { "ends unbegun" };
                write!(f, "section {id} {phase}")
            }
            JoinError::Open { id } => write!(f, "section {id} does not end"),
            JoinError::NoSection { workload } => {
                write!(f, "{workload}: the guest has a row and the hypervisor saw no section")
            }
            JoinError::NoRow { id } => {
                write!(f, "section {id} is marked and the guest has no row for it")
            }
            JoinError::Backwards { workload } => {
                write!(f, "{workload}: a counter of the hypervisor ran backwards")
            }
            JoinError::Exits { workload, guest, hypervisor } => write!(
                f,
                "{workload}: the guest counted {guest} exits, the hypervisor {hypervisor}"
            ),
            JoinError::Ticks { workload, guest, hypervisor, allowed } => write!(
                f,
                "{workload}: {guest} ticks in the guest, {hypervisor} between the marks; the marks may cost 0 to {allowed}"
            ),
        }
    }
}

impl std::error::Error for JoinError {}
