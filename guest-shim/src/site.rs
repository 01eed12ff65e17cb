//! Patch sites: branches that cost one NOP until `init` turns them into jumps, and loads of what is there once until
//! it is there once for each CPU.
//!
//! A site is a 5-byte NOP in the instruction stream and a record of it in the section
//! `shim_sites`, whose name is a C identifier so that the linker supplies its bounds. The record
//! holds distances, not addresses, so it needs no relocation at run time.

use core::arch::asm;

use bitflags::bitflags;

/// What a site tests for. The numbers are those of [`Operations`]' bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Key {
    /// Paravane is there: hypercalls can be made.
    Call = 0,
    Cpuid = 1,
    Halt = 2,
    Timer = 3,
    Eoi = 4,
    Console = 5,
    Clock = 6,
    CrShadow = 7,
    Sys = 8,
    TscExits = 9,
    Smp = 10,
    /// The local APIC is reached by memory instead of MSRs.
    XApic = 16,
    /// The timer counts down instead of comparing the TSC.
    OneShot = 17,
    /// Not a branch: a VMCALL that becomes a VMMCALL.
    AmdCall = 32,
    /// Marks the section's existence; never patched.
    Anchor = 33,
    /// Not a branch: a load that becomes one by GS.
    PerCpu = 34,
}

bitflags! {
    /// What is done otherwise than by the native instruction, as `init` decided.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Operations: u32 {
        /// Hypercalls can be made: Paravane is there, whatever the mode.
        const CALL = 1 << Key::Call as u32;
        /// CPUID comes from the mirror.
        const CPUID = 1 << Key::Cpuid as u32;
        /// Idling is a call.
        const HALT = 1 << Key::Halt as u32;
        /// The timer is armed by the shared deadline.
        const TIMER = 1 << Key::Timer as u32;
        /// The end of an interrupt is signalled by the shared flag.
        const EOI = 1 << Key::Eoi as u32;
        /// The console is reached by call or ring.
        const CONSOLE = 1 << Key::Console as u32;
        /// Time comes from the clock in the read-only half.
        const CLOCK = 1 << Key::Clock as u32;
        /// Writes of CR0, CR4 and XCR0 that change nothing are dropped.
        const CR_SHADOW = 1 << Key::CrShadow as u32;
        /// Reset and shutdown are calls.
        const SYS = 1 << Key::Sys as u32;
        /// RDTSC exits, so coarse time does without it.
        const TSC_EXITS = 1 << Key::TscExits as u32;
        /// Other CPUs are reached by call: a fact for the kernel, which has the native ways.
        const SMP = 1 << Key::Smp as u32;
        /// Native: the local APIC is reached by memory.
        const XAPIC = 1 << Key::XApic as u32;
        /// Native: the timer is the count-down timer.
        const ONE_SHOT = 1 << Key::OneShot as u32;
    }
}

/// Whether `init` enabled the operation `KEY`: a NOP if it did not, a jump if it did.
///
/// It is a branch that the compiler sees as one, so the body of `if enabled()` moves out of line.
#[inline(always)]
pub(crate) fn enabled<const KEY: u32>() -> bool {
    #[cfg(not(any(target_vendor = "apple", windows)))]
    // SAFETY: a NOP touches nothing; as a jump it goes to `patched`, which the compiler was told of.
    unsafe {
        asm!(
            "2: .byte 0x0f, 0x1f, 0x44, 0x00, 0x00",
            ".pushsection shim_sites, \"aR\", @progbits",
            ".balign 4",
            ".long 2b - ., {patched} - ., {key}",
            ".popsection",
            patched = label { return true },
            key = const KEY,
            options(nomem, nostack, preserves_flags),
        );
    }
    false
}

