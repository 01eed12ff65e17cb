use std::collections::BTreeSet;
use std::vec;

use pv_abi::call::event;
use pv_abi::event::{PORTS, WAIT};

use super::*;
use crate::vm::post::Place;
use crate::vm::vcpu::Halt;

const SELECTOR: u64 = offset_of!(VcpuShared, selector) as u64;
const PENDING: u64 = offset_of!(VcpuShared, pending) as u64;
const MASKED: u64 = offset_of!(VcpuShared, masked) as u64;

/// VM 0 with one vCPU and VM 1 with two, linked; VM 2, which nobody reaches. All have started, and have areas.
fn vms() -> (Vec<Vec<Vcpu>>, Fake) {
    let mut vms = Setup::default().linked(&[(1, 0b010), (2, 0b001), (1, 0)]);
    let mut h = Fake::new();
    for v in vms.iter_mut().flatten() {
        with_timer(v);
        v.set_waits_for_startup(false);
        v.mails[0].set_apic_id(0);
        v.mails[1].set_apic_id(1);
        let area = AREA + u64::from(v.number) * PAGE;
        assert_eq!(value(v, &mut h, area::REGISTER, &[area]), INFO_GPA);
    }
    (vms, h)
}

/// The same, with port 5 of VM 0 connected with port 9 of VM 1, whose events are for its vCPU 1.
fn joined() -> (Vec<Vec<Vcpu>>, Fake) {
    let (mut vms, mut h) = vms();
    value(&mut vms[0][0], &mut h, event::OPEN, &[5, 0, 1]);
    value(&mut vms[1][0], &mut h, event::OPEN, &[9, 1, 0]);
    value(&mut vms[1][0], &mut h, event::CONNECT, &[9, 5]);
    assert_eq!(look(&mut vms[0][0]), [5], "the connection itself");
    (vms, h)
}

fn word(v: &Vcpu, at: u64) -> u64 {
    AREA + u64::from(v.number) * PAGE + at
}

fn read(v: &Vcpu, at: u64) -> u64 {
    v.vm.memory.read_u64(word(v, at)).unwrap()
}

fn write(v: &Vcpu, at: u64, value: u64) {
    v.vm.memory.write_u64(word(v, at), value).unwrap();
}

/// What the guest takes, as the specification tells it to, after the vCPU has taken its post.
fn look(v: &mut Vcpu) -> Vec<u16> {
    v.take_post().unwrap();
    let mut selector = read(v, SELECTOR);
    write(v, SELECTOR, 0);
    let mut ports = Vec::new();
    while let Some(at) = crate::vm::post::lowest(&mut selector) {
        let offset = u64::from(at) * 8;
        let mut bits = read(v, PENDING + offset) & !read(v, MASKED + offset);
        write(v, PENDING + offset, read(v, PENDING + offset) & !bits);
        while let Some(bit) = crate::vm::post::lowest(&mut bits) {
            ports.push(at << 6 | bit);
        }
    }
    ports
}

/// A call that is refused, and of which nobody hears.
#[track_caller]
fn refused_quietly(vms: &mut [Vec<Vcpu>], h: &mut Fake, number: Number, a: &[u64]) -> Status {
    let status = refused(&mut vms[0][0], h, number, a);
    for v in vms.iter().flatten() {
        assert!(v.post.take().is_none() && !v.post.has_events(), "a vCPU was told");
    }
    assert!(h.interrupted.is_empty());
    status
}

#[test]
fn a_vm_learns_its_number_and_whom_it_reaches() {
    let (mut vms, mut h) = vms();
    let facts = [(0, 0b010), (1, 0b001), (2, 0)];
    for (vm, (number, links)) in vms.iter_mut().zip(facts) {
        assert_eq!(value(&mut vm[0], &mut h, event::NUMBER, &[]), number);
        assert_eq!(value(&mut vm[0], &mut h, event::LINKS, &[]), links);
    }
}

#[test]
fn an_event_arrives_at_the_vcpu_of_the_port_that_is_connected() {
    let (mut vms, mut h) = joined();
    vms[1][1].post.set_place(Place::Asleep { cpu: 1, slot: 3 });
    assert_eq!(value(&mut vms[0][0], &mut h, event::SEND, &[5, 0]), 0);
    assert_eq!(h.interrupted, [1]);
    assert_eq!((look(&mut vms[1][0]), look(&mut vms[1][1])), (vec![], vec![9]));
    assert_eq!(value(&mut vms[1][0], &mut h, event::SEND, &[9, 0]), 0);
    assert_eq!(look(&mut vms[0][0]), [5], "and back");
}

