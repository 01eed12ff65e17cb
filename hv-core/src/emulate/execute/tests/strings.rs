use super::*;
use Mode::{Code16, Code32, Code64};

const DF: u64 = 1 << 10;
const TF: u64 = 1 << 8;

fn copying(mode: Mode, count: u64) -> Plain {
    let mut machine = plain(mode);
    machine.memory = (0..0x2000).map(|at| at as u8).collect();
    (machine.registers[1], machine.registers[6], machine.registers[7]) = (count, AT, AT + 0x1000);
    machine
}

fn pointers(machine: &Plain) -> [u64; 3] {
    [machine.registers[1], machine.registers[6], machine.registers[7]]
}

const REP_MOVSD: &[u8] = &[0xf3, 0xa5];

#[test]
fn a_repeated_instruction_stops_where_its_budget_ends_and_goes_on_there() {
    let mut machine = copying(Code64, 10);
    for left in [7, 4, 1] {
        assert_eq!(machine.run(REP_MOVSD, 3), Ok(Done::Again));
        let done = 4 * (10 - left);
        assert_eq!(pointers(&machine), [left, AT + done, AT + 0x1000 + done]);
    }
    assert_eq!(machine.run(REP_MOVSD, 3), Ok(Done::Complete));
    assert_eq!(pointers(&machine), [0, AT + 40, AT + 0x1028]);
    assert_eq!(machine.memory[..40], machine.memory[0x1000..0x1028]);
    assert_eq!(machine.memory[0x1028], 0x28, "no more");
    assert_eq!(machine.run(REP_MOVSD, 3), Ok(Done::Complete), "nothing to do");
    assert_eq!(pointers(&machine), [0, AT + 40, AT + 0x1028]);
}

#[test]
fn a_single_step_ends_each_iteration() {
    let mut machine = copying(Code64, 2);
    machine.flags |= TF;
    assert_eq!(machine.run(REP_MOVSD, 100), Ok(Done::Again));
    assert_eq!(machine.registers[1], 1);
    assert_eq!(machine.run(REP_MOVSD, 100), Ok(Done::Complete));
    assert_eq!(machine.registers[1], 0);
}

#[test]
fn the_direction_flag_turns_it_round() {
    let mut machine = copying(Code64, 3);
    machine.flags |= DF;
    (machine.registers[6], machine.registers[7]) = (AT + 0x20, AT + 0x1020);
    assert_eq!(machine.run(REP_MOVSD, 100), Ok(Done::Complete));
    assert_eq!(pointers(&machine), [0, AT + 0x14, AT + 0x1014]);
    assert_eq!(machine.memory[0x1018..0x1024], machine.memory[0x18..0x24]);
}

#[test]
fn index_registers_are_as_wide_as_addresses() {
    const UPPER: u64 = 0xabcd_0000;
    let mut machine = copying(Code16, 2 | UPPER);
    (machine.registers[6], machine.registers[7]) = (AT | UPPER, (AT + 0x1000) | UPPER);
    assert_eq!(machine.run(&[0xf3, 0xa4], 100), Ok(Done::Complete));
    assert_eq!(pointers(&machine), [UPPER, AT + 2 + UPPER, AT + 0x1002 + UPPER]);
    // 32-bit ones are zero-extended.
    let mut machine = copying(Code64, 2 | UPPER << 32);
    assert_eq!(machine.run(&[0x67, 0xf3, 0xa4], 100), Ok(Done::Complete));
    assert_eq!(pointers(&machine), [0, AT + 2, AT + 0x1002]);
}

#[test]
fn a_fault_leaves_what_is_done_and_a_restart_does_the_rest() {
    let mut machine = copying(Code64, 8);
    machine.read_only = AT + 0x100c..AT + 0x2000;
    let fault = Err(Stop::Fault(Event::exception(14, 3)));
    for _ in 0..2 {
        assert_eq!(machine.run(REP_MOVSD, 100), fault);
        assert_eq!(pointers(&machine), [5, AT + 12, AT + 0x100c]);
    }
    machine.read_only = 0..0;
    assert_eq!(machine.run(REP_MOVSD, 100), Ok(Done::Complete));
    assert_eq!(machine.memory[..32], machine.memory[0x1000..0x1020]);
    // The source is checked before the target.
    let mut machine = copying(Code64, 1);
    machine.registers[6] = 0;
    machine.read_only = AT..AT + 0x2000;
    let read = Err(Stop::Fault(Event::exception(14, 0)));
    assert_eq!(machine.run(REP_MOVSD, 100), read);
    assert_eq!(machine.counts, [0; 3]);
}

