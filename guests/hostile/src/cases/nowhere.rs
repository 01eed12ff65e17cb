//! Memory where nobody is: reads give ones and writes go nowhere, whatever instruction it is, as on a
//! bus where nobody answers. What a machine has at these addresses is not known, so the cases are for
//! Paravane.

use core::arch::asm;

use guest_kernel::apic::APIC_BASE_MSR;
use guest_kernel::pv;
use x86_64::registers::control::Cr3;
use x86_64::registers::model_specific::Msr;

use super::{Action, Case, Expected, Verdict, Wrong};

const UD: u64 = 6;
const PF: u64 = 14;

const fn run(name: &'static str, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Survives, needs_pv: true, action: Action::Run(run) }
}

const fn faults(name: &'static str, vector: u64, code: fn()) -> Case {
    Case { action: Action::Faults(vector, code), ..run(name, || Ok(())) }
}

/// The cases.
pub const CASES: &[Case] = &[
    run("read-nowhere", read),
    run("write-nowhere", write),
    run("change-nowhere", change),
    run("strings-nowhere", strings),
    run("read-unregistered", read_unregistered),
    run("xapic-arithmetic", xapic_arithmetic),
    run("port-strings", port_strings),
    faults("jump-nowhere", UD, jump),
    faults("table-nowhere", PF, || table_at(NOWHERE)),
    // With APIC virtualization Bochs takes the walk for an access by the instruction.
    Case { expected: Expected::Depends, ..faults("table-in-apic", PF, table_in_apic) },
];

/// The local APIC's page.
const MMIO: u64 = 0xfee0_0000;

/// Identity mapped, and RAM of no VM.
pub const NOWHERE: u64 = 0xd000_0000;

fn check(is: bool, why: &'static str) -> Verdict {
    if is { Ok(()) } else { Err(Wrong::Other(why)) }
}

fn read() -> Verdict {
    let at = NOWHERE as *const u8;
    // SAFETY: identity mapped, and nobody's.
    let (byte, word, long, quad, split) = unsafe {
        (
            at.add(1).read_volatile(),
            at.cast::<u16>().read_volatile(),
            at.cast::<u32>().read_volatile(),
            at.cast::<u64>().read_volatile(),
            at.add(0xffd).cast::<u64>().read_unaligned(),
        )
    };
    check((byte, word, long) == (0xff, 0xffff, 0xffff_ffff), "a read is not all ones")?;
    check((quad, split) == (u64::MAX, u64::MAX), "a read of 8 bytes is not all ones")
}

fn write() -> Verdict {
    let at = NOWHERE as *mut u64;
    // SAFETY: as above.
    let found = unsafe {
        at.write_volatile(0x1234);
        at.cast::<u8>().write_volatile(1);
        at.read_volatile()
    };
    check(found == u64::MAX, "nobody has kept what was written")
}

/// Instructions that read and write, and their flags.
fn change() -> Verdict {
    let (mut added, mut old, mut compared) = (1u64, 5u64, 7u64);
    let (carry, zero): (u8, u8);
    // SAFETY: as above.
    unsafe {
        asm!(
            "lock xadd [{at}], {added}",
            "xchg [{at}], {old}",
            "cmpxchg [{at}], {old}",
            "setz {zero}",
            "inc qword ptr [{at}]",
            "bts qword ptr [{at}], 77",
            "setc {carry}",
            at = in(reg) NOWHERE,
            added = inout(reg) added,
            old = inout(reg) old,
            inout("rax") compared,
            zero = out(reg_byte) zero,
            carry = out(reg_byte) carry,
        );
    }
    let ones = (added, old, compared) == (u64::MAX, u64::MAX, u64::MAX);
    check(ones, "what was there is not all ones")?;
    check((zero, carry) == (0, 1), "the flags are not those of ones")
}

/// A copy from there, one to there, and a search.
fn strings() -> Verdict {
    let mut buffer = [0u8; 600];
    let to = buffer.as_mut_ptr();
    let (left, rest): (u64, u64);
    // SAFETY: as above, and within the buffer.
    unsafe {
        asm!("rep movsb", inout("rcx") 500u64 => left, inout("rsi") NOWHERE => _,
            inout("rdi") to => _, options(nostack));
        asm!("std", "rep movsd", "cld", inout("rcx") 100u64 => _,
            inout("rsi") to.add(400) => _, inout("rdi") NOWHERE + 0x1010 => _, options(nostack));
        asm!("repne scasb", inout("rcx") 300u64 => rest, inout("rdi") NOWHERE => _, in("al") 0u8,
            options(nostack));
    }
    let copied = buffer.iter().take_while(|&&byte| byte == 0xff).count();
    check((copied, left) == (500, 0), "500 bytes are not 500 times ones")?;
    check(rest == 0, "there is a 0 among the ones")
}

