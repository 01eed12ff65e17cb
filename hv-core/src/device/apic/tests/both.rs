//! What holds for both ways of working, and that they cannot be told apart.

use std::vec;
use std::vec::Vec;

use proptest::prelude::*;

use super::super::page::offset::*;
use super::model::*;
use super::*;

/// Runs a scenario on both machines in both modes.
fn both(scenario: impl Fn(&mut dyn Machine)) {
    for x2apic in [false, true] {
        let machines: [Box<dyn Machine>; 2] =
            [Box::new(Software::new()), Box::new(Virtualized::new())];
        for mut machine in machines {
            machine.write(SVR, 0x1ff, 0).unwrap();
            if x2apic {
                machine.other_msr(MSR_APIC_BASE, DEFAULT_BASE | 0xd00, 0).unwrap();
            }
            scenario(&mut *machine);
        }
    }
}

fn taken(machine: &mut dyn Machine) -> Vec<u8> {
    machine.interruptible();
    let events = core::mem::take(machine.events());
    events.iter().filter_map(|e| if let Event::Taken(v) = e { Some(*v) } else { None }).collect()
}

fn eoi(machine: &mut dyn Machine) {
    machine.write(EOI, 0, 0).unwrap();
}

fn post(machine: &mut dyn Machine, vectors: &[u8]) {
    for &vector in vectors {
        machine.post(vector, Trigger::Edge);
    }
}

#[test]
fn higher_classes_nest_and_equal_ones_wait() {
    both(|machine| {
        post(machine, &[0x41]);
        assert_eq!(taken(machine), [0x41]);
        post(machine, &[0x4f, 0x52, 0x31]);
        assert_eq!(taken(machine), [0x52], "0x4f is of the class in service");
        assert_eq!(machine.read(PPR, 0), Ok(0x50));
        eoi(machine);
        assert_eq!(taken(machine), []);
        assert_eq!(machine.read(PPR, 0), Ok(0x40));
        eoi(machine);
        assert_eq!(taken(machine), [0x4f]);
        eoi(machine);
        assert_eq!(taken(machine), [0x31]);
        eoi(machine);
        assert_eq!(machine.read(PPR, 0), Ok(0));
    });
}

#[test]
fn the_task_priority_holds_back_its_class_and_below() {
    both(|machine| {
        machine.write(TPR, 0x50, 0).unwrap();
        post(machine, &[0x5f, 0x4f]);
        assert_eq!(taken(machine), []);
        post(machine, &[0x60]);
        assert_eq!(taken(machine), [0x60]);
        eoi(machine);
        machine.set_cr8(4);
        assert_eq!(taken(machine), [0x5f]);
        eoi(machine);
        machine.write(TPR, 0x30, 0).unwrap();
        assert_eq!(taken(machine), [0x4f]);
    });
}

#[test]
fn an_interrupt_that_comes_twice_is_taken_twice_at_most() {
    both(|machine| {
        post(machine, &[0x41, 0x41]);
        assert_eq!(taken(machine), [0x41]);
        post(machine, &[0x41, 0x41]);
        assert_eq!(machine.read(IRR + 0x20, 0), Ok(2));
        assert_eq!(machine.read(ISR + 0x20, 0), Ok(2));
        eoi(machine);
        assert_eq!(taken(machine), [0x41]);
        eoi(machine);
        assert_eq!(taken(machine), []);
    });
}

#[test]
fn an_end_without_an_interrupt_does_nothing() {
    both(|machine| {
        eoi(machine);
        post(machine, &[0x41]);
        assert_eq!(taken(machine), [0x41]);
        eoi(machine);
        eoi(machine);
        assert_eq!(machine.read(PPR, 0), Ok(0));
    });
}

#[test]
fn self_ipis_arrive_by_every_register() {
    both(|machine| {
        machine.write(ICR_LOW, 0x4_0041, 0).unwrap();
        assert_eq!(taken(machine), [0x41]);
        machine.write(ICR_LOW, 0x4_4052, 0).unwrap();
        assert_eq!(taken(machine), [0x52], "the level bit does not matter");
        if machine.apic().mode() == Mode::X2Apic {
            machine.write(SELF_IPI, 0x63, 0).unwrap();
            assert_eq!(taken(machine), [0x63]);
        }
    });
}