#[test]
fn a_port_for_the_own_vm_raises_itself() {
    let (mut vms, mut h) = vms();
    assert_eq!(value(&mut vms[1][0], &mut h, event::OPEN, &[1023, 1, 1]), 0);
    assert_eq!(value(&mut vms[1][0], &mut h, event::SEND, &[1023, 0]), 0);
    assert_eq!(look(&mut vms[1][1]), [1023]);
    let (status, _) = returns(&mut vms[1][0], &mut h, event::CONNECT, &[1023, 0]);
    assert_eq!(status, Status::AlreadyDone);
    assert_eq!(value(&mut vms[1][0], &mut h, event::CLOSE, &[1023]), 0);
    assert_eq!(returns(&mut vms[1][0], &mut h, event::SEND, &[1023, 0]).0, Status::NotReady);
    assert!(!vms[1][1].post.waits(), "nobody is left to be told");
}

#[test]
fn ports_are_opened_once_and_where_a_link_leads() {
    let (mut vms, mut h) = vms();
    let ports = u64::from(PORTS);
    for (arguments, status) in [
        ([ports, 0, 2], Status::InvalidArgument),
        ([1 << 16, 0, 1], Status::InvalidArgument),
        ([u64::MAX, 0, 1], Status::InvalidArgument),
        ([0, 1, 2], Status::InvalidArgument),
        ([0, 256, 1], Status::InvalidArgument),
        ([0, u64::MAX, 1], Status::InvalidArgument),
        ([0, 0, 2], Status::Denied),
        ([0, 0, 3], Status::Denied),
        ([0, 0, 63], Status::Denied),
        ([0, 0, 64], Status::Denied),
        ([0, 0, 257], Status::Denied),
        ([0, 0, u64::MAX], Status::Denied),
    ] {
        let found = refused_quietly(&mut vms, &mut h, event::OPEN, &arguments);
        assert_eq!(found, status, "{arguments:x?}");
    }
    value(&mut vms[0][0], &mut h, event::OPEN, &[0, 0, 1]);
    for vm in [0, 1, 2] {
        let found = refused_quietly(&mut vms, &mut h, event::OPEN, &[0, 0, vm]);
        assert_eq!(found, Status::AlreadyDone);
    }
}

#[test]
fn two_open_ports_are_connected_once_if_each_is_for_the_other() {
    let (mut vms, mut h) = vms();
    let ports = u64::from(PORTS);
    value(&mut vms[0][0], &mut h, event::OPEN, &[5, 0, 1]);
    value(&mut vms[1][0], &mut h, event::OPEN, &[8, 0, 1]);
    for (arguments, status) in [
        ([ports, ports], Status::InvalidArgument),
        ([5, ports], Status::InvalidArgument),
        ([6, u64::MAX], Status::InvalidArgument),
        ([6, 9], Status::NotReady),
        ([5, 9], Status::NotReady),
        ([5, 8], Status::NotReady),
    ] {
        let found = refused_quietly(&mut vms, &mut h, event::CONNECT, &arguments);
        assert_eq!(found, status, "{arguments:x?}");
    }
    value(&mut vms[1][0], &mut h, event::OPEN, &[9, 0, 0]);
    value(&mut vms[0][0], &mut h, event::CONNECT, &[5, 9]);
    assert_eq!(look(&mut vms[1][0]), [9], "it is told");
    value(&mut vms[0][0], &mut h, event::OPEN, &[6, 0, 1]);
    for arguments in [[5, 9], [5, 10], [6, 9]] {
        let found = refused_quietly(&mut vms, &mut h, event::CONNECT, &arguments);
        assert_eq!(found, Status::AlreadyDone, "{arguments:x?}");
    }
}