#[test]
fn comparisons_end_where_they_differ_or_agree() {
    const EQUAL: u64 = 0x46;
    // repe cmpsb, repne scasb.
    let mut machine = copying(Code64, 9);
    machine.memory[0x1003] = 0xff;
    assert_eq!(machine.run(&[0xf3, 0xa6], 100), Ok(Done::Complete));
    assert_eq!(pointers(&machine), [5, AT + 4, AT + 0x1004]);
    assert_eq!(machine.flags & 0x40, 0, "not equal");
    let mut machine = copying(Code64, 9);
    machine.registers[0] = 5;
    assert_eq!(machine.run(&[0xf2, 0xae], 100), Ok(Done::Complete));
    assert_eq!(pointers(&machine), [3, AT, AT + 0x1006]);
    assert_eq!(machine.flags & EQUAL, EQUAL);
    // Interrupted, it has the flags of what it compared; after a fault those from before.
    let mut machine = copying(Code64, 9);
    assert_eq!(machine.run(&[0xf3, 0xa6], 2), Ok(Done::Again));
    assert_eq!(machine.flags & EQUAL, EQUAL);
    let mut machine = copying(Code64, 9);
    machine.registers[7] = AT + 0x1ffd;
    machine.memory[0x1ffd..].copy_from_slice(&[0, 1, 2]);
    assert_eq!(machine.run(&[0xf3, 0xa6], 100), Err(Stop::Fault(Event::exception(14, 0))));
    assert_eq!((machine.registers[1], machine.flags), (6, 2));
}

#[test]
fn a_source_may_be_in_another_segment_and_a_target_is_in_es() {
    let mut machine = copying(Code32, 1);
    machine.segments[0].base = 0x800;
    machine.segments[3].base = 0x20;
    machine.segments[4].base = 0x40;
    assert_eq!(machine.run(&[0xf3, 0xa4], 1), Ok(Done::Complete));
    assert_eq!(machine.memory[0x1800], 0x20);
    assert_eq!(machine.run(&[0x64, 0xa4], 1), Ok(Done::Complete));
    assert_eq!(machine.memory[0x1801], 0x41);
    assert_eq!(machine.run(&[0x64, 0xaa], 1), Ok(Done::Complete));
    assert_eq!(machine.memory[0x1802], 0, "STOS is not moved by a prefix");
}

#[test]
fn ports_are_read_and_written_once_for_each_iteration() {
    let mut machine = copying(Code32, 2);
    machine.registers[2] = 0xffff_03f8;
    assert_eq!(machine.run(&[0xf3, 0x6d], 100), Ok(Done::Complete));
    assert_eq!(machine.ports, [(0x3f8, 4, u32::MAX); 2]);
    assert_eq!(machine.memory[0x1000..0x1008], [0x12, 0x22, 0x33, 0x44, 0x13, 0x22, 0x33, 0x44]);
    let mut machine = copying(Code32, 3);
    machine.segments[4].base = 0x10;
    assert_eq!(machine.run(&[0x64, 0xf3, 0x66, 0x6f], 100), Ok(Done::Complete));
    assert_eq!(machine.ports, [(0, 2, 0x1110), (0, 2, 0x1312), (0, 2, 0x1514)]);
    assert_eq!(pointers(&machine), [0, AT + 6, AT + 0x1000]);
    // What cannot be stored is not taken from the port.
    let mut machine = copying(Code32, 3);
    machine.read_only = AT..AT + 0x2000;
    assert!(matches!(machine.run(&[0xf3, 0x6c], 100), Err(Stop::Fault(_))));
    assert_eq!((machine.ports.len(), machine.registers[1]), (0, 3));
}
