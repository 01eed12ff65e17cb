//! Running code that may fault, and saying how it did.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::registers::control::Cr2;

use crate::descriptors::selector;
use crate::interrupts::{EXCEPTIONS, Frame};
use crate::smp::{CPUS, this};

/// An exception that ended a probe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fault {
    /// Its vector.
    pub vector: u64,
    /// Its error code, 0 if it has none.
    pub error: u64,
    /// The instruction that it points to.
    pub rip: u64,
    /// CR2, meaningful for a page fault.
    pub address: u64,
}

/// The probe of a CPU.
struct Probe {
    /// The stack pointer to go back to; 0 while none runs.
    stack: AtomicU64,
    last: UnsafeCell<Fault>,
}
// SAFETY: a CPU uses its own, and the cell is written by an exception of the probe that then reads it.
unsafe impl Sync for Probe {}

static PROBES: [Probe; CPUS] = [const {
    let last = UnsafeCell::new(Fault { vector: 0, error: 0, rip: 0, address: 0 });
    Probe { stack: AtomicU64::new(0), last }
}; CPUS];

/// Runs `code` until it returns or causes an exception without a handler of its own, from whatever
/// mode or privilege level it went to.
///
/// What `code` owned when it faulted is not dropped. Probes of a CPU do not nest.
///
/// # Errors
///
/// The exception.
pub fn probe<T>(code: impl FnOnce() -> T) -> Result<T, Fault> {
    struct Call<F, T>(Option<F>, Option<T>);
    extern "C" fn run<T, F: FnOnce() -> T>(call: &mut Call<F, T>) {
        call.1 = call.0.take().map(|code| code());
    }
    fn monomorphic<T, F: FnOnce() -> T>(_: &Call<F, T>) -> u64 {
        run::<T, F> as *const () as u64
    }
    let mut call = Call(Some(code), None);
    let function = monomorphic(&call);
    let probe = &PROBES[this()];
    // SAFETY: `function` is `run` for this very `call`, which lives until `enter` has returned.
    let faulted = unsafe { enter(function, (&raw mut call) as u64, probe.stack.as_ptr()) };
    probe.stack.store(0, Ordering::Relaxed);
    match call.1 {
        Some(value) if faulted == 0 => Ok(value),
        // SAFETY: see `Probe`; the exception is over.
        _ => Err(unsafe { *probe.last.get() }),
    }
}

/// Sends the interrupted code back to the end of its probe; false if there is none.
pub(crate) fn recover(frame: &mut Frame) -> bool {
    let probe = &PROBES[this()];
    let stack = probe.stack.load(Ordering::Relaxed);
    if stack == 0 || frame.vector >= EXCEPTIONS {
        return false;
    }
    let fault = Fault {
        vector: frame.vector,
        error: frame.error,
        rip: frame.rip,
        address: Cr2::read_raw(),
    };
    // SAFETY: see `Probe`.
    unsafe { *probe.last.get() = fault };
    frame.rip = leave as *const () as u64;
    frame.rsp = stack;
    frame.rax = 1;
    frame.cs = selector::KERNEL_CODE;
    frame.ss = selector::KERNEL_DATA;
    frame.rflags = 2;
    true
}

/// Calls `function(argument)` with the registers that a function must preserve on the stack, whose pointer
/// is left in `stack`, and returns 0, or 1 from [`leave`].
#[unsafe(naked)]
unsafe extern "C" fn enter(function: u64, argument: u64, stack: *mut u64) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "pushfq",
        "mov [rdx], rsp",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "xor eax, eax",
        "jmp {leave}",
        leave = sym leave,
    )
}

/// The end of [`enter`], with its stack pointer and the result in RAX.
#[unsafe(naked)]
unsafe extern "C" fn leave() {
    naked_asm!("popfq", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx", "ret",)
}