#[test]
fn a_port_that_is_closed_leaves_its_peer_open_and_tells_it() {
    let (mut vms, mut h) = joined();
    assert_eq!(value(&mut vms[0][0], &mut h, event::CLOSE, &[5]), 0);
    assert_eq!(look(&mut vms[1][1]), [9]);
    for number in [event::CLOSE, event::SEND] {
        assert_eq!(refused_quietly(&mut vms, &mut h, number, &[5, 0]), Status::NotReady);
    }
    let (status, _) = returns(&mut vms[1][0], &mut h, event::SEND, &[9, 0]);
    assert_eq!(status, Status::NotReady);
    assert_eq!(
        refused_quietly(&mut vms, &mut h, event::CLOSE, &[u64::from(PORTS)]),
        Status::InvalidArgument
    );
    value(&mut vms[0][0], &mut h, event::OPEN, &[7, 0, 1]);
    value(&mut vms[0][0], &mut h, event::CONNECT, &[7, 9]);
    assert_eq!(look(&mut vms[1][1]), [9], "it can be connected again");
}

#[test]
fn what_cannot_be_sent_is_refused_and_does_not_wait() {
    let (mut vms, mut h) = vms();
    value(&mut vms[0][0], &mut h, event::OPEN, &[5, 0, 1]);
    for (arguments, status) in [
        ([u64::from(PORTS), 2], Status::Reserved),
        ([5, 1 << 63], Status::Reserved),
        ([u64::from(PORTS), WAIT], Status::InvalidArgument),
        ([5, WAIT], Status::NotReady),
        ([4, 0], Status::NotReady),
    ] {
        let found = refused_quietly(&mut vms, &mut h, event::SEND, &arguments);
        assert_eq!(found, status, "{arguments:x?}");
    }
}

#[test]
fn an_interrupt_tells_who_looks_at_nothing_yet() {
    let (mut vms, mut h) = joined();
    for vector in [1, 15, 256, u64::MAX] {
        let found = refused_quietly(&mut vms, &mut h, event::VECTOR, &[vector]);
        assert_eq!(found, Status::InvalidArgument);
    }
    let mut told = |vms: &mut Vec<Vec<Vcpu>>| {
        value(&mut vms[0][0], &mut h, event::SEND, &[5, 0]);
        let v = &mut vms[1][1];
        v.take_post().unwrap();
        let vector = v.apic.deliverable();
        vector.inspect(|&vector| v.apic.acknowledge(vector));
        let _ = v.apic.eoi();
        vector
    };
    assert_eq!(told(&mut vms), None, "no vector was given");
    assert_eq!(look(&mut vms[1][1]), [9]);
    let mut other = Fake::new();
    value(&mut vms[1][1], &mut other, event::VECTOR, &[0x51]);
    assert_eq!(told(&mut vms), Some(0x51));
    assert_eq!(told(&mut vms), None, "it has not looked yet");
    assert_eq!(look(&mut vms[1][1]), [9]);
    write(&vms[1][1], MASKED, 1 << 9);
    assert_eq!(told(&mut vms), None);
    assert_eq!((read(&vms[1][1], SELECTOR), read(&vms[1][1], PENDING)), (0, 1 << 9));
    write(&vms[1][1], MASKED, 1 << 8);
    write(&vms[1][1], PENDING, 0);
    assert_eq!(told(&mut vms), Some(0x51));
}

#[test]
fn a_wait_ends_by_an_event_that_is_not_masked_and_by_an_interrupt() {
    let halted = Outcome::AdvanceAndLeave(Leave::Halted);
    for call in [event::WAIT, event::SEND] {
        let (mut vms, mut h) = joined();
        let arguments: &[u64] = if call == event::WAIT { &[0] } else { &[5, WAIT] };
        let wait = |vms: &mut Vec<Vec<Vcpu>>, h: &mut Fake| {
            h.keep(Kept::Rflags, 2);
            make(&mut vms[0][0], h, call, arguments).0
        };
        assert_eq!(wait(&mut vms, &mut h), halted);
        let now = h.time.get();
        let wakes = |v: &mut Vcpu, h: &mut Fake| {
            v.take_post().unwrap();
            v.wakes(h, now)
        };
        assert!(!wakes(&mut vms[0][0], &mut h));
        write(&vms[0][0], MASKED, 1 << 5);
        value(&mut vms[1][0], &mut h, event::SEND, &[9, 0]);
        assert!(vms[0][0].post.waits(), "whoever it is, it is looked at");
        assert!(!wakes(&mut vms[0][0], &mut h), "it is masked");
        write(&vms[0][0], MASKED, 0);
        write(&vms[0][0], PENDING, 0);
        value(&mut vms[1][0], &mut h, event::SEND, &[9, 0]);
        assert!(wakes(&mut vms[0][0], &mut h));
        // The next one does not begin: nobody has looked.
        assert_eq!(wait(&mut vms, &mut h), Outcome::Advance);
        assert_eq!(look(&mut vms[0][0]), [5]);
        assert_eq!(wait(&mut vms, &mut h), halted);
        let _ = vms[0][0].apic.post(0x60, Trigger::Edge);
        assert!(wakes(&mut vms[0][0], &mut h), "with interrupts disabled as well");
    }
}

