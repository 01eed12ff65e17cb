//! A CPU that sees a new generation, or is told something after it, sees what was unmapped before.

use hv_core::mem::tlb::{Generation, MustFlush, Seen};
use hv_core::vm::post::{Notice, Place};
use loom::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

use super::{CPU, Home, orders, together};

#[test]
fn a_cpu_flushes_before_it_enters_and_then_finds_nothing_old() {
    orders(Some(2), || {
        let home = Home::new();
        home.post.set_place(Place::Running(CPU));
        let memory =
            Arc::new((Generation::default(), [AtomicBool::new(true), AtomicBool::new(true)]));
        let others = [0, 1].map(|page| {
            let (home, memory) = (home.clone(), memory.clone());
            Box::new(move || {
                memory.1[page].store(false, Relaxed);
                memory.0.publish(MustFlush::in_a_test());
                home.fetch(home.post.leave(Notice::Board));
            }) as _
        });
        together(others, || {
            let mut seen = Seen::NEVER;
            let mut tlb = [false; 2];
            let mut flushes = 0;
            loop {
                home.post.take();
                let generation = memory.0.current();
                if seen.behind(&memory.0) {
                    (tlb, flushes) = ([false; 2], flushes + 1);
                }
                for (mapped, cached) in memory.1.iter().zip(&mut tlb) {
                    *cached = *cached || mapped.load(Relaxed);
                }
                let old = tlb.iter().filter(|&&cached| cached).count() as u64;
                assert!(old <= 2 - generation, "old translations at generation {generation}");
                if old == 0 {
                    break;
                }
                home.line.halt();
            }
            assert!(flushes <= 3, "one for each generation");
        });
    });
}
