//! What is put into a mail is found by who halts only if nothing is there.

use hv_core::vm::post::Mail;
use std::sync::Arc;

use super::{Line, orders, together};

#[test]
fn everything_is_found_once() {
    orders(Some(3), || {
        let cpu = Arc::new((Mail::new(), Line::default()));
        let tell = |what: fn(&Mail)| {
            let cpu = cpu.clone();
            Box::new(move || {
                what(&cpu.0);
                cpu.1.interrupt();
            }) as _
        };
        let others = [
            tell(|mail| mail.put(1)),
            tell(|mail| {
                mail.put(2);
                mail.put(65);
                mail.announce();
            }),
        ];
        together(others, || {
            let (mail, line) = &*cpu;
            let mut found = Vec::new();
            let mut news = 0;
            while (found.len(), news) != (3, 1) {
                if mail.waits() {
                    news += u32::from(mail.take(|slot| found.push(slot)));
                } else {
                    line.halt();
                }
            }
            found.sort_unstable();
            assert_eq!(found, [1, 2, 65]);
        });
        assert!(!cpu.0.take(|slot| panic!("{slot} is found twice")));
    });
}