#[test]
fn no_other_halt_ends_by_an_event_without_a_vector() {
    let (mut vms, mut h) = joined();
    value(&mut vms[1][0], &mut h, event::SEND, &[9, 0]);
    let v = &mut vms[0][0];
    v.take_post().unwrap();
    assert!(v.has_event());
    for (call, arguments) in [(pv_abi::call::smp::WAIT, &[][..]), (sched::HALT_UNTIL, &[0, 0])] {
        v.halt = Halt::Event;
        let _ = make(v, &mut h, call, arguments);
        assert!(!v.wakes(&mut Fake::new(), h.time.get()));
    }
}

#[test]
fn a_deadline_bounds_the_wait() {
    let (mut v, mut h) = with_area();
    store_deadline(&v, 1000);
    let outcome = make(&mut v, &mut h, event::WAIT, &[1000]).0;
    assert_eq!(outcome, Outcome::AdvanceAndLeave(Leave::Halted));
    assert_eq!(v.apic.timer_due(), Some(1000));
    assert!(v.wakes(&mut Fake::new(), STARTED + 1000));
}

#[test]
fn without_an_area_events_stay_until_there_is_one() {
    let mut vms = Setup::default().linked(&[(1, 0b10), (1, 0b01)]);
    let mut h = Fake::new();
    value(&mut vms[0][0], &mut h, event::OPEN, &[5, 0, 1]);
    value(&mut vms[1][0], &mut h, event::OPEN, &[70, 0, 0]);
    value(&mut vms[1][0], &mut h, event::CONNECT, &[70, 5]);
    value(&mut vms[0][0], &mut h, event::SEND, &[5, 0]);
    let v = &mut vms[1][0];
    v.take_post().unwrap();
    v.set_waits_for_startup(false);
    assert_eq!(make(v, &mut h, event::WAIT, &[0]).0, Outcome::Advance, "there is one");
    v.due = u64::MAX;
    value(v, &mut h, area::REGISTER, &[AREA]);
    assert_eq!(v.due, crate::vm::vcpu::ATTEND);
    assert_eq!(look(v), [70]);
    assert_eq!(read(v, SELECTOR), 0);
}

#[test]
fn init_closes_the_ports_of_the_vcpu_and_forgets_what_came() {
    let (mut vms, mut h) = joined();
    value(&mut vms[1][0], &mut h, event::OPEN, &[10, 0, 0]);
    value(&mut vms[0][0], &mut h, event::SEND, &[5, 0]);
    let mut raised = Vec::new();
    vms[1][1].vm.close_ports(Some(1), &mut |end| raised.push(end.port));
    vms[1][1].wait_for_startup();
    assert_eq!(raised, [5]);
    assert!(!vms[1][1].post.has_events());
    assert_eq!(returns(&mut vms[0][0], &mut h, event::SEND, &[5, 0]).0, Status::NotReady);
    assert_eq!(returns(&mut vms[1][0], &mut h, event::OPEN, &[10, 0, 0]).0, Status::AlreadyDone);
}

#[test]
fn the_end_of_a_vm_closes_both_ends_and_tells_those_who_waited() {
    let (mut vms, mut h) = joined();
    value(&mut vms[0][0], &mut h, event::OPEN, &[900, 0, 1]);
    value(&mut vms[0][0], &mut h, event::OPEN, &[2, 0, 0]);
    assert!(vms[0][0].vm.ports.are_reachable());
    let mut raised = Vec::new();
    let vm = vms[1][0].vm;
    vm.close_ports(None, &mut |end| raised.push(end.port));
    assert_eq!(returns(&mut vms[0][0], &mut h, event::CONNECT, &[5, 9]).0, Status::NotReady);
    assert!(vms[0][0].vm.ports.are_reachable(), "it may only be reset");
    vm.end_ports(&mut |end| raised.push(end.port));
    assert_eq!(raised, [5, 5, 900]);
    assert!(!vms[0][0].vm.ports.are_reachable());
    for (number, arguments, status) in [
        (event::SEND, [5, 0, 0], Status::NotReady),
        (event::CLOSE, [5, 0, 0], Status::NotReady),
        (event::OPEN, [5, 0, 1], Status::NotReady),
        (event::OPEN, [2, 0, 0], Status::AlreadyDone),
    ] {
        assert_eq!(returns(&mut vms[0][0], &mut h, number, &arguments).0, status);
    }
}

