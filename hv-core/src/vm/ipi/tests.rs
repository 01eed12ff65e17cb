use std::vec::Vec;

use super::*;
use crate::device::apic::{Destination, LocalInterrupt, Mode, offset};
use crate::device::ioapic::Message;
use crate::vm::post::Startup;
use crate::vm::testing::{Fake, STARTED, Setup};
use crate::vm::{MachineType, Outcome};

const ENABLED: u32 = 0x1ff;

/// vCPUs of one VM that have started, with their APICs enabled; on CPU 1 whose APIC ID is 1, but for the
/// first.
fn started(count: u32) -> (Vec<Vcpu>, Fake) {
    with(Setup::default(), count)
}

fn with(setup: Setup, count: u32) -> (Vec<Vcpu>, Fake) {
    let mut vcpus = setup.vcpus(count);
    for vcpu in &mut vcpus {
        vcpu.waits_for_startup = false;
        let _ = vcpu.apic.mmio_write(offset::SVR, ENABLED, 0);
        vcpu.mails[1].set_apic_id(1);
    }
    (vcpus, Fake::new())
}

fn ipi(mode: DeliveryMode, vector: u8, destination: Destination) -> Ipi {
    Ipi { vector, mode, destination }
}

fn pending(vcpu: &mut Vcpu) -> Option<u8> {
    vcpu.take_post().unwrap();
    vcpu.apic.deliverable()
}

#[test]
fn a_fixed_interrupt_reaches_those_that_it_is_for() {
    let fixed = |destination| ipi(DeliveryMode::Fixed, 0x50, destination);
    for (destination, reached) in [
        (Destination::Physical(2), [false, false, true]),
        (Destination::Physical(7), [false, false, false]),
        (Destination::All, [true, true, true]),
        (Destination::Others, [false, true, true]),
    ] {
        let (mut v, mut h) = started(3);
        let effect = v[0].send(&fixed(destination), &mut h);
        assert_eq!(effect == Effect::Posted(0x50), reached[0], "{destination:?}");
        let got: Vec<bool> = v.iter_mut().map(|v| pending(v) == Some(0x50)).collect();
        assert_eq!(got, reached, "{destination:?}");
    }
}

#[test]
fn one_takes_an_interrupt_of_lowest_priority() {
    let (mut v, mut h) = started(3);
    for (vcpu, priority) in v.iter_mut().zip([0x80, 0x40, 0x60]) {
        let _ = vcpu.apic.mmio_write(offset::TPR, priority, 0);
    }
    let lowest = ipi(DeliveryMode::LowestPriority, 0x90, Destination::All);
    assert_eq!(v[0].send(&lowest, &mut h), Effect::None);
    assert_eq!(v.iter_mut().map(pending).collect::<Vec<_>>(), [None, Some(0x90), None]);
}

#[test]
fn a_cpu_is_interrupted_if_the_vcpu_runs_or_sleeps_there() {
    let (mut v, mut h) = started(3);
    let to = |id| ipi(DeliveryMode::Nmi, 0, Destination::Physical(id));
    v[1].post.set_place(Place::Running(1));
    let _ = v[0].send(&to(1), &mut h);
    assert_eq!(h.interrupted, [1]);
    let _ = v[0].send(&to(1), &mut h);
    assert_eq!(h.interrupted, [1], "it is coming");
    assert!(!v[0].mails[1].waits(), "it is not asleep");
    v[2].post.set_place(Place::Asleep { cpu: 1, slot: 9 });
    let _ = v[0].send(&to(2), &mut h);
    assert_eq!(h.interrupted, [1, 1]);
    let mut woken = Vec::new();
    v[0].mails[1].take(|slot| woken.push(slot));
    assert_eq!(woken, [9]);
    // On the sender's own CPU the sender makes room.
    v[2].take_post().unwrap();
    v[2].post.set_place(Place::Asleep { cpu: 0, slot: 4 });
    v[0].due = u64::MAX;
    let _ = v[0].send(&to(2), &mut h);
    assert_eq!((h.interrupted.len(), v[0].due, v[0].has_mail()), (2, 0, true));
    assert!(v[2].take_post().is_ok() && v[2].nmi);
    v[0].mails[0].take(|_| {});
}