#[test]
fn self_ipis_with_an_illegal_vector_are_errors() {
    both(|machine| {
        machine.write(LVT_ERROR, 0xe0, 0).unwrap();
        let x2apic = machine.apic().mode() == Mode::X2Apic;
        let (register, value) = if x2apic { (SELF_IPI, 0x05) } else { (ICR_LOW, 0x4_0005) };
        machine.write(register, value, 0).unwrap();
        assert_eq!(taken(machine), [0xe0]);
        machine.write(ESR, 0, 0).unwrap();
        assert_eq!(machine.read(ESR, 0), Ok(0x60));
    });
}

#[test]
fn the_end_of_a_level_triggered_interrupt_is_broadcast() {
    both(|machine| {
        machine.post(0x71, Trigger::Level);
        post(machine, &[0x81]);
        assert_eq!(taken(machine), [0x81]);
        eoi(machine);
        assert_eq!(*machine.events(), []);
        assert_eq!(taken(machine), [0x71]);
        assert_eq!(machine.read(TMR + 0x30, 0), Ok(1 << 17));
        eoi(machine);
        assert_eq!(*machine.events(), [Event::Broadcast(0x71)]);
    });
}

#[test]
fn a_vector_s_trigger_mode_is_that_of_its_last_message() {
    both(|machine| {
        machine.post(0x71, Trigger::Level);
        assert_eq!(taken(machine), [0x71]);
        eoi(machine);
        machine.events().clear();
        post(machine, &[0x71]);
        assert_eq!(taken(machine), [0x71]);
        assert_eq!(machine.read(TMR + 0x30, 0), Ok(0));
        eoi(machine);
        assert_eq!(*machine.events(), []);
    });
}

#[test]
fn the_timer_interrupts() {
    both(|machine| {
        machine.write(LVT_TIMER, 0x4_0020, 0).unwrap();
        machine.other_msr(MSR_TSC_DEADLINE, 100, 0).unwrap();
        machine.advance(99);
        assert_eq!(taken(machine), []);
        machine.advance(100);
        assert_eq!(taken(machine), [0x20]);
        machine.write(LVT_TIMER, 0x0_0030, 100).unwrap();
        machine.write(TIMER_DIVIDE, 0xb, 100).unwrap();
        machine.write(TIMER_INITIAL, 50, 100).unwrap();
        assert_eq!(machine.read(TIMER_CURRENT, 120), Ok(30));
        machine.advance(150);
        assert_eq!(taken(machine), [0x30]);
    });
}

#[test]
fn interrupts_survive_the_apic_being_disabled_by_software() {
    both(|machine| {
        post(machine, &[0x41, 0x61]);
        assert_eq!(taken(machine), [0x61]);
        machine.write(SVR, 0xff, 0).unwrap();
        machine.write(ICR_LOW, 0x4_0091, 0).unwrap();
        assert_eq!(taken(machine), [], "a disabled APIC accepts nothing");
        eoi(machine);
        assert_eq!(taken(machine), [0x41]);
        machine.write(SVR, 0x1ff, 0).unwrap();
        eoi(machine);
        post(machine, &[0x31]);
        assert_eq!(taken(machine), [0x31]);
    });
}

#[test]
fn writes_that_the_cpu_only_stored_are_repaired_and_completed() {
    let mut apic = xapic();
    let _ = apic.post(0x41, Trigger::Edge);
    apic.acknowledge(0x41);
    let mut complete = |register, value| {
        apic.page().set(register, value);
        (apic.complete_write(register, 0), apic.page().get(register))
    };
    let none = Effect::None;
    assert_eq!(complete(ID, 0xff00_0000), (none, OWN_ID << 24), "the ID is read-only");
    assert_eq!(complete(DFR, 0), (none, 0x0fff_ffff));
    assert_eq!(complete(LVT_ERROR, u32::MAX), (none, 0x0001_00ff));
    assert_eq!(complete(ESR, 0xff), (none, 0), "the errors are not what was written");
    assert_eq!(complete(EOI, 5), (Effect::Eoi { vector: 0x41, broadcast: false }, 0));
    assert_eq!(complete(ICR_LOW, 0xfff7_1041), (Effect::Posted(0x41), 0x4_0041));
    assert_eq!(complete(VERSION, 7), (none, 7), "not a register that exits this way");
    let mut apic = x2apic();
    apic.page().set(ICR_LOW, 0x41);
    apic.page().set(ICR_LOW + 4, 7);
    let destination = Destination::Physical(7);
    let ipi = Ipi { vector: 0x41, mode: DeliveryMode::Fixed, destination };
    assert_eq!(apic.complete_write(ICR_LOW, 0), Effect::Ipi(ipi));
    let _ = apic.write_base(DEFAULT_BASE);
    assert_eq!(apic.complete_write(SELF_IPI, 0), Effect::None);
}

