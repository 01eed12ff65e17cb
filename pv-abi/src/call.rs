//! The calls: extensions, functions, their arguments and the errors each can return.
//!
//! `VMCALL` on Intel, `VMMCALL` on AMD, from 64-bit code at CPL 0. `RAX = extension << 16 |
//! function`, bits 63:32 zero; arguments in RDI, RSI, RDX, RCX, R8; R9 is reserved and zero.
//! Registers of arguments that a function does not have are ignored. Back come RAX = status and
//! RDX = value; every other register and the flags are preserved.

use crate::Status;

/// The argument registers, in order.
pub const ARGUMENT_REGISTERS: [&str; 5] = ["RDI", "RSI", "RDX", "RCX", "R8"];

/// The number of a call, as it stands in RAX.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Number(pub u64);

impl Number {
    /// Function `function` of extension `extension`.
    pub const fn new(extension: u16, function: u16) -> Number {
        Number((extension as u64) << 16 | function as u64)
    }

    /// The extension's number, bits 31:16.
    pub const fn extension(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The function's number within the extension, bits 15:0.
    pub const fn function(self) -> u16 {
        self.0 as u16
    }

    /// Whether the reserved bits 63:32 are zero.
    pub const fn is_well_formed(self) -> bool {
        self.0 >> 32 == 0
    }
}

/// One call, as the specification describes it.
#[derive(Debug)]
pub struct Call {
    /// What stands in RAX.
    pub number: Number,
    /// The function's name within its extension.
    pub name: &'static str,
    /// The arguments' names, in the order of [`ARGUMENT_REGISTERS`].
    pub arguments: &'static [&'static str],
    /// What RDX holds on success.
    pub value: &'static str,
    /// The errors, in order of priority. [`Status::Reserved`], [`Status::UnknownExtension`] and
    /// [`Status::UnknownFunction`] can come back from any call and are not repeated.
    pub errors: &'static [Status],
    /// What it does, in one sentence.
    pub summary: &'static str,
}

/// An extension: functions that are present or absent together.
#[derive(Debug)]
pub struct Extension {
    /// Its number, bits 31:16 of RAX and its bit in the CPUID extension bitmap.
    pub number: u16,
    /// Its name.
    pub name: &'static str,
    /// Its version, as `base.probe` returns it; never 0.
    pub version: u32,
    /// Its functions.
    pub calls: &'static [Call],
}

