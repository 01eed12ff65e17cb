use std::vec::Vec;

use pv_abi::area::VcpuInfo;

use super::*;
use crate::vm::exit::Exit;
use crate::vm::exit::{Ending, Leave};
use crate::vm::handle::handle;
use crate::vm::testing::{CR0_LONG, Fake, INFO_GPA, RAM, vcpu, with_timer};
use crate::vm::{Event, Gpr};

const NOWHERE: u64 = 0xd000_0000;
const APIC: u64 = 0xfee0_0000;
/// Where the instruction is, in linear memory and in RAM.
const LINE: u64 = 0x5000;
const LINE_GPA: u64 = 0x8000;

const PF: u8 = 14;

/// A vCPU in 64-bit code with these bytes where it stands. Linear page 6 is RAM, 7 is the local APIC's
/// page, 8 is absent memory, 9 is RAM that cannot be written, 10 is not present, 11 is the area.
fn at(bytes: &[u8]) -> (Vcpu, Fake) {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    h.set(Kept::Cr0, CR0_LONG | 1 << 16);
    h.set(Kept::Cr3, 0x1000);
    let table = [(0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x4007)];
    let pages = [LINE_GPA | 7, 0x9007, APIC | 7, NOWHERE | 7, 0xa005, 0, INFO_GPA | 7];
    let pages = (0x4028..).step_by(8).zip(pages);
    for (gpa, entry) in table.into_iter().chain(pages) {
        v.vm.memory.write_u64(gpa, entry).unwrap();
    }
    h.set(Kept::Rip, LINE);
    v.vm.memory.write(LINE_GPA, bytes).unwrap();
    v.due = 1000;
    (v, h)
}

fn exit(v: &mut Vcpu, h: &mut Fake, gpa: u64, access: u8) -> Outcome {
    handle(v, h, Exit::NestedFault(NestedFault { gpa, access, walk: false }))
}

fn ram(v: &Vcpu, gpa: u64, length: usize) -> Vec<u8> {
    let mut bytes = std::vec![0; length];
    v.vm.memory.read(gpa, &mut bytes).unwrap();
    bytes
}

#[test]
fn where_nobody_is_reads_give_ones_and_writes_go_nowhere() {
    // mov eax, [rbx]; mov al, [rbx]; movsx rax, word [rbx]; or [rbx], eax; xchg [rbx], rax.
    for (code, rax) in [
        (&[0x8b, 0x03][..], 0xffff_ffff),
        (&[0x8a, 0x03], 0x5ff),
        (&[0x48, 0x0f, 0xbf, 0x03], u64::MAX),
        (&[0x89, 0x03], 0x555),
        (&[0x09, 0x03], 0x555),
        (&[0x48, 0x87, 0x03], u64::MAX),
        (&[0xf0, 0x0f, 0xc1, 0x03], 0xffff_ffff),
    ] {
        for gpa in [NOWHERE + 0x10, NOWHERE] {
            let (mut v, mut h) = at(code);
            v.registers.set(Gpr::Rax, 0x555);
            v.registers.set(Gpr::Rbx, 0x8000 + (gpa & 0xfff));
            let before = ram(&v, 0x8000, 0x4000);
            let outcome = exit(&mut v, &mut h, gpa, 3);
            assert_eq!(outcome, Outcome::AdvanceBy(code.len() as u32), "{code:x?}");
            assert_eq!(v.registers.get(Gpr::Rax), rax, "{code:x?}");
            assert_eq!(ram(&v, 0x8000, 0x4000), before);
        }
    }
}

