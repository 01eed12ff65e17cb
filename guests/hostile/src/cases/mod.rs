//! The cases, by what they abuse.

use core::fmt;

use guest_kernel::probe::{Fault, probe};
use pv_abi::Status;

use crate::raw::Registers;

mod areas;
mod calls;
mod deaf;
mod ends;
mod events;
mod faults;
mod garbage;
mod havoc;
mod modes;
mod neighbours;
mod nmis;
mod nowhere;
mod remains;
mod shadows;
mod share;
mod share_ends;
mod share_pair;
mod shared;
mod smp;
mod smp_calls;
mod virtualization;

/// A case.
#[derive(Clone, Copy)]
pub struct Case {
    /// Its name.
    pub name: &'static str,
    /// What must happen.
    pub expected: Expected,
    /// Whether it makes no sense without Paravane.
    pub needs_pv: bool,
    /// What it does.
    pub action: Action,
}

/// What a case does.
#[derive(Clone, Copy)]
pub enum Action {
    /// Makes calls, each with its answer.
    Calls(&'static [calls::BadCall]),
    /// Runs code that must cause the exception of this vector.
    Faults(u64, fn()),
    /// Something else.
    Run(fn() -> Verdict),
    /// Something that takes several CPUs.
    Several(fn() -> Verdict),
}

impl Action {
    /// Does it.
    pub fn perform(self) -> Verdict {
        match self {
            Action::Calls(calls) => calls.iter().try_for_each(calls::check),
            Action::Faults(vector, code) => match probe(code) {
                Ok(()) => Err(Wrong::NoFault),
                Err(fault) if fault.vector == vector => Ok(()),
                Err(fault) => Err(Wrong::Fault(fault)),
            },
            Action::Run(run) | Action::Several(run) => run(),
        }
    }
}

/// How a case ends, by the hypervisor's report of causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expected {
    /// The guest goes on and judges itself.
    Survives,
    /// Triple fault.
    TripleFault,
    /// Memory that is not the guest's to write.
    BadMemory,
    /// Something that the hypervisor does not do.
    Unsupported,
    /// Halted with interrupts disabled.
    HaltedForEver,
    /// The VM's time is over.
    TimeLimit,
    /// The guest's own crash report.
    Crash,
    /// It depends on the VM's description and policy, so the case is only run by name.
    Depends,
}

impl Expected {
    /// The name that `case=list` prints.
    pub const fn name(self) -> &'static str {
        match self {
            Expected::Survives => "survives",
            Expected::TripleFault => "triple-fault",
            Expected::BadMemory => "bad-memory",
            Expected::Unsupported => "unsupported",
            Expected::HaltedForEver => "halted-for-ever",
            Expected::TimeLimit => "time-limit",
            Expected::Crash => "crash",
            Expected::Depends => "depends",
        }
    }
}

/// Nothing, or what went wrong.
pub type Verdict = Result<(), Wrong>;

/// What went wrong.
#[derive(Clone, Copy, Debug)]
pub enum Wrong {
    /// A call returned another status, or a value with an error.
    Answer {
        /// What came back.
        got: Registers,
        /// What the specification says.
        want: Status,
    },
    /// A call changed a register that it must preserve.
    Register(Registers),
    /// Nothing faulted.
    NoFault,
    /// Another exception, or at another place.
    Fault(Fault),
    /// Something else.
    Other(&'static str),
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wrong::Answer { got, want } => write!(
                f,
                "status {} with value {:#x} instead of {}",
                Status::from_code(got.rax).map_or("unknown", Status::name),
                got.rdx,
                want.name()
            ),
            Wrong::Register(after) => write!(f, "a register is changed: {after:x?}"),
            Wrong::NoFault => f.write_str("no exception"),
            Wrong::Fault(fault) => {
                write!(f, "vector {} error {:#x} at {:#x}", fault.vector, fault.error, fault.rip)
            }
            Wrong::Other(why) => f.write_str(why),
        }
    }
}

/// Every case.
pub fn all() -> impl Iterator<Item = Case> {
    [
        calls::CASES,
        faults::CASES,
        modes::CASES,
        virtualization::CASES,
        shadows::CASES,
        nmis::CASES,
        nowhere::CASES,
        garbage::CASES,
        shared::CASES,
        share::CASES,
        neighbours::CASES,
        remains::CASES,
        crate::forms::CASES,
        // The other CPUs run from here on.
        smp::CASES,
        smp_calls::CASES,
        areas::CASES,
        share_pair::CASES,
        share_ends::CASES,
        deaf::CASES,
        events::CASES,
        ends::CASES,
        havoc::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
}
