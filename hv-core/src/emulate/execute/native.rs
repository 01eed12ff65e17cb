//! The CPU that runs the tests as the judge: the same bytes, registers and memory are given to it and
//! to the engine, and both must leave the same.

#![cfg(all(target_arch = "x86_64", target_os = "linux"))]

use core::arch::{asm, naked_asm};
use core::mem::offset_of;
use std::sync::{Mutex, MutexGuard};
use std::vec::Vec;

/// Below 2 GiB, so that 32-bit displacements and addresses reach it.
pub const BASE: u64 = 0x3000_0000;
/// Instructions run here.
pub const CODE: u64 = BASE + 0x1000;
/// What they work on.
pub const DATA: u64 = BASE + 0x2000;
/// Bytes of it: two pages.
pub const DATA_SIZE: usize = 0x2000;

/// Everything that an instruction of a user changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The general registers, by number.
    pub registers: [u64; 16],
    /// RFLAGS.
    pub flags: u64,
    /// The bytes from [`DATA`] on.
    pub data: Vec<u8>,
}

/// At [`BASE`].
#[repr(C)]
struct Block {
    registers: [u64; 16],
    flags: u64,
    host_stack: u64,
    enter: u64,
    leave: u64,
}

static OWNER: Mutex<bool> = Mutex::new(false);

/// The right to use the fixed addresses.
pub struct Native(#[allow(dead_code)] MutexGuard<'static, bool>);

impl Native {
    /// Maps the addresses, once, and waits until nobody else uses them.
    pub fn get() -> Native {
        let mut mapped = OWNER.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if !*mapped {
            const MMAP: u64 = 9;
            const READ_WRITE_EXECUTE: u64 = 7;
            /// Private, anonymous, at this address and not in place of anything.
            const FLAGS: u64 = 0x10_0022;
            let size = DATA - BASE + DATA_SIZE as u64;
            let got: u64;
            // SAFETY: new memory at an address where there is none, or an error.
            unsafe {
                asm!("syscall", inlateout("rax") MMAP => got, in("rdi") BASE, in("rsi") size,
                    in("rdx") READ_WRITE_EXECUTE, in("r10") FLAGS, in("r8") u64::MAX, in("r9") 0,
                    lateout("rcx") _, lateout("r11") _, options(nostack));
            }
            assert_eq!(got, BASE, "the tests need this address for themselves");
            *mapped = true;
        }
        Native(mapped)
    }

    /// Runs one instruction, which neither faults nor jumps.
    pub fn run(&self, code: &[u8], state: &State) -> State {
        const JUMP_INDIRECT: [u8; 3] = [0xff, 0x24, 0x25];
        const RESERVED: u64 = 1 << 1 | 1 << 9;
        let block = BASE as *mut Block;
        let mut after = state.clone();
        // SAFETY: the memory is mapped and this value's. The instruction stays within `DATA`, as the
        // caller vouches, and the switch saves and restores what Rust has in the CPU.
        unsafe {
            let to = CODE as *mut u8;
            to.copy_from(code.as_ptr(), code.len());
            let tail = to.add(code.len());
            tail.copy_from(JUMP_INDIRECT.as_ptr(), 3);
            let leave = BASE as u32 + offset_of!(Block, leave) as u32;
            tail.add(3).cast::<u32>().write_unaligned(leave);
            (DATA as *mut u8).copy_from(state.data.as_ptr(), DATA_SIZE);
            block.write(Block {
                registers: state.registers,
                flags: state.flags | RESERVED,
                host_stack: 0,
                enter: CODE,
                leave: leave_instruction as *const () as u64,
            });
            // A jump serializes what was written, on one CPU.
            enter_instruction();
            after.registers = (*block).registers;
            after.flags = (*block).flags & !RESERVED;
            (DATA as *const u8).copy_to(after.data.as_mut_ptr(), DATA_SIZE);
        }
        after
    }
}

/// Loads the block's registers and jumps to the instruction, which [`leave_instruction`] follows.
#[unsafe(naked)]
unsafe extern "C" fn enter_instruction() {
    naked_asm!(
        "push rbx", "push rbp", "push r12", "push r13", "push r14", "push r15", "pushfq",
        "mov [{b} + {stack}], rsp",
        "push qword ptr [{b} + {flags}]", "popfq",
        "mov rax, [{b}]", "mov rcx, [{b} + 8]", "mov rdx, [{b} + 16]", "mov rbx, [{b} + 24]",
        "mov rsp, [{b} + 32]", "mov rbp, [{b} + 40]", "mov rsi, [{b} + 48]", "mov rdi, [{b} + 56]",
        "mov r8, [{b} + 64]", "mov r9, [{b} + 72]", "mov r10, [{b} + 80]", "mov r11, [{b} + 88]",
        "mov r12, [{b} + 96]", "mov r13, [{b} + 104]", "mov r14, [{b} + 112]",
        "mov r15, [{b} + 120]",
        "jmp qword ptr [{b} + {enter}]",
        b = const BASE,
        stack = const offset_of!(Block, host_stack),
        flags = const offset_of!(Block, flags),
        enter = const offset_of!(Block, enter),
    )
}

/// Stores the registers, and returns to the caller of [`enter_instruction`].
#[unsafe(naked)]
unsafe extern "C" fn leave_instruction() {
    naked_asm!(
        "mov [{b}], rax", "mov [{b} + 8], rcx", "mov [{b} + 16], rdx", "mov [{b} + 24], rbx",
        "mov [{b} + 32], rsp", "mov [{b} + 40], rbp", "mov [{b} + 48], rsi", "mov [{b} + 56], rdi",
        "mov [{b} + 64], r8", "mov [{b} + 72], r9", "mov [{b} + 80], r10", "mov [{b} + 88], r11",
        "mov [{b} + 96], r12", "mov [{b} + 104], r13", "mov [{b} + 112], r14",
        "mov [{b} + 120], r15",
        "mov rsp, [{b} + {stack}]",
        "pushfq", "pop qword ptr [{b} + {flags}]",
        "popfq", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx", "ret",
        b = const BASE,
        stack = const offset_of!(Block, host_stack),
        flags = const offset_of!(Block, flags),
    )
}
