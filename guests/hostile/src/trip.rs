//! Trips: from the kernel's 64-bit mode into any mode of the CPU, and back by whatever exception or
//! interrupt comes first.
//!
//! Everything that a trip needs is in the lowest megabyte, where every mode reaches it: code
//! ([`code`]), what is loaded and what was found ([`Data`]), and tables ([`tables`]). The paged modes
//! see nothing else, so that what is executed there cannot reach the kernel.

use core::ops::Range;

use x86_64::registers::control::{Cr0, Cr3, Cr4};
use x86_64::registers::model_specific::{Efer, Msr};

pub mod code;
pub mod tables;

use tables::{DATA, STACK_TOP, flat, gate_tables, segment};

/// Which way leads into the mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Way {
    /// Protected mode and virtual-8086 mode, with 32-bit gates.
    #[default]
    Protected,
    /// Real mode.
    Real,
    /// 64-bit mode and compatibility mode.
    Long,
}

/// The address space of a trip's paged modes; each maps the same pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paging {
    /// None.
    #[default]
    Off,
    /// 32-bit paging, two levels.
    TwoLevels,
    /// PAE paging.
    Pae,
}

/// What a trip starts with.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// The way into the mode.
    pub way: Way,
    /// Unless the way is [`Way::Long`].
    pub paging: Paging,
    /// RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8 to R15.
    pub registers: [u64; 16],
    /// The instruction pointer.
    pub ip: u64,
    /// CS; its last two bits are the privilege level.
    pub cs: u16,
    /// SS.
    pub ss: u16,
    /// ES, DS, FS, GS.
    pub data: [u16; 4],
    /// In real mode, ES, DS, FS and GS are loaded before protected mode is left: base and limit are those
    /// of descriptors.
    pub unreal: bool,
    /// RFLAGS; with bit 17 the mode is virtual-8086.
    pub flags: u64,
    /// CR0 but for PE and PG, which follow from the way and the paging.
    pub cr0: u32,
    /// CR4 but for PAE.
    pub cr4: u32,
}

/// What brought a trip to its end, and the state that it found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct End {
    /// The vector.
    pub vector: u8,
    /// The error code, where one was pushed.
    pub error: Option<u32>,
    /// The registers, in the order of [`Start::registers`]; the upper halves are 0 unless the way was
    /// [`Way::Long`].
    pub registers: [u64; 16],
    /// The instruction pointer.
    pub ip: u64,
    /// CS.
    pub cs: u16,
    /// SS.
    pub ss: u16,
    /// ES, DS, FS, GS. Those of virtual-8086 mode.
    pub data: [u16; 4],
    /// RFLAGS.
    pub flags: u64,
    /// CR0.
    pub cr0: u64,
    /// CR2.
    pub cr2: u64,
    /// CR4.
    pub cr4: u64,
}

/// Where code and data of a trip are.
pub const ARENA: Range<u64> = 0x2_0000..0x3_0000;
/// Paged modes see this much of it.
pub const MAPPED: u64 = 0x4000;

const CR0_PE: u64 = 1 << 0;
const CR0_TS: u64 = 1 << 3;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// RFLAGS.VM.
pub const VM: u64 = 1 << 17;

impl Default for Start {
    fn default() -> Start {
        Start::REAL
    }
}

impl Start {
    /// 16-bit code at the start of the arena, in real mode.
    pub const REAL: Start = Start {
        way: Way::Real,
        paging: Paging::Off,
        registers: [0, 0, 0, 0, 0x3f00, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ip: 0,
        cs: (ARENA.start >> 4) as u16,
        ss: (ARENA.start >> 4) as u16,
        data: [(ARENA.start >> 4) as u16; 4],
        unreal: false,
        flags: 2,
        cr0: 0x30,
        cr4: 0,
    };

    /// A start in protected mode with these segments.
    pub fn protected(cs: u16, data: u16) -> Start {
        Start { way: Way::Protected, cs, ss: data, data: [data; 4], ..Start::default() }
    }

    /// A start in virtual-8086 mode.
    pub fn virtual_8086(paging: Paging) -> Start {
        Start { way: Way::Protected, paging, flags: VM | 2, ..Start::default() }
    }

    /// Whether an exception changes the stack.
    fn changes_stack(&self) -> bool {
        self.way == Way::Long
            || self.way == Way::Protected && (self.cs & 3 != 0 || self.is_virtual())
    }

    fn is_virtual(&self) -> bool {
        self.way == Way::Protected && self.flags & VM != 0
    }
}

/// What the code of a trip reads and writes, at [`DATA`].
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Data {
    registers: [u64; 16],
    cr0: u64,
    cr3: u64,
    cr4: u64,
    /// Where the frame is that IRET takes: offset, then selector.
    frame: u32,
    frame_segment: u32,
    /// ES, DS, FS, GS.
    data: [u32; 4],
    way: u32,
    task: u32,
    unreal: u32,
    unused: u32,
    gdtr: TableRegister,
    idtr: TableRegister,
    kernel: Kernel,
    found: Found,
}

/// What goes back into the registers at the end.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Kernel {
    cr0: u64,
    cr3: u64,
    cr4: u64,
    efer: u64,
    rsp: u64,
    gdtr: TableRegister,
    idtr: TableRegister,
}