macro_rules! extensions {
    ($($(#[$doc:meta])* $ext:ident = $ext_number:literal v $version:literal {
        $($(#[$fdoc:meta])* $call:ident = $function:literal ($($arg:ident),*) -> $value:literal
            errors [$($error:ident),*] : $summary:literal;)*
    })*) => {
        $($(#[$doc])* pub mod $ext {
            use super::Number;
            /// The extension's number.
            pub const EXTENSION: u16 = $ext_number;
            /// The extension's version.
            pub const VERSION: u32 = $version;
            $(#[doc = $summary] $(#[$fdoc])*
            pub const $call: Number = Number::new(EXTENSION, $function);)*
        })*

        /// Every extension of this version of the ABI, with its calls.
        pub const EXTENSIONS: &[Extension] = &[$(Extension {
            number: $ext_number,
            name: stringify!($ext),
            version: $version,
            calls: &[$(Call {
                number: $ext::$call,
                name: stringify!($call),
                arguments: &[$(stringify!($arg)),*],
                value: $value,
                errors: &[$(Status::$error),*],
                summary: $summary,
            }),*],
        }),*];

        /// The number and the version of each extension: what a hypervisor needs of [`EXTENSIONS`], without
        /// what only people read.
        pub const VERSIONS: &[(u16, u32)] = &[$(($ext_number, $version)),*];
    };
}

extensions! {
    /// Mandatory: versions and presence.
    base = 0 v 1 {
        VERSION_CALL = 0 () -> "ABI version: major in bits 31:16, minor in bits 15:0" errors []:
            "Returns the version of the ABI.";
        PROBE = 1 (extension) -> "version of the extension, 0 if it is absent"
            errors [InvalidArgument]:
            "Asks whether an extension is present.";
        ACKNOWLEDGE = 2 (version) -> "the version in force from now on" errors [InvalidArgument]:
            "States the ABI version that the guest was built for; refused when the hypervisor does not speak it.";
        NOP = 3 () -> "0" errors []:
            "Does nothing: the price of a call.";
    }
    /// The per-vCPU area.
    area = 1 v 1 {
        REGISTER = 0 (gpa) -> "guest-physical address of the read-only half"
            errors [Misaligned, BadAddress, AlreadyDone]:
            "Registers one page of RAM as the calling vCPU's shared half and maps the hypervisor's read-only half.";
        UNREGISTER = 1 () -> "0" errors [NotReady]:
            "Takes the registration back; the hypervisor stops reading and writing the page.";
    }
    /// The console.
    console = 2 v 1 {
        WRITE = 0 (gpa, length) -> "bytes taken" errors [BadLength, BadAddress]:
            "Writes bytes to the console, at most one page of them.";
        READ = 1 (gpa, length) -> "bytes stored" errors [BadLength, BadAddress]:
            "Reads what was typed, without waiting.";
        RING_REGISTER = 2 (gpa) -> "capacity of the ring in bytes"
            errors [Misaligned, BadAddress, AlreadyDone]:
            "Registers one page of RAM as the console's output ring, drained at exits that happen anyway.";
        RING_FLUSH = 3 () -> "bytes drained" errors [NotReady]:
            "Drains the ring now.";
    }
    /// The one-shot timer.
    timer = 3 v 1 {
        ARM = 0 (deadline) -> "0" errors []:
            "Arms the local APIC timer for an absolute guest TSC, as a write of IA32_TSC_DEADLINE does; 0 disarms.";
    }
    /// Giving up the CPU.
    sched = 4 v 1 {
        HALT_UNTIL = 0 (deadline, flags) -> "0" errors [Reserved]:
            "Arms the timer unless the deadline is 0 and halts until an interrupt is pending; flag 0 sets RFLAGS.IF on return.";
        YIELD = 1 () -> "0" errors []:
            "Lets other vCPUs of this CPU run first.";
    }
    /// The machine as a whole.
    sys = 5 v 1 {
        SHUTDOWN = 0 (code) -> "does not return" errors [InvalidArgument]:
            "Ends the VM and reports the code, 0 to 255.";
        RESET = 1 () -> "does not return" errors [Denied]:
            "Starts the VM again from its image.";
        CRASH = 2 (gpa, length) -> "does not return" errors [BadLength, BadAddress]:
            "Ends the VM as crashed, with a message of at most one page and the vCPU's registers in the report.";
    }
    /// Accounting.
    stat = 6 v 1 {
        MARK = 0 (id, phase) -> "the vCPU's exits so far, marks left out" errors [InvalidArgument, Denied]:
            "Marks the begin or end of a measured section in the report; a mark is not counted.";
        READ = 1 (selector) -> "the counter" errors [InvalidArgument, Denied]:
            "Reads one counter of the calling vCPU without an area.";
    }
    /// What the vCPUs of a VM do to each other.
    smp = 7 v 1 {
        START = 0 (vcpu, entry, cr3, argument) -> "0"
            errors [Misaligned, BadAddress, InvalidArgument, AlreadyDone]:
            "Starts a vCPU that waits for a startup IPI, in 64-bit mode at a linear address, with page tables and an argument.";
        SEND = 1 (vector, first, mask) -> "0" errors [InvalidArgument]:
            "Interrupts a set of vCPUs.";
        FLUSH = 2 (first, mask) -> "0" errors [InvalidArgument]:
            "Flushes every translation of a set of vCPUs; `AGAIN` comes with the mask of those that have not done it yet.";
        KICK = 3 (vcpu) -> "0" errors [InvalidArgument]:
            "Ends the wait of a vCPU, or its next one.";
        WAIT = 4 () -> "0" errors []:
            "Halts until the vCPU is kicked or an interrupt is pending.";
        YIELD_TO = 5 (vcpu) -> "0" errors [InvalidArgument]:
            "Lets other vCPUs of this CPU run first, and preferably this one.";
    }
    /// Events between vCPUs, and between VMs that are linked.
    event = 8 v 1 {
        NUMBER = 0 () -> "the number of the VM" errors []:
            "Returns the number by which others name this VM.";
        LINKS = 1 () -> "the VMs that it may reach, bit *i* for number *i*" errors []:
            "Returns which other VMs this one is linked to.";
        OPEN = 2 (port, vcpu, vm) -> "0" errors [InvalidArgument, AlreadyDone, NotReady, Denied]:
            "Opens a port whose events go to a vCPU, for a port of another VM to be connected, or, with the VM's own number, for itself.";
        CONNECT = 3 (port, remote) -> "0" errors [InvalidArgument, AlreadyDone, NotReady]:
            "Connects an open port with a port that the other VM has opened for this one, and raises that.";
        CLOSE = 4 (port) -> "0" errors [InvalidArgument, NotReady]:
            "Closes a port; its peer is open again, and raised.";
        SEND = 5 (port, flags) -> "0" errors [Reserved, InvalidArgument, NotReady]:
            "Raises the peer of a port; flag 0 then waits as `event.wait` does.";
        VECTOR = 6 (vector) -> "0" errors [InvalidArgument]:
            "Says by which interrupt the calling vCPU is told of events; 0 for none.";
        WAIT = 7 (deadline) -> "0" errors []:
            "Arms the timer unless the deadline is 0 and halts until an event or an interrupt is pending.";
    }
    /// Pages that a VM lets another one use.
    share = 9 v 1 {
        OFFER = 0 (slot, gpa, vm, access) -> "0"
            errors [Misaligned, BadAddress, InvalidArgument, AlreadyDone, Denied]:
            "Offers one page of RAM to a linked VM, under a number of the caller's.";
        REVOKE = 1 (slot) -> "0" errors [InvalidArgument, NotReady]:
            "Takes an offer back; `AGAIN` comes with the number of vCPUs that may still use the page.";
        MAP = 2 (vm, slot, index) -> "guest-physical address of the page"
            errors [InvalidArgument, AlreadyDone, NotReady]:
            "Maps a page that a linked VM offers at a place of the caller's window.";
        UNMAP = 3 (vm, slot) -> "0" errors [InvalidArgument, NotReady]:
            "Gives a page back that was mapped.";
    }
}

/// Bits of the `flags` argument of `sched.halt_until`.
pub mod halt {
    /// RFLAGS.IF is 1 on return, as after `sti; hlt`: the interrupt that ended the halt is delivered
    /// before the next instruction.
    pub const ENABLE_INTERRUPTS: u64 = 1 << 0;
}

/// Limits and values of the arguments of *share*.
pub mod grant {
    /// Offers that a VM can have at a time; their numbers are below this.
    pub const SLOTS: usize = 256;
    /// Places in the window of a VM; their indices are below this.
    pub const PLACES: usize = 512;
    /// `access` of an offer: the page may be read.
    pub const READ: u64 = 0;
    /// `access` of an offer: the page may be read and written.
    pub const READ_WRITE: u64 = 1;
}

/// Looks up a call by its number.
pub fn find(number: Number) -> Result<&'static Call, Status> {
    if !number.is_well_formed() {
        return Err(Status::Reserved);
    }
    let extension = EXTENSIONS
        .iter()
        .find(|e| e.number == number.extension())
        .ok_or(Status::UnknownExtension)?;
    extension.calls.iter().find(|c| c.number == number).ok_or(Status::UnknownFunction)
}
