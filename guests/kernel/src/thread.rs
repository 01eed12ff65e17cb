//! Cooperative threads of CPU 0, each with a stack and an address space.

use core::arch::naked_asm;
use core::cell::UnsafeCell;

use crate::frames;
use crate::paging::AddressSpace;
use crate::smp::this;

/// How many there can be, the one that the kernel starts with among them.
pub const THREADS: usize = 4;
const STACK_FRAMES: u64 = 4;

#[derive(Clone, Copy)]
struct Thread {
    /// Where its registers are, while it does not run.
    stack: u64,
    space: AddressSpace,
}

struct Threads {
    all: [Option<Thread>; THREADS],
    running: usize,
}

struct Cell(UnsafeCell<Threads>);
// SAFETY: threads are CPU 0's, interrupt handlers do not touch threads, and no reference into the cell
// is kept across a switch.
unsafe impl Sync for Cell {}

static THREADS_CELL: Cell = Cell(UnsafeCell::new(Threads { all: [None; THREADS], running: 0 }));

/// Makes a thread that runs `main` in `space` when it is switched to for the first time. Threads
/// live as long as the guest.
///
/// # Panics
///
/// If there are [`THREADS`] already, or on another CPU.
pub fn spawn(main: extern "C" fn() -> !, space: AddressSpace) -> usize {
    assert_eq!(this(), 0, "threads are CPU 0's");
    let base = frames::allocate_run(STACK_FRAMES).start_address().as_u64();
    let top = base + STACK_FRAMES * 4096;
    // What `switch` pops: six registers, then the address to return to. One more word makes the
    // stack look as it does at a function's first instruction.
    let stack = top - 64;
    // SAFETY: the stack's frames are ours, contiguous and identity mapped.
    unsafe { (stack as *mut [u64; 8]).write([0, 0, 0, 0, 0, 0, main as usize as u64, 0]) };
    // SAFETY: see `Cell`.
    let threads = unsafe { &mut *THREADS_CELL.0.get() };
    threads.all[0].get_or_insert(Thread { stack: 0, space: AddressSpace::current() });
    let free = threads.all.iter().position(Option::is_none).expect("no room for another thread");
    threads.all[free] = Some(Thread { stack, space });
    free
}

/// Runs `thread` until it switches back, loading CR3 if its address space is another one.
///
/// # Panics
///
/// If there is no such thread.
#[inline]
pub fn switch_to(thread: usize) {
    let (save, load, space) = {
        // SAFETY: see `Cell`.
        let threads = unsafe { &mut *THREADS_CELL.0.get() };
        let next = threads.all[thread].expect("no such thread");
        let running = threads.running;
        let current = threads.all[running].as_mut().expect("the running thread exists");
        let space = (current.space != next.space).then_some(next.space);
        threads.running = thread;
        (&raw mut current.stack, next.stack, space)
    };
    if let Some(space) = space {
        space.activate();
    }
    // SAFETY: `load` was saved by `switch` or made by `spawn`.
    unsafe { switch(save, load) }
}

/// Saves what a function must preserve and continues on another stack.
#[unsafe(naked)]
unsafe extern "C" fn switch(save: *mut u64, load: u64) {
    naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "mov [rdi], rsp",
        "mov rsp, rsi",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop rbp",
        "pop rbx",
        "ret",
    )
}