/// What was found.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct Found {
    registers: [u64; 16],
    /// The address behind the stub's call, of which the vector follows.
    stub: u64,
    /// The stack pointer behind it.
    rsp: u64,
    stack: [u64; 10],
    /// ES, DS, FS, GS, SS.
    segments: [u32; 6],
    cr0: u64,
    cr2: u64,
    cr4: u64,
}

/// GDTR or IDTR as the instructions have them, at an address that is aligned for the base.
#[derive(Clone, Copy, Default)]
#[repr(C)]
struct TableRegister {
    empty: [u16; 3],
    limit: u16,
    base: u64,
}

impl TableRegister {
    const fn new(base: u64, limit: u16) -> TableRegister {
        TableRegister { empty: [0; 3], limit, base }
    }
}

/// Makes tables, code and gates anew, so that nothing that an earlier trip did to them matters.
pub fn prepare() {
    code::copy();
    tables::make();
}

/// Writes a frame for IRET, of words of this size.
fn write_frame(at: u64, words: &[u64], size: usize) {
    for (i, word) in words.iter().enumerate() {
        let place = at + (i * size) as u64;
        // SAFETY: the frame is on the stack of trips or in the arena, RAM that nobody else uses.
        unsafe {
            if size == 8 {
                (place as *mut u64).write_unaligned(*word);
            } else {
                (place as *mut u32).write_unaligned(*word as u32);
            }
        }
    }
}

/// Where IRET finds the state, as offset and selector.
fn frame(start: &Start) -> (u32, u16) {
    let sp = start.registers[4];
    let (ip, cs, ss) = (start.ip, u64::from(start.cs), u64::from(start.ss));
    let [es, ds, fs, gs] = start.data.map(u64::from);
    let words = [ip, cs, start.flags, sp, ss, es, ds, fs, gs];
    if start.way == Way::Long {
        write_frame(STACK_TOP - 40, &words[..5], 8);
        (STACK_TOP as u32 - 40, segment::DATA)
    } else if start.changes_stack() {
        let words = if start.is_virtual() { &words[..] } else { &words[..5] };
        write_frame(STACK_TOP - 36, words, 4);
        (STACK_TOP as u32 - 36, segment::DATA)
    } else {
        // The same stack is left, so the frame is on it.
        let base = if start.way == Way::Real { ss << 4 } else { flat(start.ss) };
        write_frame(base + (sp - 12), &words[..3], 4);
        (sp as u32 - 12, start.ss)
    }
}

/// Makes the trip. [`prepare`] has been called since the last one that may have damaged something.
pub fn go(start: &Start) -> End {
    let pages = start.paging != Paging::Off || start.way == Way::Long;
    let pae = if start.paging == Paging::Pae || start.way == Way::Long { CR4_PAE } else { 0 };
    let mode = if start.way == Way::Real { 0 } else { CR0_PE };
    let (frame, frame_segment) = frame(start);
    let [es, ds, fs, gs] = if start.is_virtual() { [0; 4] } else { start.data.map(u32::from) };
    let efer = Efer::read_raw();
    let data = Data {
        registers: start.registers,
        cr0: u64::from(start.cr0) | mode | if pages { CR0_PG } else { 0 },
        cr3: tables::root(start.way, start.paging),
        cr4: u64::from(start.cr4) | pae,
        frame,
        frame_segment: frame_segment.into(),
        data: [es, ds, fs, gs],
        way: start.way as u32,
        task: if start.way == Way::Long { segment::TASK_64 } else { segment::TASK_32 }.into(),
        unreal: start.unreal.into(),
        unused: 0,
        gdtr: TableRegister::new(tables::GDT, tables::GDT_LIMIT),
        idtr: gate_tables(start.way),
        kernel: Kernel {
            cr0: Cr0::read_raw() & !CR0_TS,
            cr3: Cr3::read_raw().0.start_address().as_u64(),
            cr4: Cr4::read_raw(),
            efer: efer & !EFER_LMA | EFER_LME,
            ..Kernel::default()
        },
        found: Found::default(),
    };
    tables::renew();
    // SAFETY: RAM that only trips use.
    unsafe { (DATA as *mut Data).write_volatile(data) };
    // SAFETY: `prepare` has put code and tables in place; interrupts stay off until the mode is left.
    unsafe { code::go() };
    // SAFETY: as above.
    let found = unsafe { (DATA as *const Data).read_volatile() }.found;
    if Efer::read_raw() != efer {
        // SAFETY: it is what it was.
        unsafe { Msr::new(0xc000_0080).write(efer) };
    }
    end(start, &found)
}

