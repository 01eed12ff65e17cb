//! What the hypervisor tells the host about VMs and about itself, as wire structures.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A vCPU's registers at the end of its VM. General registers are in the order of their encoding:
/// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Registers {
    /// General registers by their encoding.
    pub gpr: [u64; 16],
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// CR0 as the guest sees it.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4 as the guest sees it.
    pub cr4: u64,
    /// IA32_EFER.
    pub efer: u64,
    /// CS: selector in bits 15:0, access rights in bits 63:32.
    pub cs: u64,
    /// SS, as `cs`.
    pub ss: u64,
    /// The base of CS.
    pub cs_base: u64,
}

/// Why a VM ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Cause {
    /// The guest asked for it; `code` is its exit code.
    Shutdown = 0,
    /// The guest reported that it crashed; its message follows.
    Crash = 1,
    /// Triple fault.
    TripleFault = 2,
    /// The CPU refused to enter the guest; the message names the rule that its state breaks.
    EntryFailure = 3,
    /// The guest did what this hypervisor does not support; the message says what.
    Unsupported = 4,
    /// The guest used memory that nobody answers for, or that it may not write, in a way that cannot
    /// be completed; `address` says which.
    BadMemory = 5,
    /// The guest halted for ever: HLT with interrupts disabled and no NMI that could come.
    HaltedForEver = 6,
    /// The VM was not started: its description or image was refused; the message says why.
    Refused = 7,
    /// The VM ran longer than its description allows.
    TimeLimit = 8,
}

impl Cause {
    /// The cause with this number.
    pub const fn from_number(number: u32) -> Option<Cause> {
        Some(match number {
            0 => Cause::Shutdown,
            1 => Cause::Crash,
            2 => Cause::TripleFault,
            3 => Cause::EntryFailure,
            4 => Cause::Unsupported,
            5 => Cause::BadMemory,
            6 => Cause::HaltedForEver,
            7 => Cause::Refused,
            8 => Cause::TimeLimit,
            _ => return None,
        })
    }
}

/// Whose virtualization extension runs the VM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Vendor {
    /// Intel VT-x.
    Vmx = 1,
    /// AMD-V.
    Svm = 2,
}

impl Vendor {
    /// The vendor with this number.
    pub const fn from_number(number: u64) -> Option<Vendor> {
        match number {
            1 => Some(Vendor::Vmx),
            2 => Some(Vendor::Svm),
            _ => None,
        }
    }
}

/// The end of a VM; a message in UTF-8 may follow it in the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct End {
    /// A [`Cause`].
    pub cause: u32,
    /// The neutral exit reason at which it ended ([`pv_abi::exit::Reason`]).
    pub reason: u32,
    /// Whose code `vendor_code` is: a [`Vendor`].
    pub vendor: u64,
    /// The vendor's own exit code: the exit-reason field of VMX, EXITCODE of SVM.
    pub vendor_code: u64,
    /// The vendor's detail: exit qualification and, if VMLAUNCH or VMRESUME failed, the VM-instruction
    /// error; EXITINFO1 and EXITINFO2.
    pub vendor_detail: [u64; 2],
    /// The exit code of a shutdown, otherwise what the cause says more.
    pub code: u64,
    /// The guest-physical address concerned, or 0.
    pub address: u64,
    /// Exits of the vCPU, marks left out.
    pub exits: u64,
    /// The registers of the vCPU.
    pub registers: Registers,
}

/// A measured section begins or ends ([`pv_abi::call::stat::MARK`]); [`MarkCounter`]s that are not
/// zero follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mark {
    /// The guest's name for the section.
    pub id: u64,
    /// [`pv_abi::stat::BEGIN`] or [`pv_abi::stat::END`].
    pub phase: u64,
    /// TSC, as the guest sees it, when the mark exited (END) or is about to be resumed (BEGIN).
    pub tsc: u64,
    /// VMREADs so far, those of marks left out.
    pub vmreads: u64,
    /// VMWRITEs so far, those of marks left out.
    pub vmwrites: u64,
}

/// One counter of a [`Mark`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct MarkCounter {
    /// An exit reason's number, or [`CALLS`] plus a call slot.
    pub slot: u64,
    /// How often.
    pub count: u64,
    /// Ticks from exit to entry.
    pub ticks: u64,
}

/// The first [`MarkCounter::slot`] that stands for a call slot.
pub const CALLS: u64 = pv_abi::exit::SLOTS as u64;

/// The hypervisor failed: an exception or a panic in root mode. A text follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Panic {
    /// The CPU, in order of bring-up.
    pub cpu: u64,
    /// The exception's vector, or [`NO_VECTOR`] for a panic of the code.
    pub vector: u64,
    /// Its error code.
    pub error_code: u64,
    /// The registers; CS and SS hold the selectors only.
    pub registers: Registers,
    /// Return addresses, innermost first, 0 where there are no more.
    pub backtrace: [u64; 16],
}

/// [`Panic::vector`] of a panic that no exception caused.
pub const NO_VECTOR: u64 = u64::MAX;
