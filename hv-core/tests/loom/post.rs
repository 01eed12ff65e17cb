//! A notice is not overlooked, wherever the vCPU goes meanwhile.

use hv_core::device::apic::Trigger;
use hv_core::vm::post::{Notice, Notices, Place, Taken};

use super::{CPU, Home, orders, together};

const LEVEL: Notice = Notice::Vector(0x41, Trigger::Level);

/// What a vCPU has taken; each once.
#[derive(Default)]
struct Seen {
    level: u32,
    edge: u32,
    notices: u32,
}

impl Seen {
    fn look(&mut self, home: &Home) {
        let Some(Taken { vectors, levels, notices }) = home.post.take() else { return };
        for (vector, level) in vectors.into_iter().zip(levels) {
            assert_eq!(level & !vector, 0, "a level of no vector");
            self.level += level.count_ones();
            self.edge += (vector & !level).count_ones();
        }
        self.notices += (notices & !Notices::VECTOR_BITS).bits().count_ones();
    }

    fn is(&self, level: u32, edge: u32, notices: u32) -> bool {
        assert!(self.level <= level && self.edge <= edge && self.notices <= notices, "twice");
        (self.level, self.edge, self.notices) == (level, edge, notices)
    }
}

/// One leaves each of these, and the vCPU does `waits` whenever it has found nothing.
fn both_are_seen(notices: [Notice; 2], all: (u32, u32, u32), waits: fn(&Home)) {
    let home = Home::new();
    home.post.set_place(Place::Running(CPU));
    let leave = notices.map(|notice| {
        let home = home.clone();
        Box::new(move || home.fetch(home.post.leave(notice))) as _
    });
    together(leave, || {
        let mut seen = Seen::default();
        loop {
            seen.look(&home);
            if seen.is(all.0, all.1, all.2) {
                break;
            }
            waits(&home);
        }
    });
}

#[test]
fn a_vcpu_that_goes_to_sleep_sees_them_or_is_woken() {
    orders(Some(3), || both_are_seen([Notice::Nmi, LEVEL], (1, 0, 1), Home::sleep));
}

#[test]
fn a_vcpu_in_guest_mode_is_interrupted() {
    orders(Some(3), || both_are_seen([Notice::Nmi, LEVEL], (1, 0, 1), |home| home.line.halt()));
}

#[test]
fn vectors_of_a_level_stay_so() {
    let edge = Notice::Vector(0x42, Trigger::Edge);
    orders(Some(3), move || both_are_seen([edge, LEVEL], (1, 1, 0), |home| home.line.halt()));
}