#[test]
fn both_ends_may_connect_and_close_at_once() {
    let (mut vms, _) = vms();
    let (two, one) = (vms.remove(1).remove(0).vm, vms.remove(0).remove(0).vm);
    let work = |vm: &'static Vm, port: u16, remote: u16, other: u64| {
        move || {
            for _ in 0..100_000 {
                if vm.open_port(port, 0, other).is_ok() {
                    let _ = vm.connect_port(port, remote);
                    let _ = vm.peer_of(port);
                    vm.close_port(port).map(drop).unwrap();
                }
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work(one, 1, 2, 1));
        scope.spawn(work(two, 2, 1, 0));
        scope.spawn(work(two, 3, 1, 0));
    });
    for vm in [one, two] {
        assert!(!vm.ports.are_reachable(), "what was opened is closed");
        assert!((0..PORTS).all(|port| vm.close_port(port).is_err()));
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Send(u16),
    Mask(u16),
    Unmask(u16),
    Arrive,
    Look,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let port = || prop::sample::select(&[0u16, 1, 63, 64, 700, 1023][..]);
    let step = prop_oneof![
        4 => port().prop_map(Step::Send),
        1 => port().prop_map(Step::Mask),
        1 => port().prop_map(Step::Unmask),
        2 => Just(Step::Arrive),
        2 => Just(Step::Look),
    ];
    prop::collection::vec(step, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing is lost and nothing comes twice, whatever is masked meanwhile: what was sent and not been
    /// taken is pending, and what of it is not masked is found.
    #[test]
    fn the_two_levels_are_a_set_of_ports(steps in steps()) {
        let (mut v, mut h) = with_area();
        with_timer(&mut v);
        value(&mut v, &mut h, event::VECTOR, &[0x51]);
        let (mut sent, mut here, mut masked) =
            (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        let change = |v: &Vcpu, field: u64, port: u16, on: bool| {
            let at = field + u64::from(port / 64) * 8;
            let bit = 1u64 << (port % 64);
            write(v, at, if on { read(v, at) | bit } else { read(v, at) & !bit });
        };
        for step in steps {
            match step {
                Step::Send(port) => {
                    v.post.raise(port);
                    sent.insert(port);
                }
                Step::Mask(port) => {
                    masked.insert(port);
                    change(&v, MASKED, port, true);
                }
                // The guest looks behind its back at what is pending: it selects the word itself.
                Step::Unmask(port) => {
                    masked.remove(&port);
                    change(&v, MASKED, port, false);
                    if here.contains(&port) {
                        change(&v, SELECTOR, port / 64, true);
                    }
                }
                Step::Arrive => {
                    let before = read(&v, SELECTOR);
                    let told = sent.difference(&here).any(|port| !masked.contains(port));
                    v.take_post().unwrap();
                    here.append(&mut sent);
                    let vector = v.apic.deliverable();
                    prop_assert_eq!(vector, (told && before == 0).then_some(0x51));
                    vector.inspect(|&vector| v.apic.acknowledge(vector));
                    let _ = v.apic.eoi();
                }
                Step::Look => {
                    let before = read(&v, SELECTOR);
                    prop_assert!(before != 0 || here.is_subset(&masked));
                    here.append(&mut sent);
                    let all = look(&mut v);
                    let found: BTreeSet<u16> = all.iter().copied().collect();
                    prop_assert_eq!(all.len(), found.len());
                    prop_assert_eq!(&found, &here.difference(&masked).copied().collect());
                    here.retain(|port| masked.contains(port));
                    let vector = v.apic.deliverable();
                    vector.inspect(|&vector| v.apic.acknowledge(vector));
                    let _ = v.apic.eoi();
                }
            }
        }
    }
}
