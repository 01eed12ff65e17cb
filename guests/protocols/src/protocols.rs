//! What each protocol promises, by its document.

use crate::entry::Entry;
use crate::memory::{bytes, u16_at, u32_at, u64_at};
use crate::told::{Told, find_rsdp};

/// A protocol.
pub struct Protocol {
    pub name: &'static str,
    /// Checks the state at the entry, and reads what is handed over.
    pub check: fn(&Entry) -> Told,
}

/// In the order in which the entries count them.
pub const PROTOCOLS: [Protocol; 6] = [
    Protocol { name: "linux32", check: linux_32 },
    Protocol { name: "linux64", check: linux_64 },
    Protocol { name: "multiboot", check: multiboot },
    Protocol { name: "multiboot2", check: multiboot2 },
    Protocol { name: "pvh", check: pvh },
    Protocol { name: "rom", check: rom },
];

const CR0_PE: u32 = 1 << 0;
const CR0_PG: u32 = 1 << 31;
const CR4_PAE: u32 = 1 << 5;
const EFER_LME_LMA: u32 = 1 << 8 | 1 << 10;
/// Trap flag, interrupt flag, virtual-8086 mode.
const EFLAGS_TF_IF_VM: u32 = 1 << 8 | 1 << 9 | 1 << 17;

/// 32-bit protected mode with flat segments, without paging and interrupts.
fn protected(entry: &Entry) {
    assert_eq!(entry.cr0 & (CR0_PE | CR0_PG), CR0_PE, "CR0");
    assert_eq!(entry.efer & EFER_LME_LMA, 0, "EFER");
    assert_eq!(entry.eflags & EFLAGS_TF_IF_VM, 0, "EFLAGS");
    assert_eq!(entry.memory, 5, "flat segments");
}

/// Linux, "The Linux/x86 Boot Protocol", 32-bit Boot Protocol.
fn linux_32(entry: &Entry) -> Told {
    protected(entry);
    assert_eq!([entry.ebp, entry.edi, entry.ebx], [0; 3], "EBP, EDI, EBX");
    linux(entry, 0x00cf_9b00_0000_ffff)
}

/// The same, 64-bit Boot Protocol.
fn linux_64(entry: &Entry) -> Told {
    assert_eq!(entry.cr0 & (CR0_PE | CR0_PG), CR0_PE | CR0_PG, "CR0");
    assert_eq!(entry.cr4 & CR4_PAE, CR4_PAE, "CR4");
    assert_eq!(entry.efer & EFER_LME_LMA, EFER_LME_LMA, "EFER");
    assert_eq!(entry.eflags & EFLAGS_TF_IF_VM, 0, "EFLAGS");
    linux(entry, 0x00af_9b00_0000_ffff)
}

/// The GDT with this code segment, and `boot_params`.
fn linux(entry: &Entry, code: u64) -> Told {
    const ACCESSED: u64 = 1 << 40;
    let [cs, ds, es, ss, ..] = entry.selectors;
    assert_eq!([cs, ds, es, ss], [0x10, 0x18, 0x18, 0x18], "CS, DS, ES, SS");
    let gdt = u64::from(entry.tables()[0].0);
    let descriptors = [0x10, 0x18].map(|selector| u64_at(gdt + selector) | ACCESSED);
    assert_eq!(descriptors, [code, 0x00cf_9300_0000_ffff], "__BOOT_CS, __BOOT_DS");
    let params = u64::from(entry.esi);
    assert_eq!((&bytes::<4>(params + 0x202), u16_at(params + 0x1fe)), (b"HdrS", 0xaa55));
    assert_eq!(u32_at(params + 0x214), 0x10_0000, "code32_start");
    let [type_of_loader] = bytes(params + 0x210);
    assert_ne!(type_of_loader, 0, "type_of_loader");
    let mut told = Told {
        line: Some(u32_at(params + 0x228).into()),
        rsdp: Some(u64_at(params + 0x70)),
        ..Told::default()
    };
    if u32_at(params + 0x21c) != 0 {
        told.module = Some((u32_at(params + 0x218).into(), u32_at(params + 0x21c).into()));
    }
    let [entries] = bytes(params + 0x1e8);
    for at in (params + 0x2d0..).step_by(20).take(entries.into()) {
        told.map.push(u64_at(at), u64_at(at + 8), u32_at(at + 16));
    }
    let high: u64 = told.map.ram().filter(|ram| ram.0 == 0x10_0000).map(|ram| ram.1 - ram.0).sum();
    assert_eq!(u64::from(u32_at(params + 0x1e0)) << 10, high, "alt_mem_k");
    told
}

/// KiB from address 0 and from 1 MiB on, as both versions of Multiboot tell them, agree with the map.
fn sizes(told: &Told, lower: u32, upper: u32) {
    let ends = [(0, u64::from(lower) << 10), (0x10_0000, (1 << 20) + (u64::from(upper) << 10))];
    for ram in ends {
        assert!(told.map.ram().any(|other| other == ram), "memory sizes: {ram:x?}");
    }
}