#[test]
fn init_and_startup_begin_a_vcpu_anew() {
    let (mut v, mut h) = started(2);
    let to = |mode, vector| ipi(mode, vector, Destination::Physical(1));
    let _ = v[0].send(&to(DeliveryMode::Startup, 0x9a), &mut h);
    assert_eq!(v[1].take_post(), Ok(()));
    assert_eq!(v[1].startup, None, "it runs, and a startup IPI means nothing to it");
    v[1].nmi = true;
    let _ = v[1].apic.raise(LocalInterrupt::Lint0);
    let _ = v[0].send(&to(DeliveryMode::Init, 0), &mut h);
    assert_eq!(v[1].take_post(), Err(Leave::Init));
    v[1].wait_for_startup();
    assert_eq!((v[1].nmi, v[1].apic.deliverable(), v[1].startup), (false, None, None));
    assert_eq!(v[1].apic.page().get(offset::SVR), 0xff, "disabled by software");
    assert_eq!(v[1].apic.id(), 1);
    let _ = v[0].send(&to(DeliveryMode::Nmi, 0), &mut h);
    let _ = v[0].send(&to(DeliveryMode::Fixed, 0x40), &mut h);
    assert_eq!((v[1].take_post(), v[1].startup, v[1].nmi), (Ok(()), None, false), "not that");
    let _ = v[0].send(&to(DeliveryMode::Startup, 0x9a), &mut h);
    assert_eq!((v[1].take_post(), v[1].startup), (Ok(()), Some(Startup::Page(0x9a))));
}

#[test]
fn init_of_the_first_vcpu_ends_the_vm() {
    let (mut v, mut h) = started(2);
    let init = ipi(DeliveryMode::Init, 0, Destination::Physical(0));
    let _ = v[1].send(&init, &mut h);
    assert_eq!(v[0].take_post(), Err(Leave::Ended));
    assert_eq!(v[0].ending.unwrap().cause, Cause::HaltedForEver);
    let own = v[0].send(&init, &mut h);
    let outcome = v[0].apply(own, &mut h);
    assert_eq!(outcome, Outcome::AdvanceAndLeave(Leave::Ended));
}

#[test]
fn a_vm_that_stops_is_left_by_all_its_vcpus() {
    let (mut v, mut h) = started(3);
    assert!(v[1].vm.stop.begin(crate::vm::post::Then::End));
    v[1].tell_others(Notice::Stop, &mut h);
    let left: Vec<_> = v.iter_mut().map(Vcpu::take_post).collect();
    assert_eq!(left, [Err(Leave::Stopped), Ok(()), Err(Leave::Stopped)]);
}

#[test]
fn the_first_vcpu_hears_of_the_board_from_the_others() {
    let setup = Setup { machine: MachineType::Pc, ..Setup::default() };
    let (mut v, mut h) = with(setup, 2);
    v[0].settle_board(&mut h, STARTED);
    let due = v[0].board_due;
    // Channel 0 of the PIT, mode 2, at a pin of the I/O APIC that interrupts.
    v[1].write_io_apic(0x00, 0x14, &mut h);
    v[1].write_io_apic(0x10, 0x30, &mut h);
    for (port, value) in [(0x43, 0x34), (0x40, 0), (0x40, 4)] {
        let _ = v[1].vm.board.lock().write(port, 1, value, 0);
    }
    v[1].settle_board(&mut h, STARTED);
    assert_eq!(v[1].board_due, u64::MAX, "it does not look at it");
    assert!(v[0].take_post().is_ok() && v[0].board_due == 0);
    v[0].settle_board(&mut h, STARTED);
    assert!(v[0].board_due < due);
    v[1].settle_board(&mut h, STARTED);
    assert!(!v[0].post.waits(), "nothing new");
}

#[test]
fn a_message_of_the_io_apic_reaches_another_vcpu_with_its_trigger() {
    let setup = Setup { machine: MachineType::Pc, ..Setup::default() };
    let (mut v, mut h) = with(setup, 2);
    let message = Message {
        destination: 1,
        logical: false,
        mode: DeliveryMode::Fixed,
        vector: 0x61,
        trigger: Trigger::Level,
    };
    assert!(!v[0].distribute(&message.ipi(), message.trigger, false, &mut h));
    assert_eq!(pending(&mut v[1]), Some(0x61));
    assert!(v[1].levels_changed);
    v[1].apic.acknowledge(0x61);
    assert_eq!(v[1].apic.eoi(), Effect::Eoi { vector: 0x61, broadcast: true });
    assert_eq!(v[1].apic.mode(), Mode::XApic);
}
