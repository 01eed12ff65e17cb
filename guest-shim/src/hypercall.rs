//! Hypercalls: the raw instruction and one function for each call of the ABI.

use core::arch::asm;
use core::fmt;

use pv_abi::Status;
use pv_abi::call::Number;

use crate::site::{Key, enabled};

/// Why a call did not do what it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError {
    /// Paravane is not there, or `init` has not run: no call was made.
    NoHypervisor,
    /// The hypervisor's answer.
    Status(Status),
    /// Part of the work is done, as much as the value says. Call again for the rest.
    Again(u64),
    /// A status that this version of the ABI does not define.
    Unknown(u64),
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::NoHypervisor => {
                f.write_str("no hypercalls here: Paravane was not found, or init has not run")
            }
            CallError::Status(status) => f.write_str(status.name()),
            CallError::Again(done) => write!(f, "AGAIN, {done} done: call again for the rest"),
            CallError::Unknown(code) => {
                write!(f, "status {code:#x}, which this version of the ABI does not define")
            }
        }
    }
}

impl core::error::Error for CallError {}

/// What RAX and RDX say after a call. Success takes the short way.
#[inline(always)]
fn outcome(status: u64, value: u64) -> Result<u64, CallError> {
    if status == u64::from(Status::Success) { Ok(value) } else { Err(failure(status, value)) }
}

#[cold]
fn failure(status: u64, value: u64) -> CallError {
    match Status::from_code(status) {
        Some(Status::Again) => CallError::Again(value),
        Some(status) => CallError::Status(status),
        None => CallError::Unknown(status),
    }
}

/// The instruction with these operands beside RAX and R9; one of them takes RDX into `$value`.
macro_rules! vmcall {
    ($number:expr, $value:ident; $($operands:tt)*) => {{
        let status: u64;
        let $value: u64;
        asm!(
            "2: vmcall",
            ".pushsection shim_sites, \"aR\", @progbits",
            ".balign 4",
            ".long 2b - ., 0, {amd}",
            ".popsection",
            amd = const Key::AmdCall as u32,
            inlateout("rax") $number.0 => status,
            in("r9") 0u64,
            $($operands)*,
            options(nostack, preserves_flags),
        );
        (status, $value)
    }};
}

/// Makes a call with all five argument registers; returns RAX and RDX. The instruction is VMCALL
/// until `init` has seen AMD's vendor string.
///
/// # Safety
///
/// CPL 0 on Paravane; elsewhere the instruction faults. The arguments must not make the hypervisor
/// write memory that somebody else owns, nor stop what must go on.
#[inline(always)]
pub unsafe fn raw(number: Number, arguments: [u64; 5]) -> (u64, u64) {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the ABI preserves everything but RAX and RDX; memory is assumed to change. What the
    // call does is the caller's business.
    unsafe {
        vmcall!(number, value; inlateout("rdx") c => value, in("rdi") a, in("rsi") b, in("rcx") d, in("r8") e)
    }
}

/// Makes a call of at most four arguments if Paravane is there. Registers of arguments that the call
/// does not have are ignored by the ABI, so nothing is spent on them.
///
/// # Errors
///
/// [`CallError::NoHypervisor`] without a call; else whatever the call returns.
///
/// # Safety
///
/// CPL 0. The arguments must not make the hypervisor write memory that somebody else owns, nor
/// stop what must go on.
#[inline(always)]
pub unsafe fn call<const N: usize>(number: Number, arguments: [u64; N]) -> Result<u64, CallError> {
    const { assert!(N <= 4, "a call with more arguments goes through `raw`") };
    if !enabled::<{ Key::Call as u32 }>() {
        return Err(CallError::NoHypervisor);
    }
    let argument = |i: usize| arguments.get(i).copied().unwrap_or(0);
    // SAFETY: `init` enables the site only when it has found Paravane; the rest is the caller's
    // promise.
    let (status, value) = unsafe {
        match N {
            0 => vmcall!(number, value; lateout("rdx") value),
            1 => vmcall!(number, value; lateout("rdx") value, in("rdi") argument(0)),
            2 => {
                vmcall!(number, value; lateout("rdx") value, in("rdi") argument(0), in("rsi") argument(1))
            }
            3 => {
                vmcall!(number, value; inlateout("rdx") argument(2) => value, in("rdi") argument(0), in("rsi") argument(1))
            }
            _ => {
                vmcall!(number, value; inlateout("rdx") argument(2) => value, in("rdi") argument(0), in("rsi") argument(1), in("rcx") argument(3))
            }
        }
    };
    outcome(status, value)
}