#[test]
fn only_registers_that_the_page_holds_are_left_to_the_cpu() {
    // An MSR that faults, or whose value the page does not hold, must exit.
    for msr in MSR_X2APIC {
        let readable = x2apic().msr_read(msr, 0).is_ok();
        assert_eq!(msr_read_passes(msr, true), readable && msr != 0x839, "{msr:#x}");
        assert_eq!(msr_read_passes(msr, false), msr_read_passes(msr, true) && msr != 0x80a);
    }
    let passes =
        |delivery| MSR_X2APIC.filter(|&msr| msr_write_passes(msr, delivery)).collect::<Vec<_>>();
    assert_eq!(passes(true), [0x808, 0x80b, 0x83f]);
    assert_eq!(passes(false), [0x808]);
    assert!(!msr_read_passes(0x1b, true) && !msr_write_passes(0x7ff, true));
}

#[derive(Clone, Debug)]
enum Op {
    Read(u16),
    Write(u16, u64),
    Cr8(u64),
    Base(u64),
    Deadline(u64),
    Post(u8, bool),
    Interruptible,
    Wait(u64),
}

const REGISTERS: &[u16] = &[
    ID,
    VERSION,
    TPR,
    APR,
    PPR,
    EOI,
    RRD,
    LDR,
    DFR,
    SVR,
    ISR + 0x40,
    TMR + 0x10,
    IRR + 0x20,
    ESR,
    0x2f0,
    ICR_LOW,
    ICR_HIGH,
    LVT_TIMER,
    LVT_THERMAL,
    LVT_PMC,
    LVT_LINT0,
    LVT_LINT1,
    LVT_ERROR,
    TIMER_INITIAL,
    TIMER_CURRENT,
    TIMER_DIVIDE,
    SELF_IPI,
    0x000,
    0x400,
];

/// Vectors that a guest sends itself are even, level-triggered ones odd: a self-IPI that the CPU
/// carries out leaves the TMR alone, and no real system mixes the two.
fn op() -> impl Strategy<Value = Op> {
    let vector = (0x08u64..0x80).prop_map(|v| v * 2);
    let register = || prop::sample::select(REGISTERS);
    prop_oneof![
        4 => (register(), any::<u32>()).prop_map(|(r, v)| match r {
            // Only tame commands and vectors: see above.
            ICR_LOW | SELF_IPI => Op::Write(r, u64::from(v & 0xfe)),
            LVT_TIMER..=LVT_ERROR => Op::Write(r, u64::from(v & !1)),
            SVR => Op::Write(r, u64::from(v | 0x100)),
            _ => Op::Write(r, v.into()),
        }),
        3 => (register(), 0u64..0x100).prop_map(|(r, v)| Op::Write(r, v & !1)),
        1 => any::<bool>().prop_map(|on| Op::Write(SVR, if on { 0x1ff } else { 0xff })),
        4 => vector.clone().prop_map(|v| Op::Write(ICR_LOW, 0x4_0000 | v)),
        2 => vector.clone().prop_map(|v| Op::Write(SELF_IPI, v)),
        2 => (vector.clone(), any::<u64>()).prop_map(|(v, high)| {
            Op::Write(ICR_LOW, high & 0xffff_ffff_000c_ff00 | v)
        }),
        2 => (vector, 0u64..4).prop_map(|(v, mode)| Op::Write(LVT_TIMER, mode << 17 | v)),
        2 => (0u64..1000).prop_map(|v| Op::Write(TIMER_INITIAL, v)),
        6 => Just(Op::Write(EOI, 0)),
        6 => Just(Op::Interruptible),
        3 => register().prop_map(Op::Read),
        3 => (0u64..16).prop_map(Op::Cr8),
        1 => prop::sample::select(&[0xd00u64, 0x900, 0x100, 0x500]).prop_map(Op::Base),
        2 => (0u64..2000).prop_map(Op::Deadline),
        4 => any::<(u8, bool)>().prop_map(|(v, level)| Op::Post(if level { v | 1 } else { v & !1 }, level)),
        3 => (0u64..500).prop_map(Op::Wait),
    ]
}

