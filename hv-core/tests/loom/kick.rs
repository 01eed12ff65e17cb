//! A kick ends a wait, or the next one.

use hv_core::vm::post::{Notice, Place};
use loom::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::Arc;

use super::{CPU, Home, orders, together};

/// A vCPU waits until so many have come. Each says so and kicks it, or only disturbs it.
fn waits_for(all: u32, others: [fn(&Home, &AtomicU32); 2], halt: fn(&Home)) {
    let home = Home::new();
    home.post.set_place(Place::Running(CPU));
    let come = Arc::new(AtomicU32::new(0));
    let others = others.map(|act| {
        let (home, come) = (home.clone(), come.clone());
        Box::new(move || act(&home, &come)) as _
    });
    together(others, || {
        while come.load(Relaxed) != all {
            // An interrupt that was for guest mode is over.
            home.line.take();
            home.post.take();
            if home.post.begin_wait() {
                halt(&home);
            }
            home.post.end_wait();
        }
    });
}

fn comes(home: &Home, come: &AtomicU32) {
    come.fetch_add(1, Relaxed);
    home.fetch(home.post.kick());
}

fn disturbs(home: &Home, _: &AtomicU32) {
    home.fetch(home.post.leave(Notice::Nmi));
}

#[test]
fn kicks_end_a_wait_or_the_next() {
    for halt in [Home::sleep, Home::rest] {
        orders(Some(3), move || waits_for(2, [comes; 2], halt));
    }
}

#[test]
fn a_kick_is_not_lost_beside_a_notice() {
    for halt in [Home::sleep, Home::rest] {
        orders(Some(3), move || waits_for(1, [comes, disturbs], halt));
    }
}