#[test]
fn the_scratch_page_keeps_what_is_written_until_a_reset_and_is_there_if_asked_for() {
    use crate::device::scratch::BASE;
    use crate::vm::Options;
    use crate::vm::testing::Setup;
    // mov [rbx], eax; mov ecx, [rbx]; or [rbx], rax; xchg [rbx], al.
    let codes: [&[u8]; 4] = [&[0x89, 0x03], &[0x8b, 0x0b], &[0x48, 0x09, 0x03], &[0x86, 0x03]];
    for there in [false, true] {
        let (_, mut h) = at(&[]);
        let options = if there { Options::SCRATCH_PAGE } else { Options::empty() };
        let mut v = Setup { options, ..Setup::default() }.vcpu();
        for (gpa, entry) in [(0x1000, 0x2007), (0x2000, 0x3007), (0x3000, 0x4007)] {
            v.vm.memory.write_u64(gpa, entry).unwrap();
        }
        v.vm.memory.write_u64(0x4028, LINE_GPA | 7).unwrap();
        v.vm.memory.write_u64(0x4040, BASE | 7).unwrap();
        v.registers.set(Gpr::Rax, 0x1_1122_3344);
        v.registers.set(Gpr::Rbx, 0x8ff8);
        for code in codes {
            v.vm.memory.write(LINE_GPA, code).unwrap();
            h.set(Kept::Rip, LINE);
            let access = if code[0] == 0x8b { READ } else { READ | WRITE };
            let outcome = exit(&mut v, &mut h, BASE + 0xff8, access);
            assert_eq!(outcome, Outcome::AdvanceBy(code.len() as u32));
        }
        let found = [Gpr::Rcx, Gpr::Rax].map(|register| v.registers.get(register));
        let read = |v: &mut Vcpu, h: &mut Fake| device_read(v, h, BASE + 0xff8, 8);
        if there {
            assert_eq!(found, [0x1122_3344, 0x1_1122_3344]);
            assert_eq!(read(&mut v, &mut h), 0x1_1122_3344);
            v.vm.reset_devices(0);
            assert_eq!(read(&mut v, &mut h), 0);
        } else {
            assert_eq!(found, [0xffff_ffff, 0x1_1122_33ff]);
            assert_eq!(read(&mut v, &mut h), u64::MAX);
        }
    }
}

#[test]
fn code_where_nobody_is_is_no_instruction() {
    let (mut v, mut h) = at(&[]);
    h.set(Kept::Rip, 0x8123);
    assert_eq!(exit(&mut v, &mut h, NOWHERE + 0x123, 4), Outcome::UNDEFINED);
    // mov eax, imm32, of which three bytes are on a page where nobody is.
    let (mut v, mut h) = at(&[]);
    v.vm.memory.write_u64(0x4030, NOWHERE | 7).unwrap();
    v.vm.memory.write(LINE_GPA + 0xffe, &[0x90, 0xc7]).unwrap();
    h.set(Kept::Rip, LINE + 0xfff);
    assert_eq!(exit(&mut v, &mut h, NOWHERE, 4), Outcome::UNDEFINED, "C7 FF");
    v.vm.memory.write(LINE_GPA + 0xffd, &[0x81, 0x03, 0x11]).unwrap();
    h.set(Kept::Rip, LINE + 0xffd);
    v.registers.set(Gpr::Rbx, 0x8000);
    assert_eq!(exit(&mut v, &mut h, NOWHERE, 4), Outcome::AdvanceBy(6), "with ones as its operand");
}

#[test]
fn a_fetch_through_tables_where_nobody_is_faults() {
    let (mut v, mut h) = at(&[]);
    h.set(Kept::Cr3, NOWHERE);
    let walk = NestedFault { gpa: NOWHERE, access: 1, walk: true };
    let fault = Outcome::Inject(Event::exception(PF, 9));
    assert_eq!(handle(&mut v, &mut h, Exit::NestedFault(walk)), fault);
    assert_eq!(h.cr2, LINE);
}

#[test]
fn an_access_through_tables_where_nobody_is_faults() {
    for gpa in [NOWHERE, APIC] {
        // mov [rbx], eax
        let (mut v, mut h) = at(&[0x89, 0x03]);
        v.vm.memory.write_u64(0x3008, gpa | 7).unwrap();
        v.registers.set(Gpr::Rbx, 0x20_1234);
        h.cpl = 3;
        let walk = NestedFault { gpa: gpa + 8, access: 1, walk: true };
        let fault = Outcome::Inject(Event::exception(PF, 0xf));
        assert_eq!(handle(&mut v, &mut h, Exit::NestedFault(walk)), fault);
        assert_eq!((h.cr2, h.get(Kept::Rip)), (0x20_1234, LINE));
    }
}

#[test]
fn the_delivery_of_an_event_through_such_tables_faults_on_top_of_it() {
    let walk = Exit::NestedFault(NestedFault { gpa: NOWHERE, access: 1, walk: true });
    let (mut v, mut h) = at(&[]);
    h.set(Kept::Cr3, NOWHERE);
    h.pending = Some(Event::exception(PF, 0));
    h.delivery_address = Some(0x7777_0000);
    assert_eq!(handle(&mut v, &mut h, walk), Outcome::Inject(Event::exception(PF, 9)));
    assert_eq!(h.cr2, 0x7777_0000);
    // Where that address is none of the kind, or is not known, nothing is made up.
    for address in [None, Some(LINE)] {
        let (mut v, mut h) = at(&[]);
        (h.pending, h.delivery_address) = (Some(Event::interrupt(0x40)), address);
        let outcome = handle(&mut v, &mut h, walk);
        assert_eq!(outcome, Outcome::Leave(Leave::Ended));
        assert_eq!(v.ending.unwrap().cause, Cause::BadMemory);
    }
}

