use super::*;
use hv_core::host::report::{Mark, MarkCounter};
use pv_abi::call::base;

fn bochs() -> Hardware {
    Machine::BochsVmx.hardware(0)
}

fn row() -> GuestRow {
    GuestRow {
        id: 3,
        name: "cpuid".into(),
        ops: 100,
        ticks: 9_000,
        empty: 1_000,
        exits: Some(104),
        empty_exits: 2,
    }
}

fn section(phase: u64, tsc: u64, counters: &[(u64, u64)]) -> Section {
    let counters =
        counters.iter().map(|&(slot, count)| MarkCounter { slot, count, ticks: 0 }).collect();
    let mark = Mark { id: 3, phase, tsc, vmreads: 10 + 500 * phase, vmwrites: 200 * phase };
    Section { mark, counters }
}

fn sections() -> Vec<Section> {
    let slot = |number: Number| CALLS + call_slot(number.extension(), number.function()) as u64;
    vec![
        section(BEGIN, 50_000, &[(Reason::Cpuid as u64, 7), (Reason::Mark as u64, 1)]),
        section(
            END,
            59_060,
            &[
                (Reason::Cpuid as u64, 107),
                (Reason::Mark as u64, 2),
                (Reason::Hypercall as u64, 2),
                (Reason::Rdtsc as u64, 2),
                (slot(base::NOP), 2),
                (slot(stat::MARK), 2),
            ],
        ),
    ]
}

#[test]
fn a_section_is_the_difference_of_its_marks_without_the_marks() {
    let rows = join(Policy::HwAssist, &bochs(), &[row()], &sections()).unwrap();
    let row = &rows[0];
    assert_eq!((row.ops, row.exits, row.all_exits, row.ticks), (100, 102, 104, 8_000));
    assert_eq!(row.mark_ticks, 60);
    assert_eq!(row.exits_by_reason, BTreeMap::from([("cpuid", 100), ("hypercall", 2)]));
    assert_eq!(row.hypercalls_by_number, BTreeMap::from([(base::NOP.0, 2)]));
    assert_eq!((row.vmreads, row.vmwrites), (500, 200));
    assert_eq!(row.exits_per_op(), 1.02);
    assert_eq!(row.ticks_per_op(), 80.0);
}

#[test]
fn a_disagreement_is_an_error() {
    let other = GuestRow { exits: Some(103), ..row() };
    assert!(matches!(
        join(Policy::Pv, &bochs(), &[other], &sections()),
        Err(JoinError::Exits { guest: 103, hypervisor: 104, .. })
    ));
    for ticks in [9_061, 9_060 - mark_cost(&bochs()) - 1] {
        let other = GuestRow { ticks, ..row() };
        let error = join(Policy::Pv, &bochs(), &[other], &sections());
        assert!(matches!(error, Err(JoinError::Ticks { .. })), "{ticks}");
    }
    let silent = GuestRow { exits: None, ..row() };
    assert!(join(Policy::Pv, &bochs(), &[silent], &sections()).is_ok());
}

#[test]
fn sections_of_one_id_add_up() {
    let twice = [sections(), sections()].concat();
    let guest = GuestRow {
        ops: 200,
        ticks: 18_000,
        empty: 2_000,
        exits: Some(208),
        empty_exits: 4,
        ..row()
    };
    let rows = join(Policy::Pv, &bochs(), &[guest], &twice).unwrap();
    assert_eq!((rows[0].exits, rows[0].ticks, rows[0].vmreads), (204, 16_000, 1_000));
    assert_eq!(rows[0].exits_by_reason["cpuid"], 200);
}

#[test]
fn marks_and_rows_must_pair_up() {
    let fails =
        |rows: &[GuestRow], marks: &[Section]| join(Policy::Pv, &bochs(), rows, marks).unwrap_err();
    let both = sections();
    assert_eq!(fails(&[row()], &both[..1]), JoinError::Open { id: 3 });
    assert_eq!(fails(&[row()], &both[1..]), JoinError::Unpaired { id: 3, phase: END });
    let nested = [both[0].clone(), both[0].clone()];
    assert_eq!(fails(&[row()], &nested), JoinError::Unpaired { id: 3, phase: BEGIN });
    assert_eq!(fails(&[], &both), JoinError::NoRow { id: 3 });
    let none = JoinError::NoSection { workload: "cpuid".into() };
    assert_eq!(fails(&[row()], &[]), none);
    let mut swapped = sections();
    swapped.reverse();
    (swapped[0].mark.phase, swapped[1].mark.phase) = (BEGIN, END);
    let backwards = JoinError::Backwards { workload: "cpuid".into() };
    assert_eq!(fails(&[row()], &swapped), backwards);
}