/// Loads the pointer that is `at` bytes from the start of a static, or, once [`find_by_gs`] was called, of what GS
/// finds instead: one instruction in either case.
///
/// The prefixes mean nothing here: 66H before REX.W, and DS. They make room for the longer form.
#[cfg(not(any(target_vendor = "apple", windows)))]
macro_rules! load {
    ($only:path, $at:expr) => {{
        let found;
        // SAFETY: the static lives for good and has a pointer there, and so has what `find_by_gs` was promised.
        unsafe {
            core::arch::asm!(
                "2: .byte 0x66, 0x3e",
                "mov {found}, qword ptr [rip + {only} + {at}]",
                ".pushsection shim_sites, \"aR\", @progbits",
                ".balign 4",
                ".long 2b - ., {at}, {key}",
                ".popsection",
                found = lateout(reg) found,
                only = sym $only,
                at = const $at,
                key = const $crate::site::Key::PerCpu as u32,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        found
    }};
}
#[cfg(any(target_vendor = "apple", windows))]
macro_rules! load {
    ($only:path, $at:expr) => {
        // SAFETY: the static has a pointer there.
        unsafe { (&raw const $only).byte_add($at).cast::<*mut _>().read_volatile() }
    };
}
pub(crate) use load;

/// The instruction of a [`load`] as one by GS: `mov reg, gs:[disp32]`, with the register that it had.
fn by_gs([_, _, rex, opcode, modrm, ..]: [u8; 9], displacement: i32) -> [u8; 9] {
    /// ModRM: no base but a SIB byte, which has neither base nor index.
    const SIB: u8 = 0b100;
    const NOTHING: u8 = 0x25;
    let [a, b, c, d] = displacement.to_le_bytes();
    [0x65, rex, opcode, modrm & 0b111_000 | SIB, NOTHING, a, b, c, d]
}

/// One record of the section.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Record {
    /// The site, relative to this field.
    site: i32,
    /// Where to jump, relative to this field; of a load, what it adds to the start.
    target: i32,
    key: u32,
}

/// The instruction `jmp rel32` at `site` to `target`, or `None` if it is out of reach.
fn jump(site: u64, target: u64) -> Option<[u8; 5]> {
    let distance = target.wrapping_sub(site.wrapping_add(5)) as i64;
    let [a, b, c, d] = i32::try_from(distance).ok()?.to_le_bytes();
    Some([0xe9, a, b, c, d])
}

/// The records, in the order of the link.
#[cfg(not(any(target_vendor = "apple", windows)))]
fn records() -> &'static [Record] {
    let (start, stop): (*const Record, *const Record);
    // SAFETY: the block only takes addresses. Its own record makes sure that the section, and with
    // it the two symbols, exists in every image that holds this function.
    unsafe {
        asm!(
            "lea {start}, [rip + __start_shim_sites]",
            "lea {stop}, [rip + __stop_shim_sites]",
            ".pushsection shim_sites, \"aR\", @progbits",
            ".balign 4",
            ".long 0, 0, {key}",
            ".popsection",
            start = out(reg) start,
            stop = out(reg) stop,
            key = const Key::Anchor as u32,
            options(nomem, nostack, preserves_flags),
        );
    }
    let length = (stop as usize - start as usize) / size_of::<Record>();
    // SAFETY: the linker puts the records of all objects between the two symbols; nobody writes
    // them.
    unsafe { core::slice::from_raw_parts(start, length) }
}

#[cfg(any(target_vendor = "apple", windows))]
fn records() -> &'static [Record] {
    &[]
}

/// Turns every site of the `operations` into a jump, and VMCALL into VMMCALL if `amd`. Returns how
/// many sites were patched.
///
/// # Safety
///
/// CPL 0; no other CPU runs this image yet; the text is mapped where it runs and CR4.CET is 0
/// (CR0.WP cannot be cleared otherwise). Sites that have been patched stay so.
pub(crate) unsafe fn patch(operations: Operations, amd: bool) -> usize {
    let change = |record: &Record, site: u64| match record.key {
        key if key == Key::AmdCall as u32 && amd => {
            // SAFETY: the record is of a VMCALL, 0F 01 C1, which differs in its last byte only.
            unsafe { (site as *mut u8).add(2).write_volatile(0xd9) };
            true
        }
        key if key < 32 && operations.bits() & 1 << key != 0 => {
            let target =
                (&raw const record.target as u64).wrapping_add_signed(record.target.into());
            let jump = jump(site, target);
            if let Some(bytes) = jump {
                // SAFETY: the record is of a 5-byte NOP in text that the caller says is mapped;
                // this function holds no site, so it does not rewrite what it executes.
                unsafe { (site as *mut [u8; 5]).write_volatile(bytes) };
            }
            jump.is_some()
        }
        _ => false,
    };
    // SAFETY: the caller's promise.
    unsafe { rewrite(change) }
}

