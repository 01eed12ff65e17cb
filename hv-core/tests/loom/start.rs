//! A vCPU that waits to be started is started once, by one of those who ask.

use std::sync::Arc;

use hv_core::vm::post::{Notice, Place, Startup};
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{CPU, Home, orders, together};

#[test]
fn one_of_two_starts_it() {
    orders(Some(3), || {
        let home = Home::new();
        home.post.set_place(Place::Running(CPU));
        let first = Arc::new(AtomicU64::new(0));
        let others = [1, 2].map(|entry| {
            let (home, first) = (home.clone(), first.clone());
            Box::new(move || {
                if home.post.ask_start(Startup::Called { entry, tables: 0, argument: 0 }) {
                    assert_eq!(first.swap(entry, Relaxed), 0, "both did");
                    home.fetch(home.post.leave(Notice::Start));
                }
            }) as _
        });
        together(others, || {
            let startup = || home.post.take().and_then(|taken| home.post.startup(&taken));
            let startup = loop {
                match startup() {
                    Some(startup) => break startup,
                    None => home.sleep(),
                }
            };
            let Startup::Called { entry, .. } = startup else { panic!("{startup:?}") };
            assert_eq!(first.load(Relaxed), entry);
        });
    });
}
