//! Why the hypervisor cannot run on this CPU, in words that help.

use core::fmt;

/// Why the hypervisor cannot run on this CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Firmware locked SVM off.
    LockedOff,
    /// Firmware locked SVM off, with a key.
    LockedWithKey,
    /// No nested paging.
    NoNestedPaging,
    /// No ASID for a guest.
    NoAsids,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refusal::LockedOff => {
                "firmware locked SVM off (VM_CR): turn on SVM, or AMD-V, in the firmware's setup and switch the machine off and on"
            }
            Refusal::LockedWithKey => {
                "firmware locked SVM off with a key (VM_CR): turn on SVM, or AMD-V, in the firmware's setup, or ask who keeps the machine's key, and switch the machine off and on"
            }
            Refusal::NoNestedPaging => {
                "the CPU's SVM has no nested paging (NPT): use an AMD CPU of 2008 (Barcelona) or later, or an emulated model of one"
            }
            Refusal::NoAsids => {
                "the CPU's SVM has no ASID for a guest: in a virtual machine, give it the host's CPU model"
            }
        })
    }
}
