//! Running code that may fault, and saying how it did.

use core::arch::naked_asm;
use core::cell::UnsafeCell;
use core::sync::atomic::{AtomicU64, Ordering};

use x86_64::registers::control::Cr2;

use crate::descriptors::selector;
use crate::interrupts::{EXCEPTIONS, Frame};

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

struct Last(UnsafeCell<Fault>);
// SAFETY: there is one CPU, and the cell is written by an exception of the probe that then reads it.
unsafe impl Sync for Last {}

/// The stack pointer to go back to; 0 while no probe runs.
static STACK: AtomicU64 = AtomicU64::new(0);
static LAST: Last = Last(UnsafeCell::new(Fault { vector: 0, error: 0, rip: 0, address: 0 }));

/// Runs `code` until it returns or causes an exception without a handler of its own, from whatever
/// mode or privilege level it went to.
///
/// What `code` owned when it faulted is not dropped. Probes do not nest.
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
    // SAFETY: `function` is `run` for this very `call`, which lives until `enter` has returned.
    let faulted = unsafe { enter(function, (&raw mut call) as u64) };
    match call.1 {
        Some(value) if faulted == 0 => Ok(value),
        // SAFETY: see `Last`; the exception is over.
        _ => Err(unsafe { *LAST.0.get() }),
    }
}

/// Sends the interrupted code back to the end of its probe; false if there is none.
pub(crate) fn recover(frame: &mut Frame) -> bool {
    let stack = STACK.load(Ordering::Relaxed);
    if stack == 0 || frame.vector >= EXCEPTIONS {
        return false;
    }
    let fault = Fault {
        vector: frame.vector,
        error: frame.error,
        rip: frame.rip,
        address: Cr2::read_raw(),
    };
    // SAFETY: see `Last`.
    unsafe { *LAST.0.get() = fault };
    frame.rip = leave as *const () as u64;
    frame.rsp = stack;
    frame.rax = 1;
    frame.cs = selector::KERNEL_CODE;
    frame.ss = selector::KERNEL_DATA;
    frame.rflags = 2;
    true
}

/// Calls `function(argument)` with the registers that a function must preserve on the stack, and
/// returns 0, or 1 from [`leave`].
#[unsafe(naked)]
unsafe extern "C" fn enter(function: u64, argument: u64) -> u64 {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "pushfq",
        "mov [rip + {stack}], rsp",
        "mov rax, rdi",
        "mov rdi, rsi",
        "call rax",
        "xor eax, eax",
        "jmp {leave}",
        stack = sym STACK,
        leave = sym leave,
    )
}

/// The end of [`enter`], with its stack pointer and the result in RAX.
#[unsafe(naked)]
unsafe extern "C" fn leave() {
    naked_asm!(
        "mov qword ptr [rip + {stack}], 0",
        "popfq",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
        stack = sym STACK,
    )
}