#[test]
fn the_area_is_read_and_its_owner_alone_writes_it() {
    // mov eax, [rbx]; mov [rbx], eax; rep movsb.
    let (mut v, mut h) = at(&[0x8b, 0x03]);
    v.registers.set(Gpr::Rbx, 0xb008);
    assert_eq!(exit(&mut v, &mut h, INFO_GPA + 8, 1), Outcome::AdvanceBy(2));
    assert_eq!(v.registers.get(Gpr::Rax), 0xffff_ffff, "it is not registered");
    for code in [&[0x89, 0x03][..], &[0x09, 0x03]] {
        let (mut v, mut h) = at(code);
        v.registers.set(Gpr::Rbx, 0xb008);
        assert_eq!(exit(&mut v, &mut h, INFO_GPA + 8, 2), Outcome::AdvanceBy(2));
        v.registered.area = Some(0x3000);
        let outcome = exit(&mut v, &mut h, INFO_GPA + 8, 2);
        assert_eq!(outcome, Outcome::Leave(Leave::Ended));
        let Ending { cause, code, address, .. } = v.ending.unwrap();
        assert_eq!((cause, code, address), (Cause::BadMemory, 2, INFO_GPA + 8));
    }
    let (mut v, mut h) = at(&[0xf3, 0xa5]);
    v.registered.area = Some(0x3000);
    v.info.vmreads = 0x1122_3344_5566_7788;
    let offset = core::mem::offset_of!(VcpuInfo, vmreads) as u64;
    v.registers.set(Gpr::Rsi, 0xb000 + offset);
    v.registers.set(Gpr::Rdi, 0x7030);
    v.registers.set(Gpr::Rcx, 1);
    assert_eq!(exit(&mut v, &mut h, APIC + 0x30, 2), Outcome::AdvanceBy(2));
    assert_eq!(v.registers.get(Gpr::Rcx), 0);
    let mut machine = Guest::new(&mut v, &mut h, Mode::Code64, None);
    use execute::Machine;
    let place = machine.place(0xb000 + offset, 8, Access::READ).unwrap();
    assert_eq!(machine.read(place), Ok(0x1122_3344_5566_7788));
}

#[test]
fn the_apics_registers_take_part_in_arithmetic() {
    // or dword [rbx], 0x20; test dword [rbx], 0x100; push qword [rbx]; lock and [rbx], eax.
    let (mut v, mut h) = at(&[0x83, 0x0b, 0x20]);
    v.registers.set(Gpr::Rbx, 0x7080);
    let _ = v.apic.mmio_write(0x80, 0x40, 0);
    assert_eq!(exit(&mut v, &mut h, APIC + 0x80, 1), Outcome::AdvanceBy(3));
    assert_eq!((v.apic.tpr(), v.due), (0x60, 0));
    let (mut v, mut h) = at(&[0xf7, 0x03, 0, 1, 0, 0]);
    v.registers.set(Gpr::Rbx, 0x70f0);
    assert_eq!(exit(&mut v, &mut h, APIC + 0xf0, 1), Outcome::AdvanceBy(6));
    assert_eq!(h.get(Kept::Rflags) & 0x40, 0, "enabled");
    let (mut v, mut h) = at(&[0xff, 0x33]);
    v.registers.set(Gpr::Rbx, 0x7030);
    h.set(Kept::Rsp, 0x6100);
    assert_eq!(exit(&mut v, &mut h, APIC + 0x30, 1), Outcome::AdvanceBy(2));
    assert_eq!(ram(&v, 0x90f8, 8), 0x5_0015u64.to_le_bytes());
    assert_eq!(h.get(Kept::Rsp), 0x60f8);
}