/// The hypervisor's half of the area when it is no longer there.
fn read_unregistered() -> Verdict {
    let (_, info) = pv::area_addresses().ok_or(Wrong::Other("the area is not registered"))?;
    pv::unregister();
    // SAFETY: nothing is mapped there.
    let found = unsafe { (info as *const u64).read_volatile() };
    pv::register();
    check(found == u64::MAX, "the area is still there")
}

/// Runs code in xAPIC mode, which is reached by way of off, as the mode before is from there.
fn with_xapic(code: impl FnOnce() -> Verdict) -> Verdict {
    /// Of IA32_APIC_BASE: the APIC is on, and in x2APIC mode.
    const MODE: u64 = 0b11 << 10;
    const XAPIC: u64 = 1 << 11;
    const SPURIOUS_VECTOR: u8 = 0xff;
    let mut base = Msr::new(APIC_BASE_MSR);
    // SAFETY: each step is legal, no interrupt is expected meanwhile, and the kernel's use of the APIC is
    // set up again.
    unsafe {
        let before = base.read();
        let off = before & !MODE;
        base.write(off);
        base.write(off | XAPIC);
        let result = code();
        for value in [off, off | XAPIC, before] {
            base.write(value);
        }
        x86_64::apic::enable(SPURIOUS_VECTOR);
        result
    }
}

/// The task priority, by instructions that are more than a move.
fn xapic_arithmetic() -> Verdict {
    const TPR: u64 = MMIO + 0x80;
    with_xapic(|| {
        let (mut swapped, popped, pushed): (u32, u32, u64);
        swapped = 0x10;
        // SAFETY: no interrupt is expected, and the priority is put back.
        unsafe {
            let at = TPR as *mut u32;
            at.write_volatile(0x20);
            asm!("or dword ptr [{at}], 0x40", "xchg dword ptr [{at}], {swapped:e}",
                at = in(reg) TPR, swapped = inout(reg) swapped);
            asm!("push qword ptr [{at}]", "pop {pushed}", at = in(reg) TPR, pushed = out(reg) pushed);
            popped = at.read_volatile();
            at.write_volatile(0);
        }
        check(swapped == 0x60, "OR and XCHG do not find the priority")?;
        check((popped, pushed as u32) == (0x10, 0x10), "PUSH does not find the priority")
    })
}

/// INS from a port where nobody is, and from and to the scratch register of COM1.
fn port_strings() -> Verdict {
    const SCRATCH: u16 = 0x3ff;
    const ABSENT: u16 = 0x1f0;
    let mut buffer = [0u16; 200];
    let source = *b"abc";
    let mut scratch = [0u8; 2];
    let left: u64;
    // SAFETY: within the buffers; the register does nothing.
    unsafe {
        asm!("rep insw", inout("rcx") 190u64 => left, inout("rdi") buffer.as_mut_ptr() => _,
            in("dx") ABSENT, options(nostack));
        asm!("rep outsb", inout("rcx") 3u64 => _, inout("rsi") source.as_ptr() => _,
            in("dx") SCRATCH, options(nostack, readonly));
        asm!("insb", inout("rdi") scratch.as_mut_ptr() => _, in("dx") SCRATCH, options(nostack));
    }
    let ones = buffer.iter().take_while(|&&word| word == 0xffff).count();
    check((ones, left) == (190, 0), "190 words are not 190 times ones")?;
    check(scratch == [b'c', 0], "the register has not what was written last")
}

/// Code where there is no memory: ones are no instruction.
fn jump() {
    // SAFETY: the exception is what is wanted.
    unsafe { asm!("call {}", in(reg) NOWHERE) };
}

/// A page table there: its entries are ones, which have reserved bits set.
fn table_at(table: u64) {
    const PRESENT_AND_WRITABLE: u64 = 0b11;
    /// An entry of the root that no address space uses.
    const ENTRY: usize = 200;
    let root = Cr3::read().0.start_address().as_u64() as *mut u64;
    // SAFETY: the load is from addresses that nobody has.
    unsafe {
        root.add(ENTRY).write_volatile(table | PRESENT_AND_WRITABLE);
        ((ENTRY << 39) as *const u32).read_volatile();
    }
}

/// The same in the local APIC's page: that a load makes the walk is no reason to answer the load.
fn table_in_apic() {
    let _ = with_xapic(|| {
        table_at(MMIO);
        Ok(())
    });
}
