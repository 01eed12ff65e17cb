//! A VM is stopped by one of its vCPUs, and all of them hear of it.

use hv_core::vm::post::{Notice, Place, Stop, Then};
use loom::sync::Mutex;
use std::sync::Arc;

use super::{CPU, Guarded, Home, orders, together};

struct Vm {
    stop: Stop,
    home: Arc<Home>,
    /// Why it stops: written by the one that began, read by the last one.
    report: Guarded<Option<Then>>,
    stopped: Mutex<u32>,
}

impl Vm {
    /// A vCPU stops, for a reason of its own or because it was told.
    fn stops(&self, then: Option<Then>) {
        if let Some(then) = then {
            if self.stop.begin(then) {
                self.report.write(Some(then));
            }
            self.home.fetch(self.home.post.leave(Notice::Stop));
        }
        let mut stopped = self.stopped.lock().unwrap();
        *stopped += 1;
        if *stopped == 3 {
            let report = self.report.read();
            assert!(report.is_some());
            assert_eq!(self.stop.then(), report);
            self.stop.over();
        }
    }
}

#[test]
fn one_says_what_becomes_of_the_vm() {
    orders(Some(3), || {
        let home = Home::new();
        home.post.set_place(Place::Running(CPU));
        let (report, stopped) = (Guarded::new(None), Mutex::new(0));
        let vm = Arc::new(Vm { stop: Stop::default(), home, report, stopped });
        let others = [Then::End, Then::Reset].map(|then| {
            let vm = vm.clone();
            Box::new(move || vm.stops(Some(then))) as _
        });
        together(others, || {
            while vm.home.post.take().is_none() {
                vm.home.line.halt();
            }
            assert!(vm.stop.then().is_some(), "told before it is so");
            vm.stops(None);
        });
        assert!(vm.stop.then().is_none() && vm.stop.begin(Then::End));
    });
}
