use std::boxed::Box;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::*;

fn message(n: u64) -> Message {
    core::array::from_fn(|i| n << 8 | i as u64)
}

fn no_event() {
    panic!("a receiver that looks was sent an event");
}

#[test]
fn messages_arrive_whole_and_in_order_and_need_no_event_while_the_receiver_looks() {
    let page = RingPage::new();
    let (mut sender, mut receiver) = (Sender::new(&page), Receiver::new(&page));
    for n in 0..100 {
        sender.send(&message(n), no_event).unwrap();
        sender.send(&message(n + 1000), no_event).unwrap();
        assert_eq!(receiver.receive(), Ok(Some(message(n))));
        assert_eq!(receiver.receive(), Ok(Some(message(n + 1000))));
        assert_eq!(receiver.receive(), Ok(None));
    }
}

#[test]
fn a_full_ring_takes_nothing_and_keeps_what_it_has() {
    let page = RingPage::new();
    let (mut sender, mut receiver) = (Sender::new(&page), Receiver::new(&page));
    for n in 0..MESSAGES as u64 {
        sender.send(&message(n), no_event).unwrap();
    }
    assert_eq!(sender.send(&message(99), no_event), Err(Full));
    assert_eq!(receiver.receive(), Ok(Some(message(0))));
    sender.send(&message(99), no_event).unwrap();
    for n in (1..MESSAGES as u64).chain([99]) {
        assert_eq!(receiver.receive(), Ok(Some(message(n))));
    }
    assert_eq!(receiver.receive(), Ok(None));
}

#[test]
fn who_sleeps_is_sent_one_event_and_who_has_a_message_does_not_sleep() {
    let page = RingPage::new();
    let (mut sender, mut receiver) = (Sender::new(&page), Receiver::new(&page));
    sender.send(&message(1), no_event).unwrap();
    assert!(!receiver.may_sleep());
    sender.send(&message(2), no_event).unwrap();
    receiver.receive().unwrap();
    receiver.receive().unwrap();
    assert!(receiver.may_sleep());
    let mut events = 0;
    sender.send(&message(3), || events += 1).unwrap();
    sender.send(&message(4), no_event).unwrap();
    receiver.awake();
    assert_eq!((events, receiver.receive()), (1, Ok(Some(message(3)))));
    sender.send(&message(5), no_event).unwrap();
}

#[test]
fn a_sender_waits_for_room_and_is_told_once() {
    let page = RingPage::new();
    let (mut sender, mut receiver) = (Sender::new(&page), Receiver::new(&page));
    for n in 0..MESSAGES as u64 {
        assert!(!sender.may_sleep() && !receiver.sender_waits());
        sender.send(&message(n), no_event).unwrap();
    }
    assert!(sender.may_sleep());
    assert_eq!(receiver.receive(), Ok(Some(message(0))));
    assert!(receiver.sender_waits() && !receiver.sender_waits());
    assert!(!sender.may_sleep());
}

#[test]
fn counters_that_cannot_be_are_noticed_and_reach_no_place_that_is_not_there() {
    for lie in [MESSAGES as u32 + 1, 1 << 31, u32::MAX] {
        let page = RingPage::new();
        page.head.0.store(lie, Ordering::Relaxed);
        assert_eq!(Receiver::new(&page).receive(), Err(Broken), "{lie:#x}");
    }
    for lie in [1, MESSAGES as u32 + 1, 1 << 31] {
        let page = RingPage::new();
        page.tail.0.store(lie, Ordering::Relaxed);
        assert_eq!(Sender::new(&page).send(&message(0), no_event), Err(Full), "{lie:#x}");
    }
    // A sender that goes back takes nothing back.
    let page = RingPage::new();
    let (mut sender, mut receiver) = (Sender::new(&page), Receiver::new(&page));
    sender.send(&message(0), no_event).unwrap();
    receiver.receive().unwrap();
    page.head.0.store(0, Ordering::Relaxed);
    assert_eq!(receiver.receive(), Err(Broken));
}

#[test]
fn counters_wrap() {
    let page = RingPage::new();
    let start = u32::MAX - 3;
    page.head.0.store(start, Ordering::Relaxed);
    page.tail.0.store(start, Ordering::Relaxed);
    let mut sender = Sender { page: &page, head: start };
    let mut receiver = Receiver { page: &page, tail: start };
    for n in 0..100 {
        sender.send(&message(n), no_event).unwrap();
        assert_eq!(receiver.receive(), Ok(Some(message(n))));
    }
}

/// Both sleep whenever they may: were an event lost, one would sleep for ever.
#[test]
fn no_event_is_lost_between_two_threads() {
    const COUNT: u64 = 20_000;
    let sleep = |events: &mpsc::Receiver<()>| {
        events.recv_timeout(Duration::from_secs(20)).expect("an event");
    };
    let page: &'static RingPage = Box::leak(Box::default());
    let (event, events) = mpsc::channel();
    let (room, rooms) = mpsc::channel();
    let sends = thread::spawn(move || {
        let mut sender = Sender::new(page);
        for n in 0..COUNT {
            while sender.send(&message(n), || event.send(()).unwrap()).is_err() {
                if sender.may_sleep() {
                    sleep(&rooms);
                    sender.awake();
                }
            }
        }
    });
    let mut receiver = Receiver::new(page);
    let mut next = 0;
    while next < COUNT {
        match receiver.receive().unwrap() {
            Some(got) => {
                assert_eq!(got, message(next));
                next += 1;
            }
            None if receiver.may_sleep() => {
                if receiver.sender_waits() {
                    let _ = room.send(());
                }
                sleep(&events);
                receiver.awake();
            }
            None => {}
        }
    }
    sends.join().unwrap();
}

#[test]
fn without_a_hypervisor_nothing_is_shared() {
    let page = RingPage::new();
    let gpa = PhysAddr::new(&raw const page as u64);
    // SAFETY: the page is made of atomics.
    let offered = unsafe { offer(0, gpa, 1, Access::Read) };
    assert_eq!(offered, Err(CallError::NoHypervisor));
    assert_eq!(revoke(0), Err(CallError::NoHypervisor));
    assert_eq!(map(1, 0, 0), Err(CallError::NoHypervisor));
    assert_eq!(unmap(1, 0), Err(CallError::NoHypervisor));
}