fn end(start: &Start, found: &Found) -> End {
    let vector = code::vector(start.way, found.stub);
    let stack = &found.stack;
    let [es, ds, fs, gs, ss, _] = found.segments.map(|s| s as u16);
    // On a stack of its own its length says whether there is an error code.
    let words = match start.way {
        Way::Long => STACK_TOP.wrapping_sub(found.rsp) / 8,
        Way::Protected if start.changes_stack() => STACK_TOP.wrapping_sub(found.rsp) / 4,
        _ => 3,
    };
    let pushed = match start.way {
        Way::Real => false,
        Way::Protected if !start.changes_stack() => matches!(vector, 8 | 10..=14 | 17),
        _ => words == 6 || words == 10,
    };
    let frame = &stack[usize::from(pushed)..];
    let changed = start.changes_stack();
    let is_virtual = start.way == Way::Protected && frame[2] & VM != 0;
    let mut registers = found.registers;
    // Without a change of stacks the frame was pushed to the one in use.
    let size = if start.way == Way::Real { 2 } else { 4 };
    registers[4] = if changed { frame[3] } else { found.rsp + size * (3 + u64::from(pushed)) };
    let data = if is_virtual && changed {
        [5, 6, 7, 8].map(|i| frame[i] as u16)
    } else {
        [es, ds, fs, gs]
    };
    End {
        vector,
        error: pushed.then_some(stack[0] as u32),
        registers,
        ip: frame[0],
        cs: frame[1] as u16,
        ss: if changed { frame[4] as u16 } else { ss },
        data,
        flags: frame[2],
        cr0: found.cr0,
        cr2: found.cr2,
        cr4: found.cr4,
    }
}

/// Puts code into the arena, which is filled with INT3 before.
pub fn place(code: &[u8], at: u64) {
    clear(ARENA.start, ARENA.end - ARENA.start);
    put(code, at);
}

/// Puts code into the arena, cut off at its end.
pub fn put(code: &[u8], at: u64) {
    let room = (ARENA.end - ARENA.start - at) as usize;
    let to = (ARENA.start + at) as *mut u8;
    // SAFETY: the arena is RAM that only trips use, and the code is cut to fit.
    unsafe { core::ptr::copy_nonoverlapping(code.as_ptr(), to, code.len().min(room)) };
}

/// Fills memory of the arena with INT3. What is there already stays: an emulator would translate it again.
pub fn clear(from: u64, bytes: u64) {
    const INT3: u64 = 0xcccc_cccc_cccc_cccc;
    for word in (from..from + bytes).step_by(8) {
        let word = word as *mut u64;
        // SAFETY: as above.
        unsafe {
            if word.read_volatile() != INT3 {
                word.write_volatile(INT3);
            }
        }
    }
}

/// Has an NMI in a trip reset the machine by its keyboard controller, until [`prepare`]: no way back that a
/// trip has damaged is gone.
pub fn reset_by_nmi() {
    const NMI: u64 = 2;
    /// MOV AL, FEh; OUT 64h, AL; JMP to the OUT; the same in code of each size.
    const RESET: u64 = u64::from_le_bytes([0xb0, 0xfe, 0xe6, 0x64, 0xeb, 0xfc, 0xcc, 0xcc]);
    for stub in [code::STUBS_64 + 8 * NMI, code::STUBS_32 + 8 * NMI] {
        // SAFETY: a stub is this long, and in RAM that only trips use.
        unsafe { (stub as *mut u64).write_volatile(RESET) };
    }
    tables::set_real_vector(NMI as u8, 0, (code::STUBS_32 + 8 * NMI) as u16);
}
