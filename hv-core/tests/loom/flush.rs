//! Nothing is reached by a translation any more when who asked for its flush knows that it is done.

use hv_core::vm::post::Place;
use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

use super::{CPU, Guarded, Home, all_orders, orders, together};

/// A page of the guest's.
struct Page {
    /// By its page table.
    mapped: AtomicBool,
    /// The checker sees to it that all have used it before it is taken back.
    content: Guarded<()>,
}

impl Page {
    fn new() -> Page {
        Page { mapped: AtomicBool::new(true), content: Guarded::new(()) }
    }

    /// It is taken from a vCPU, if that is flushed by then. Looking again would find nothing new.
    fn take_back(&self, home: &Home) {
        self.mapped.store(false, Relaxed);
        let asked = home.post.ask_flush();
        if home.post.runs_unflushed(asked).is_none() {
            self.content.write(());
        }
    }
}

/// The vCPU is entered, flushes before if it is to, and uses all pages of which its TLB says that they are mapped.
fn enter<const N: usize>(home: &Home, pages: &[Page; N], tlb: &mut [bool; N]) {
    if let Some(asked) = home.post.flush_owed() {
        *tlb = [false; N];
        home.post.flushed(asked);
    }
    for (page, cached) in pages.iter().zip(tlb) {
        *cached = *cached || page.mapped.load(Relaxed);
        if *cached {
            page.content.read();
        }
    }
}

/// Each page is taken back by another vCPU, while one runs, is preempted and runs again.
fn pages_are_taken_back<const N: usize>() {
    let home = Home::new();
    let pages: Arc<[Page; N]> = Arc::new(std::array::from_fn(|_| Page::new()));
    let others: [Box<dyn FnOnce() + Send>; N] = std::array::from_fn(|page| {
        let (home, pages) = (home.clone(), pages.clone());
        Box::new(move || pages[page].take_back(&home)) as _
    });
    together(others, || {
        let mut tlb = [false; N];
        for entries in [2, 1] {
            home.post.set_place(Place::Running(CPU));
            (0..entries).for_each(|_| enter(&home, &pages, &mut tlb));
            home.post.set_place(Place::Queued);
        }
    });
}

#[test]
fn a_page_is_taken_back_when_nobody_reaches_it() {
    all_orders(pages_are_taken_back::<1>);
}

#[test]
fn two_who_ask_are_both_served() {
    orders(Some(2), pages_are_taken_back::<2>);
}