/// Has every [`load`] be by GS, `offset` bytes from where it points. Once.
///
/// # Safety
///
/// As [`patch`], and what is loaded is there.
pub(crate) unsafe fn find_by_gs(offset: i32) {
    let change = |record: &Record, site: u64| {
        let is_load = record.key == Key::PerCpu as u32;
        if is_load {
            let site = site as *mut [u8; 9];
            // SAFETY: the record is of a `load`, 9 bytes of text that the caller says is mapped; this function has
            // none.
            unsafe {
                site.write_volatile(by_gs(site.read(), offset.wrapping_add(record.target)));
            }
        }
        is_load
    };
    // SAFETY: the caller's promise.
    unsafe { rewrite(change) };
}

/// Changes the text: `change` gets each record and the address of its site, and says whether it has. Returns how
/// often it did.
///
/// # Safety
///
/// As [`patch`]; what is changed is a site.
unsafe fn rewrite(change: impl Fn(&Record, u64) -> bool) -> usize {
    use x86_64::registers::control::{Cr0, Cr0Flags};

    x86_64::instructions::interrupts::without_interrupts(|| {
        let cr0 = Cr0::read_raw();
        // SAFETY: only WP changes, and what is written until it is restored is the text.
        unsafe { Cr0::write_raw(cr0 & !Cr0Flags::WRITE_PROTECT.bits()) };
        let changes = |record: &&Record| {
            change(record, (&raw const record.site as u64).wrapping_add_signed(record.site.into()))
        };
        let count = records().iter().filter(changes).count();
        // SAFETY: this is the value that CR0 had. The write also serialises, which makes the new
        // instructions visible to this CPU (SDM vol. 3, Handling Self- and Cross-Modifying Code).
        unsafe { Cr0::write_raw(cr0) };
        count
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jump_lands_on_its_target() {
        let decode = |site: u64, bytes: [u8; 5]| {
            assert_eq!(bytes[0], 0xe9);
            let distance = i32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
            site.wrapping_add(5).wrapping_add_signed(distance.into())
        };
        for (site, target) in
            [(0x10_0000, 0x10_0005), (0x10_0000, 0x0f_0000), (0xffff_ffff_8000_0000, u64::MAX)]
        {
            assert_eq!(decode(site, jump(site, target).unwrap()), target);
        }
        assert_eq!(jump(0, 1 << 32), None);
    }

    #[test]
    fn a_load_by_gs_goes_to_the_same_register() {
        // mov rax, [rip + 12345678H] and mov r13, likewise; GS instead, and its displacement alone.
        for (rex, reg) in [(0x48, 0), (0x4c, 5)] {
            let load = [0x66, 0x3e, rex, 0x8b, reg << 3 | 0b101, 0x78, 0x56, 0x34, 0x12];
            let want = [0x65, rex, 0x8b, reg << 3 | 0b100, 0x25, 0xf8, 0xff, 0xff, 0xff];
            assert_eq!(by_gs(load, -8), want);
        }
    }

    #[test]
    fn a_load_is_recorded_as_it_is_rewritten() {
        crate::area::current();
        let mut places = 0;
        for record in records().iter().filter(|record| record.key == Key::PerCpu as u32) {
            let site = (&raw const record.site as u64).wrapping_add_signed(record.site.into());
            // SAFETY: the record points at nine bytes of this program's text.
            let bytes = unsafe { (site as *const [u8; 9]).read() };
            assert!(
                matches!(bytes, [0x66, 0x3e, 0x48 | 0x4c, 0x8b, modrm, ..] if modrm & 0xc7 == 5)
            );
            places |= 1 << record.target;
        }
        assert_eq!(places, 1 << 0 | 1 << 8, "both fields of a slot");
    }

    #[test]
    fn a_site_is_recorded_with_its_nop_and_not_taken() {
        assert!(!enabled::<{ Key::Cpuid as u32 }>());
        let mut nops = 0;
        for record in records().iter().filter(|record| record.key < 32) {
            let site = (&raw const record.site as u64).wrapping_add_signed(record.site.into());
            // SAFETY: the record points at five bytes of this program's text.
            let bytes = unsafe { (site as *const [u8; 5]).read() };
            assert_eq!(bytes, [0x0f, 0x1f, 0x44, 0x00, 0x00]);
            nops += 1;
        }
        assert!(nops > 0);
    }
}
