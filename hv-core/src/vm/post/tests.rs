use std::boxed::Box;
use std::vec::Vec;

use super::*;
use crate::device::apic::{DeliveryMode, Destination};

fn post(id: u32) -> Post {
    Post::new(id, Box::leak(Box::new(ApicPage::new())))
}

#[test]
fn what_is_left_is_taken_once() {
    let post = post(0);
    assert_eq!(post.take(), None);
    for (notice, word, bit) in [
        (Notice::Vector(0x30, Trigger::Edge), 0, 0x30),
        (Notice::Vector(0xff, Trigger::Level), 3, 63),
        (Notice::Vector(0x40, Trigger::Edge), 1, 0),
        (Notice::Vector(0xff, Trigger::Edge), 3, 63),
    ] {
        post.leave(notice);
        let Taken { vectors, levels, notices } = post.take().unwrap();
        let mut expected = [0; 4];
        expected[word] = 1u64 << bit;
        assert_eq!((vectors, notices), (expected, Notices::empty()));
        let level = notice == Notice::Vector(0xff, Trigger::Level);
        assert_eq!(levels, if level { expected } else { [0; 4] });
        assert_eq!(post.take(), None);
    }
    for notice in [Notice::Nmi, Notice::Board, Notice::Startup(0x9f)] {
        post.leave(notice);
    }
    let taken = post.take().unwrap();
    assert!(taken.notices.contains(Notices::NMI | Notices::BOARD | Notices::STARTUP));
    assert!(!taken.notices.contains(Notices::INIT));
    assert_eq!(taken.startup(), Some(0x9f));
    post.leave(Notice::Stop);
    assert_eq!(post.take().map(|taken| taken.startup()), Some(None));
}

#[test]
fn a_vcpu_is_fetched_from_where_it_is_and_once() {
    let post = post(0);
    assert_eq!(post.leave(Notice::Nmi), Place::Queued);
    post.take();
    for place in
        [Place::Running(31), Place::Resting(7), Place::Asleep { cpu: 2, slot: 1023 }, Place::Queued]
    {
        post.set_place(place);
        assert_eq!(post.leave(Notice::Nmi), place);
        assert_eq!(post.leave(Notice::Vector(0x50, Trigger::Edge)), Place::Queued, "it is coming");
        assert!(post.waits());
        post.take();
    }
}

#[test]
fn addressing_follows_the_mode_that_was_told() {
    let page: &'static ApicPage = Box::leak(Box::new(ApicPage::new()));
    let post = Post::new(3, page);
    let to = |destination| Ipi { vector: 0x40, mode: DeliveryMode::Fixed, destination };
    page.set(crate::device::apic::offset::LDR, 1 << 3);
    page.set(crate::device::apic::offset::DFR, u32::MAX);
    assert!(post.is_addressed(&to(Destination::Physical(3)), false));
    assert!(!post.is_addressed(&to(Destination::Physical(2)), false));
    assert!(!post.is_addressed(&to(Destination::Others), true));
    let x2apic = to(Destination::Logical(1 << 3));
    assert!(!post.is_addressed(&x2apic, false));
    post.set_mode(Mode::X2Apic);
    assert!(post.is_addressed(&x2apic, false));
    post.set_mode(Mode::Disabled);
    assert!(!post.is_addressed(&to(Destination::All), false));
}

#[test]
fn mail_names_every_sleeper_once() {
    let mail = Mail::new();
    assert!(!mail.waits());
    for slot in [0, 63, 64, 1023, 64] {
        mail.put(slot);
    }
    assert!(mail.waits());
    let mut slots = Vec::new();
    assert!(!mail.take(|slot| slots.push(slot)), "nothing was announced");
    assert_eq!(slots, [0, 63, 64, 1023]);
    assert!(!mail.waits());
    mail.announce();
    assert!(mail.waits() && mail.take(|_| panic!("nobody was named")));
    mail.put(1024);
    assert!(!mail.waits(), "there is no such number");
}

#[test]
fn the_first_to_stop_a_vm_says_what_becomes_of_it() {
    let stop = Stop::default();
    assert_eq!(stop.then(), None);
    assert!(stop.begin(Then::Reset));
    assert!(!stop.begin(Then::End));
    assert_eq!(stop.then(), Some(Then::Reset));
    stop.over();
    assert!(stop.begin(Then::End));
    assert_eq!(stop.then(), Some(Then::End));
}