#[test]
fn a_repeated_instruction_goes_on_at_the_next_entry() {
    // rep stosd, into absent memory.
    let (mut v, mut h) = at(&[0xf3, 0xab]);
    v.registers.set(Gpr::Rdi, 0x8000);
    v.registers.set(Gpr::Rcx, u64::from(BUDGET) + 3);
    assert_eq!(exit(&mut v, &mut h, NOWHERE, 2), Outcome::AdvanceBy(0));
    assert_eq!(v.registers.get(Gpr::Rcx), 3);
    assert_eq!(v.registers.get(Gpr::Rdi), 0x8000 + 4 * u64::from(BUDGET));
    assert_eq!(exit(&mut v, &mut h, NOWHERE, 2), Outcome::AdvanceBy(2));
    // A fault on the way: from page 8 into page 9, which cannot be written.
    let (mut v, mut h) = at(&[0xf3, 0xab]);
    v.registers.set(Gpr::Rdi, 0x8ff8);
    v.registers.set(Gpr::Rcx, 5);
    let fault = Outcome::Inject(Event::exception(PF, 3));
    assert_eq!(exit(&mut v, &mut h, NOWHERE + 0xff8, 2), fault);
    assert_eq!((v.registers.get(Gpr::Rcx), h.cr2), (3, 0x9000));
}

#[test]
fn what_crosses_pages_is_checked_on_both() {
    // mov [rbx], eax, from RAM into the APIC's page, and from absent memory to the page behind it.
    let (mut v, mut h) = at(&[0x89, 0x03]);
    v.registers.set(Gpr::Rax, 0x4433_2211);
    v.registers.set(Gpr::Rbx, 0x6ffe);
    assert_eq!(exit(&mut v, &mut h, APIC, 2), Outcome::AdvanceBy(2));
    assert_eq!(ram(&v, 0x9ffc, 4), [0, 0, 0x11, 0x22]);
    for (rbx, cr2, code) in [(0x8ffe, 0x9000, 3), (0x9ffd, 0x9ffd, 3), (0x8fff, 0x9000, 3)] {
        let (mut v, mut h) = at(&[0x89, 0x03]);
        v.registers.set(Gpr::Rbx, rbx);
        let fault = Outcome::Inject(Event::exception(PF, code));
        assert_eq!(exit(&mut v, &mut h, NOWHERE + 0xffe, 2), fault, "{rbx:x}");
        assert_eq!(h.cr2, cr2);
    }
    // Reads are put together.
    let (mut v, mut h) = at(&[0x48, 0x8b, 0x03]);
    v.registers.set(Gpr::Rbx, 0x8ffd);
    v.vm.memory.write(0xa000, &[1, 2, 3, 4, 5]).unwrap();
    assert_eq!(exit(&mut v, &mut h, NOWHERE + 0xffd, 1), Outcome::AdvanceBy(3));
    assert_eq!(v.registers.get(Gpr::Rax), 0x0504_0302_01ff_ffff);
}

#[test]
fn an_instruction_that_was_changed_meanwhile_gets_no_more_than_its_own_rights() {
    // The CPU saw a load; now it is a store to memory that cannot be written.
    let (mut v, mut h) = at(&[0x89, 0x03]);
    v.registers.set(Gpr::Rbx, 0x9010);
    let fault = Outcome::Inject(Event::exception(PF, 3));
    assert_eq!(exit(&mut v, &mut h, NOWHERE + 0x10, 1), fault);
    // OUTS, where the exit was none for a port.
    let (mut v, mut h) = at(&[0x6e]);
    v.registers.set(Gpr::Rsi, 0x6000);
    v.registers.set(Gpr::Rdx, 0x3f8);
    assert_eq!(exit(&mut v, &mut h, NOWHERE, 1), Outcome::Resume);
    assert_eq!(h.console(&mut v), "");
}

#[test]
fn a_refused_instruction_is_named_by_its_bytes() {
    // movups [rbx], xmm0 and vmovups [rbx], ymm0.
    for code in [&[0x0f, 0x11, 0x03, 0xf4][..], &[0xc5, 0xfc, 0x11, 0x03]] {
        let (mut v, mut h) = at(code);
        let outcome = exit(&mut v, &mut h, NOWHERE + 8, 2);
        assert_eq!(outcome, Outcome::Leave(Leave::Ended));
        let Ending { cause, code: bytes, address, .. } = v.ending.unwrap();
        assert_eq!((cause, address), (Cause::Unsupported, NOWHERE + 8));
        assert_eq!(bytes.to_le_bytes()[..4], *code);
    }
}

#[test]
fn loading_ss_from_a_device_holds_off_what_would_come() {
    // mov ss, [rbx], whose value is FFFFh, in real mode.
    let (mut v, mut h) = at(&[]);
    h.set(Kept::Cr0, 0x30);
    h.set(Kept::Efer, 0);
    (h.long_code, h.code16) = (false, true);
    v.set_long_mode(false);
    v.vm.memory.write(LINE, &[0x66, 0x67, 0x8e, 0x13]).unwrap();
    v.registers.set(Gpr::Rbx, RAM);
    h.set(Kept::Rflags, 0x102);
    assert_eq!(exit(&mut v, &mut h, RAM, 1), Outcome::Resume);
    assert_eq!((h.get(Kept::Rip), h.shadow, h.steps), (LINE + 4, true, 0));
    assert_eq!((h.segments[2].selector, h.bases[2]), (0xffff, 0xf_fff0));
}