/// One function for each call, and the list of those that have one. A call that reads or writes
/// memory, or takes the machine away, is unsafe; `$why` says what for.
macro_rules! calls {
    (@safety) => { "" };
    (@safety $why:literal) => { concat!("\n\n# Safety\n\n", $why) };
    (@wrap [] $doc:literal $name:ident $number:path; $($arg:ident),*) => {
        #[doc = $doc]
        #[doc = "\n\n# Errors\n\nThose that the specification lists, and [`CallError::NoHypervisor`](super::CallError::NoHypervisor)."]
        #[inline]
        pub fn $name($($arg: u64),*) -> Result<u64, super::CallError> {
            // SAFETY: by the ABI this call takes no address and stops nothing.
            unsafe { super::call($number, [$($arg),*]) }
        }
    };
    (@wrap [$why:literal] $doc:literal $name:ident $number:path; $($arg:ident),*) => {
        #[doc = $doc]
        #[doc = "\n\n# Errors\n\nThose that the specification lists, and [`CallError::NoHypervisor`](super::CallError::NoHypervisor)."]
        #[doc = concat!("\n\n# Safety\n\n", $why)]
        #[inline]
        pub unsafe fn $name($($arg: u64),*) -> Result<u64, super::CallError> {
            // SAFETY: the caller's promise.
            unsafe { super::call($number, [$($arg),*]) }
        }
    };
    ($($(#[$edoc:meta])* $ext:ident {
        $($doc:literal $name:ident = $number:ident ($($arg:ident),*) $(unsafe $why:literal)?;)*
    })*) => {
        $($(#[$edoc])* pub mod $ext {
            use pv_abi::call::$ext as abi;
            $(calls!(@wrap [$($why)?] $doc $name abi::$number; $($arg),*);)*
        })*

        #[cfg(test)]
        const WRAPPED: &[Number] = &[$($(pv_abi::call::$ext::$number),*),*];
    };
}