/// What the rest of the VM saw so far, and what the guest was answered.
type Step = (Vec<Event>, Vec<Result<u64, GeneralProtection>>);

fn run(machine: &mut dyn Machine, ops: &[Op]) -> Vec<Step> {
    let mut now = 0;
    let mut seen = vec![];
    for op in ops {
        let mut answers = vec![];
        let unit = |done: Result<(), _>| done.map(|()| 0);
        match *op {
            Op::Read(register) => answers.push(machine.read(register, now)),
            Op::Write(register, value) => answers.push(unit(machine.write(register, value, now))),
            Op::Cr8(value) => machine.set_cr8(value),
            Op::Base(bits) => {
                answers.push(unit(machine.other_msr(MSR_APIC_BASE, DEFAULT_BASE | bits, now)));
            }
            Op::Deadline(ticks) => {
                answers.push(unit(machine.other_msr(MSR_TSC_DEADLINE, now + ticks, now)));
            }
            Op::Post(vector, level) => {
                machine.post(vector, if level { Trigger::Level } else { Trigger::Edge });
            }
            Op::Interruptible => machine.interruptible(),
            Op::Wait(ticks) => {
                now += ticks;
                machine.advance(now);
            }
        }
        answers.push(Ok(machine.apic().cr8()));
        answers.push(Ok(machine.apic().timer_due().unwrap_or(0)));
        // Not the reserved registers: reading them is an error of its own.
        for register in REGISTERS
            .iter()
            .copied()
            .filter(|&r| r != 0x2f0 && r != SELF_IPI && r != 0 && r < 0x400)
        {
            answers.push(machine.read(register, now));
        }
        for word in 0..0x18 {
            answers.push(machine.read(ISR + word * 0x10, now));
        }
        seen.push((machine.events().clone(), answers));
    }
    seen
}

proptest! {
    /// After every step of any sequence, both machines have answered the same, hold the same
    /// registers and have interrupted the guest in the same way.
    #[test]
    fn the_guest_cannot_tell_the_backends_apart(
        x2apic: bool,
        ops in prop::collection::vec(op(), 1..80),
    ) {
        let mut start = vec![Op::Write(SVR, 0x1ff)];
        if x2apic {
            start.push(Op::Base(0xd00));
        }
        let ops = [start, ops].concat();
        let software = run(&mut Software::new(), &ops);
        let virtualized = run(&mut Virtualized::new(), &ops);
        for (step, (a, b)) in software.iter().zip(&virtualized).enumerate() {
            prop_assert_eq!(a, b, "after step {}, {:?}", step, &ops[step]);
        }
    }

    /// Whatever the guest does, there is no vector below 16 anywhere, and what is deliverable beats
    /// the processor priority.
    #[test]
    fn the_software_backend_keeps_its_invariants(ops in prop::collection::vec(op(), 1..80)) {
        let mut machine = Software::new();
        for op in ops {
            let _ = run(&mut machine, &[op]);
            let apic = machine.apic();
            for set in [Vectors::Irr, Vectors::Isr, Vectors::Tmr] {
                prop_assert_eq!(apic.page().vectors(set, 0) & 0xffff, 0);
            }
            if let Some(vector) = apic.deliverable() {
                prop_assert!(apic.page().has(Vectors::Irr, vector));
                prop_assert!(vector >> 4 > apic.ppr() >> 4);
            }
        }
    }
}