fn port_string(code: &[u8], port: u16, size: u8, input: bool) -> (Vcpu, Fake, Outcome) {
    let (mut v, mut h) = at(code);
    v.registers.set(Gpr::Rdx, 0xabcd_0000 | u64::from(port));
    v.registers.set(Gpr::Rsi, 0x6ffc);
    v.registers.set(Gpr::Rdi, 0x6ffc);
    v.registers.set(Gpr::Rcx, 6);
    v.vm.memory.write(0x9ff0, b"abcdefghijklmnop").unwrap();
    h.input.extend(b"typed");
    let access = PortAccess { port, size, input, string: true, repeated: true };
    let outcome = handle(&mut v, &mut h, Exit::Port(access));
    (v, h, outcome)
}

#[test]
fn strings_go_out_of_and_into_ports() {
    // rep outsb, whose source goes on in the APIC's page; with the direction flag; rep insb.
    let (mut v, mut h, outcome) = port_string(&[0xf3, 0x6e], 0x3f8, 1, false);
    assert_eq!(outcome, Outcome::AdvanceBy(2));
    assert_eq!(h.console(&mut v), "mnop\0\0");
    assert_eq!((v.registers.get(Gpr::Rcx), v.registers.get(Gpr::Rsi)), (0, 0x7002));
    let (mut v, h, outcome) = port_string(&[0x6c], 0x3f8, 1, true);
    assert_eq!((outcome, h.input.len()), (Outcome::AdvanceBy(1), 4));
    assert_eq!(ram(&v, 0x9ffc, 2), *b"tn");
    assert_eq!(v.registers.get(Gpr::Rcx), 6, "not repeated");
    v.registers.set(Gpr::Rax, 0);
    let (v, _, outcome) = port_string(&[0x66, 0x6d], 0x1f0, 2, true);
    assert_eq!((outcome, ram(&v, 0x9ffc, 3)), (Outcome::AdvanceBy(2), [0xff, 0xff, b'o'].to_vec()));
}

#[test]
fn a_string_that_faults_keeps_its_place() {
    let (mut v, mut h) = at(&[0xf3, 0x6e]);
    v.vm.memory.write(0xaffe, b"xy").unwrap();
    v.registers.set(Gpr::Rdx, 0x3f8);
    v.registers.set(Gpr::Rsi, 0x9ffe);
    v.registers.set(Gpr::Rcx, 4);
    let access = PortAccess { port: 0x3f8, size: 1, input: false, string: true, repeated: true };
    let fault = Outcome::Inject(Event::exception(PF, 0));
    assert_eq!(handle(&mut v, &mut h, Exit::Port(access)), fault);
    assert_eq!((v.registers.get(Gpr::Rcx), v.registers.get(Gpr::Rsi), h.cr2), (2, 0xa000, 0xa000));
    v.vm.memory.write_u64(0x4050, 0x9007).unwrap();
    v.vm.memory.write(0x9000, b"z!").unwrap();
    assert_eq!(handle(&mut v, &mut h, Exit::Port(access)), Outcome::AdvanceBy(2));
    assert_eq!(h.console(&mut v), "xyz!");
}

#[test]
fn a_string_instruction_uses_the_port_that_the_cpu_has_allowed() {
    // Another size, the other direction, another port, and another instruction.
    for (code, port, size, input) in [
        (&[0x6f][..], 0x3f8, 1, false),
        (&[0x6c], 0x3f8, 1, false),
        (&[0xec], 0x3f8, 1, true),
        (&[0x89, 0x03], 0x3f8, 1, false),
    ] {
        let (mut v, mut h, outcome) = port_string(code, port, size, input);
        assert_eq!(outcome, Outcome::Resume, "{code:x?}");
        assert_eq!((h.console(&mut v).as_str(), h.input.len()), ("", 5));
        assert_eq!(v.registers.get(Gpr::Rcx), 6);
    }
    let (mut v, mut h) = at(&[0x6e]);
    v.registers.set(Gpr::Rdx, 0x60);
    v.registers.set(Gpr::Rsi, 0x6000);
    let access = PortAccess { port: 0x3f8, size: 1, input: false, string: true, repeated: false };
    assert_eq!(handle(&mut v, &mut h, Exit::Port(access)), Outcome::Resume);
}