calls! {
    /// Versions and presence.
    base {
        "The version of the ABI that the hypervisor speaks." version = VERSION_CALL();
        "The version of an extension, 0 if it is absent." probe = PROBE(extension);
        "States the ABI version that the guest was built for; `init` does it." acknowledge = ACKNOWLEDGE(version);
        "Does nothing: the price of a call." nop = NOP();
    }
    /// The per-vCPU area; [`crate::area`] is the comfortable way.
    area {
        "Registers a page as the shared half; returns the address of the read-only half."
            register = REGISTER(gpa)
            unsafe "The page at `gpa` is shared with the hypervisor until it is unregistered.";
        "Takes the registration back."
            unregister = UNREGISTER()
            unsafe "Nobody uses the read-only half any more: it is no longer mapped.";
    }
    /// The console.
    console {
        "Writes `length` bytes at `gpa` to the console; returns how many were taken." write = WRITE(gpa, length);
        "Reads what was typed, without waiting; returns how many bytes were stored."
            read = READ(gpa, length)
            unsafe "The hypervisor writes up to `length` bytes at `gpa`, which must be the caller's.";
        "Registers a page as the output ring; returns its capacity in bytes."
            ring_register = RING_REGISTER(gpa)
            unsafe "The page at `gpa` is shared with the hypervisor from now on.";
        "Drains the ring now; returns how many bytes there were." ring_flush = RING_FLUSH();
    }
    /// The one-shot timer; [`crate::timer`] is the comfortable way.
    timer {
        "Arms the local APIC timer for an absolute guest TSC; 0 disarms." arm = ARM(deadline);
    }
    /// Giving up the CPU; [`crate::idle`] is the comfortable way.
    sched {
        "Arms the timer unless the deadline is 0, and halts until an interrupt is pending."
            halt_until = HALT_UNTIL(deadline, flags)
            unsafe "With [`ENABLE_INTERRUPTS`](pv_abi::call::halt::ENABLE_INTERRUPTS) interrupts are enabled on return: the interrupt descriptor table is ready for them.";
        "Lets other vCPUs of this CPU run first." yield_now = YIELD();
    }
    /// The machine as a whole; [`crate::power`] is the comfortable way.
    sys {
        "Ends the VM and reports the code, 0 to 255." shutdown = SHUTDOWN(code);
        "Starts the VM again from its image." reset = RESET();
        "Ends the VM as crashed, with the message of `length` bytes at `gpa`." crash = CRASH(gpa, length);
    }
    /// Accounting; [`crate::stat`] is the comfortable way.
    stat {
        "Marks the begin or end of a measured section; returns the vCPU's exits so far." mark = MARK(id, phase);
        "Reads one counter of the calling vCPU." read = READ(selector);
    }
    /// What the vCPUs of a VM do to each other; [`crate::smp`] is the comfortable way.
    smp {
        "Starts a vCPU that waits for a startup IPI."
            start = START(vcpu, entry, cr3, argument)
            unsafe "What is at `entry` under the page tables at `cr3` is code for another CPU, which runs it with `argument` and nothing else.";
        "Interrupts a set of vCPUs." send = SEND(vector, first, mask);
        "Flushes every translation of a set of vCPUs; [`CallError::Again`](super::CallError::Again) comes with those that are missing."
            flush = FLUSH(first, mask);
        "Ends the wait of a vCPU, or its next one." kick = KICK(vcpu);
        "Halts until the vCPU is kicked or an interrupt is pending." wait = WAIT();
        "Lets other vCPUs of this CPU run first, and preferably this one." yield_to = YIELD_TO(vcpu);
    }
    /// Events between vCPUs, and between VMs that are linked; [`crate::event`] is the comfortable way.
    event {
        "The number by which others name this VM." number = NUMBER();
        "Which other VMs this one is linked to." links = LINKS();
        "Opens a port whose events go to a vCPU." open = OPEN(port, vcpu, vm);
        "Connects an open port with one of the other VM." connect = CONNECT(port, remote);
        "Closes a port." close = CLOSE(port);
        "Raises the peer of a port." send = SEND(port, flags);
        "Says by which interrupt the calling vCPU is told of events; 0 for none." vector = VECTOR(vector);
        "Halts until an event or an interrupt is pending." wait = WAIT(deadline);
    }
    /// Pages that a VM lets another one use; [`crate::share`] is the comfortable way.
    share {
        "Offers one page of RAM to a linked VM."
            offer = OFFER(slot, gpa, vm, access)
            unsafe "Another VM may read the page at `gpa`, and with `access` 1 write it, whenever it likes.";
        "Takes an offer back; [`CallError::Again`](super::CallError::Again) comes with how many vCPUs may still use the page."
            revoke = REVOKE(slot);
        "Maps a page that a linked VM offers; returns its guest-physical address." map = MAP(vm, slot, index);
        "Gives a page back that was mapped." unmap = UNMAP(vm, slot);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_the_abi_has_a_function() {
        for call in pv_abi::call::EXTENSIONS.iter().flat_map(|extension| extension.calls) {
            assert!(WRAPPED.contains(&call.number), "{} has none", call.name);
        }
    }

    #[test]
    fn statuses_turn_into_results() {
        assert_eq!(outcome(0, 7), Ok(7));
        assert_eq!(outcome(Status::Again.into(), 5), Err(CallError::Again(5)));
        assert_eq!(outcome(Status::Denied.into(), 0), Err(CallError::Status(Status::Denied)));
        assert_eq!(outcome(1 << 32, 0), Err(CallError::Unknown(1 << 32)));
    }

    #[test]
    fn without_a_hypervisor_no_call_is_made() {
        assert_eq!(base::nop(), Err(CallError::NoHypervisor));
    }
}