/// "Multiboot Specification", version 0.6.96, Machine state, and Boot information format.
fn multiboot(entry: &Entry) -> Told {
    const GIVEN: u32 = 1 << 0 | 1 << 2 | 1 << 3 | 1 << 6 | 1 << 9;
    protected(entry);
    assert_eq!(entry.eax, 0x2bad_b002, "EAX");
    let info = u64::from(entry.ebx);
    let field = |offset: u64| u64::from(u32_at(info + offset));
    assert_eq!(u32_at(info) & GIVEN, GIVEN, "flags");
    assert_eq!(&bytes::<9>(field(64)), b"Paravane\0");
    let mut told = Told { line: Some(field(16)), rsdp: find_rsdp(), ..Told::default() };
    if field(20) > 0 {
        let [start, end] = [0, 4].map(|offset| u32_at(field(24) + offset).into());
        assert_eq!(start % 4096, 0, "modules begin on page boundaries");
        told.module = Some((start, end - start));
    }
    let (mut at, end) = (field(48), field(48) + field(44));
    while at < end {
        told.map.push(u64_at(at + 4), u64_at(at + 12), u32_at(at + 20));
        at += u64::from(u32_at(at)) + 4;
    }
    sizes(&told, u32_at(info + 4), u32_at(info + 8));
    told
}

/// "Multiboot2 Specification", version 2.0, I386 machine state, and Boot information format.
fn multiboot2(entry: &Entry) -> Told {
    protected(entry);
    assert_eq!(entry.eax, 0x36d7_6289, "EAX");
    let info = u64::from(entry.ebx);
    assert_eq!(info % 8, 0, "alignment");
    let (mut told, mut lower_upper, mut at) = (Told::default(), None, info + 8);
    loop {
        assert!(at < info + u64::from(u32_at(info)), "no tag that ends the list");
        let (kind, size) = (u32_at(at), u64::from(u32_at(at + 4)));
        match kind {
            0 => break,
            1 => told.line = Some(at + 8),
            2 => assert_eq!(&bytes::<9>(at + 8), b"Paravane\0"),
            3 => {
                let [start, end] = [8, 12].map(|offset| u64::from(u32_at(at + offset)));
                assert_eq!(start % 4096, 0, "modules begin on page boundaries");
                told.module = Some((start, end - start));
            }
            4 => lower_upper = Some((u32_at(at + 8), u32_at(at + 12))),
            6 => {
                let step = u32_at(at + 8) as usize;
                for entry in (at + 16..at + size).step_by(step) {
                    told.map.push(u64_at(entry), u64_at(entry + 8), u32_at(entry + 16));
                }
            }
            15 => told.rsdp = Some(at + 8),
            _ => {}
        }
        at += size.next_multiple_of(8);
    }
    let (lower, upper) = lower_upper.expect("no memory sizes");
    sizes(&told, lower, upper);
    told
}

/// Xen, "x86/HVM direct boot ABI".
fn pvh(entry: &Entry) -> Told {
    protected(entry);
    let info = u64::from(entry.ebx);
    assert_eq!((u32_at(info), u32_at(info + 4)), (0x336e_c578, 1), "magic, version");
    assert_eq!(entry.cr4, 0, "CR4");
    let mut told =
        Told { line: Some(u64_at(info + 24)), rsdp: Some(u64_at(info + 32)), ..Told::default() };
    if u32_at(info + 12) > 0 {
        let modules = u64_at(info + 16);
        told.module = Some((u64_at(modules), u64_at(modules + 8)));
    }
    let map = u64_at(info + 40);
    for at in (map..).step_by(24).take(u32_at(info + 48) as usize) {
        told.map.push(u64_at(at), u64_at(at + 8), u32_at(at + 16));
    }
    told
}

/// SDM vol. 3, Processor State After Reset. Nothing is handed over.
fn rom(entry: &Entry) -> Told {
    let Entry { eax, ebx, ecx, esi, edi, ebp, esp, .. } = *entry;
    assert_eq!([eax, ebx, ecx, esi, edi, ebp, esp], [0; 7], "general registers");
    assert_eq!(entry.eflags, 2, "EFLAGS");
    assert_eq!(entry.selectors, [0xf000, 0, 0, 0, 0, 0], "CS, DS, ES, SS, FS, GS");
    assert_eq!(entry.cr0, 0x6000_0010, "CR0");
    assert_eq!([entry.cr2, entry.cr3, entry.cr4, entry.efer], [0; 4], "CR2, CR3, CR4, EFER");
    assert_eq!([entry.dr6, entry.dr7], [0xffff_0ff0, 0x400], "DR6, DR7");
    assert_eq!(entry.tables(), [(0, 0xffff); 2], "GDTR, IDTR");
    assert_eq!(entry.memory, 1, "a copy of the ROM below 1 MiB");
    let differs = |at: &u64| bytes::<8>(0xf_0000 + at) != bytes::<8>(0x10_0000 + at);
    // What is behind the code has been written to since.
    assert_eq!(
        (0..0x1000).step_by(8).find(differs),
        None,
        "the copy, against what was read at 4 GiB"
    );
    Told::default()
}
