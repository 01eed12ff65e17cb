use pv_abi::call::smp;

use super::*;
use crate::device::apic::offset;
use crate::vm::post::{Place, Startup};

/// vCPUs of one VM, of which the first runs on CPU 0, where the calls are made, and the others wait to be
/// started; on CPU 1.
fn several(count: u32) -> (Vec<Vcpu>, Fake) {
    let mut vcpus = Setup::default().vcpus(count);
    for v in &mut vcpus {
        let _ = v.apic.mmio_write(offset::SVR, 0x1ff, 0);
        v.mails[1].set_apic_id(1);
    }
    vcpus[0].post.set_place(Place::Running(0));
    (vcpus, Fake::new())
}

/// The same, and all have started.
fn started(count: u32) -> (Vec<Vcpu>, Fake) {
    let (mut vcpus, h) = several(count);
    vcpus.iter_mut().for_each(|v| v.set_waits_for_startup(false));
    (vcpus, h)
}

/// A call that is refused, and of which no other vCPU hears.
#[track_caller]
fn refused_quietly(vcpus: &mut [Vcpu], h: &mut Fake, number: Number, arguments: &[u64]) -> Status {
    let status = refused(&mut vcpus[0], h, number, arguments);
    for v in vcpus {
        assert_eq!((v.post.take(), v.post.flush_owed()), (None, None), "a vCPU was told");
        assert!(v.post.begin_wait(), "a vCPU was kicked");
        v.post.forget();
    }
    assert!(h.interrupted.is_empty() && h.flushes.is_empty());
    status
}

const TABLES: u64 = 0x7000;
const HIGH: u64 = 0xffff_8000_0000_0000;

#[test]
fn a_vcpu_that_waits_for_a_startup_is_started_once() {
    let (mut v, mut h) = several(3);
    let asleep = Place::Asleep { cpu: 1, slot: 2 };
    v[2].post.set_place(asleep);
    assert_eq!(value(&mut v[0], &mut h, smp::START, &[2, HIGH, TABLES, 99]), 0);
    assert_eq!(h.interrupted, [1]);
    assert_eq!(v[2].take_post(), Ok(()));
    let called = Startup::Called { entry: HIGH, tables: TABLES, argument: 99 };
    assert_eq!((v[1].startup, v[2].startup), (None, Some(called)));
    h.interrupted.clear();
    // It has been asked, and it runs.
    let again = [2, HIGH, TABLES, 98];
    assert_eq!(refused_quietly(&mut v, &mut h, smp::START, &again), Status::AlreadyDone);
    v[2].startup = None;
    v[2].set_waits_for_startup(false);
    assert_eq!(refused_quietly(&mut v, &mut h, smp::START, &again), Status::AlreadyDone);
    // Sent back, it waits again.
    v[2].wait_for_startup();
    assert_eq!(value(&mut v[0], &mut h, smp::START, &again), 0);
    assert_eq!(v[2].take_post(), Ok(()));
    assert_eq!(v[2].startup, Some(Startup::Called { entry: HIGH, tables: TABLES, argument: 98 }));
}

#[test]
fn a_start_behind_an_init_is_not_lost() {
    let (mut v, mut h) = several(2);
    let tell = crate::vm::post::Notice::Init;
    let post = v[1].post;
    v[0].tell(post, tell, &mut h);
    assert_eq!(value(&mut v[0], &mut h, smp::START, &[1, 0x1000, TABLES, 7]), 0);
    assert_eq!(v[1].take_post(), Err(Leave::Init));
    assert!(matches!(v[1].startup, Some(Startup::Called { argument: 7, .. })));
}

#[test]
fn starts_that_cannot_be_are_refused() {
    let (mut v, mut h) = several(2);
    for (arguments, status) in [
        ([9, 1 << 63, TABLES + 8], Status::Misaligned),
        ([9, 1 << 63, RAM], Status::BadAddress),
        ([9, 1 << 63, INFO_GPA], Status::BadAddress),
        ([9, 1 << 63, 1 << 63], Status::BadAddress),
        ([1, 1 << 47, TABLES], Status::InvalidArgument),
        ([2, 0, TABLES], Status::InvalidArgument),
        ([u64::MAX, 0, TABLES], Status::InvalidArgument),
        ([1 << 32 | 1, 0, TABLES], Status::InvalidArgument),
        ([0, 0, TABLES], Status::AlreadyDone),
    ] {
        assert_eq!(
            refused_quietly(&mut v, &mut h, smp::START, &arguments),
            status,
            "{arguments:x?}"
        );
    }
    assert_eq!(value(&mut v[0], &mut h, smp::START, &[1, 0, TABLES]), 0, "it still waits");
}

#[test]
fn an_interrupt_reaches_the_set_and_nobody_else() {
    let (mut v, mut h) = started(5);
    v[3].post.set_place(Place::Running(1));
    // From number 1 on: 1, 3 and 4.
    assert_eq!(value(&mut v[0], &mut h, smp::SEND, &[0x50, 1, 0b1101]), 0);
    assert_eq!(h.interrupted, [1], "one of them runs");
    let got = v.iter_mut().map(|v| {
        v.take_post().unwrap();
        v.apic.deliverable()
    });
    assert_eq!(got.collect::<Vec<_>>(), [None, Some(0x50), None, Some(0x50), Some(0x50)]);
}

#[test]
fn the_sender_may_be_in_the_set() {
    let (mut v, mut h) = started(2);
    v[0].due = u64::MAX;
    assert_eq!(value(&mut v[0], &mut h, smp::SEND, &[0x61, 0, 0b11]), 0);
    assert_eq!(v[0].due, crate::vm::vcpu::ATTEND, "it looks before the next entry");
    for v in &mut v {
        v.take_post().unwrap();
        assert_eq!(v.apic.deliverable(), Some(0x61));
    }
}

#[test]
fn sets_with_vcpus_that_are_not_there_are_refused_as_a_whole() {
    let (mut v, mut h) = started(3);
    for (vector, first, mask) in [
        (15, 0, 1),
        (15, 0, 0),
        (256, 0, 1),
        (1 << 32 | 0x50, 0, 1),
        (0x50, 0, 0b1111),
        (0x50, 1, 0b101),
        (0x50, 3, 1),
        (0x50, u64::MAX, 1),
        (0x50, u64::MAX, u64::MAX),
        (0x50, 1 << 63, 1 << 63),
    ] {
        let arguments = [vector, first, mask];
        let status = refused_quietly(&mut v, &mut h, smp::SEND, &arguments);
        assert_eq!(status, Status::InvalidArgument, "{arguments:x?}");
        if vector == 0x50 {
            let status = refused_quietly(&mut v, &mut h, smp::FLUSH, &arguments[1..]);
            assert_eq!(status, Status::InvalidArgument, "{arguments:x?}");
        }
    }
    assert_eq!(value(&mut v[0], &mut h, smp::SEND, &[0x50, 99, 0]), 0, "nobody is named");
    assert_eq!(value(&mut v[0], &mut h, smp::FLUSH, &[99, 0]), 0);
}

#[test]
fn those_that_do_not_run_flush_before_they_do() {
    let (mut v, mut h) = started(4);
    v[1].post.set_place(Place::Asleep { cpu: 1, slot: 1 });
    v[2].post.set_place(Place::Asleep { cpu: 1, slot: 2 });
    assert_eq!(value(&mut v[0], &mut h, smp::FLUSH, &[0, 0b1111]), 0);
    assert_eq!(h.flushes, [None], "its own, at once");
    assert!(h.interrupted.is_empty() && !v[1].post.waits(), "nobody is woken");
    for v in &mut v[1..] {
        let mut h = Fake::new();
        v.post.set_place(Place::Running(1));
        h.then(|_, h| {
            assert_eq!(h.flushes, [None], "flushed before the first instruction");
            Exit::TimeSlice
        });
        h.then(|_, h| {
            assert_eq!(h.flushes, [None], "once");
            Exit::Pause
        });
        go(v, &mut h);
    }
}

#[test]
fn one_that_runs_is_interrupted_and_waited_for() {
    let (mut v, mut h) = started(3);
    h.tick = 1_000;
    v[1].post.set_place(Place::Running(1));
    v[2].post.set_place(Place::Running(1));
    let begun = h.time.get();
    let (outcome, status, missing) = make(&mut v[0], &mut h, smp::FLUSH, &[1, 0b11]);
    assert_eq!((outcome, status, missing), (Outcome::Advance, Status::Again, 0b11));
    let waited = h.time.get() - begun;
    assert!((200_000..210_000).contains(&waited), "{waited}");
    assert_eq!((h.interrupted.as_slice(), h.flushes.len()), (&[1, 1][..], 0));
    // One of them looks; the other has left, and will.
    v[1].settle_flush(&mut Fake::new());
    assert_eq!(returns(&mut v[0], &mut h, smp::FLUSH, &[2, 0b1]).0, Status::Again);
    v[2].post.set_place(Place::Queued);
    assert_eq!(value(&mut v[0], &mut h, smp::FLUSH, &[2, 0b1]), 0);
    // What was flushed before was for those who asked then.
    assert_eq!(returns(&mut v[0], &mut h, smp::FLUSH, &[0, 0b10]).0, Status::Again);
}

#[test]
fn two_that_flush_each_other_go_on() {
    let (mut v, mut h) = started(2);
    h.tick = 1_000;
    v[1].post.set_place(Place::Running(1));
    v[0].post.ask_flush();
    assert_eq!(returns(&mut v[0], &mut h, smp::FLUSH, &[1, 1]).0, Status::Again);
    assert_eq!(v[0].post.flush_owed(), None, "it did its own while it waited");
    assert_eq!(h.flushes, [None]);
}

/// Threads that flush each other, and a model of a TLB for each: one that was flushed for a change does not
/// use what was there before.
#[test]
fn after_a_flush_nobody_runs_with_what_was_there_before() {
    use core::sync::atomic::{AtomicU64, Ordering};
    use std::sync::Arc;

    let (mut v, _) = started(2);
    let changes = Arc::new(AtomicU64::new(0));
    let flushed = Arc::new(AtomicU64::new(0));
    let mut target = v.remove(1);
    let threads = [changes.clone(), flushed.clone()];
    let done = Arc::new(core::sync::atomic::AtomicBool::new(false));
    let end = done.clone();
    let runs = std::thread::spawn(move || {
        let [changes, flushed] = threads;
        let mut tlb = 0;
        while !end.load(Ordering::Relaxed) {
            let mut h = Fake::new();
            target.post.set_place(Place::Running(1));
            for _ in 0..3 {
                target.settle_flush(&mut h);
                if !h.flushes.is_empty() {
                    h.flushes.clear();
                    tlb = changes.load(Ordering::SeqCst);
                }
                // In guest mode, where it uses what it has, until an interrupt comes.
                for _ in 0..20 {
                    let needed = flushed.load(Ordering::SeqCst);
                    assert!(tlb >= needed, "{tlb} was used after the flush for {needed}");
                    core::hint::spin_loop();
                }
            }
            target.post.set_place(Place::Queued);
        }
    });
    let mut h = Fake::new();
    h.tick = 1;
    for change in 1..20_000 {
        changes.store(change, Ordering::SeqCst);
        let mut mask = 0b10;
        loop {
            let (status, missing) = returns(&mut v[0], &mut h, smp::FLUSH, &[0, mask]);
            if status == Status::Success {
                break;
            }
            mask = missing;
        }
        flushed.store(change, Ordering::SeqCst);
    }
    done.store(true, Ordering::Relaxed);
    runs.join().unwrap();
}

#[test]
fn a_wait_ends_by_a_kick_and_is_not_begun_after_one() {
    let (mut v, mut h) = started(2);
    let wait = |v: &mut Vcpu| make(v, &mut Fake::new(), smp::WAIT, &[]).0;
    let halted = Outcome::AdvanceAndLeave(Leave::Halted);
    let wakes = |v: &mut Vcpu| v.wakes(&mut Fake::new(), STARTED);
    // Before: one is remembered, however many came, and nobody is interrupted for it.
    v[1].post.set_place(Place::Running(1));
    value(&mut v[0], &mut h, smp::KICK, &[1]);
    value(&mut v[0], &mut h, smp::KICK, &[1]);
    assert!(h.interrupted.is_empty() && !v[1].post.waits());
    assert_eq!(wait(&mut v[1]), Outcome::Advance);
    assert_eq!(wait(&mut v[1]), halted);
    // While it waits.
    assert!(!wakes(&mut v[1]));
    v[1].post.set_place(Place::Asleep { cpu: 1, slot: 3 });
    value(&mut v[0], &mut h, smp::KICK, &[1]);
    assert_eq!(h.interrupted, [1]);
    let mut woken = Vec::new();
    v[0].mails[1].take(|slot| woken.push(slot));
    assert_eq!(woken, [3]);
    assert!(wakes(&mut v[1]));
    v[1].post.set_place(Place::Running(1));
    let mut runs = Fake::new();
    runs.then(|_, _| Exit::Pause);
    go(&mut v[1], &mut runs);
    assert_eq!(wait(&mut v[1]), halted, "that kick was for the wait that it ended");
    // On its way to sleep it is in nobody's hands: it looks itself.
    for place in [Place::Running(1), Place::Queued] {
        v[1].post.set_place(place);
        value(&mut v[0], &mut h, smp::KICK, &[1]);
        assert_eq!(h.interrupted.len(), 1, "{place:?}");
        assert!(v[1].post.waits() && wakes(&mut v[1]));
        v[1].post.end_wait();
        assert_eq!(wait(&mut v[1]), halted);
    }
}

#[test]
fn a_kick_ends_no_halt_but_a_wait() {
    let (mut v, mut h) = started(2);
    v[1].post.set_place(Place::Asleep { cpu: 1, slot: 3 });
    value(&mut v[0], &mut h, smp::KICK, &[1]);
    assert!(!v[1].wakes(&mut Fake::new(), STARTED));
    assert!(h.interrupted.is_empty());
    // Its own counts as well.
    value(&mut v[0], &mut h, smp::KICK, &[0]);
    assert_eq!(make(&mut v[0], &mut h, smp::WAIT, &[]).0, Outcome::Advance);
    // INIT forgets it.
    v[1].wait_for_startup();
    assert!(v[1].post.begin_wait());
}

#[test]
fn a_wait_ends_by_an_interrupt_too() {
    let (mut v, mut h) = started(1);
    assert_eq!(make(&mut v[0], &mut h, smp::WAIT, &[]).0, Outcome::AdvanceAndLeave(Leave::Halted));
    assert!(!v[0].wakes(&mut h, STARTED));
    let _ = v[0].apic.post(0x50, Trigger::Edge);
    assert!(v[0].wakes(&mut h, STARTED), "with RFLAGS.IF = 0");
}

#[test]
fn nobody_is_kicked_or_yielded_to_who_is_not_there() {
    let (mut v, mut h) = started(2);
    for number in [2, 1 << 32, u64::MAX] {
        for call in [smp::KICK, smp::YIELD_TO] {
            let status = refused_quietly(&mut v, &mut h, call, &[number]);
            assert_eq!(status, Status::InvalidArgument);
        }
    }
}

#[test]
fn a_vcpu_gives_way_to_one_that_does_not_run() {
    let (mut v, mut h) = started(2);
    v[1].post.set_place(Place::Running(1));
    assert_eq!(value(&mut v[0], &mut h, smp::YIELD_TO, &[1]), 0, "it runs");
    assert_eq!(v[1].post.waits_for(), None);
    for place in [Place::Queued, Place::Asleep { cpu: 1, slot: 3 }] {
        v[1].post.set_place(place);
        let outcome = make(&mut v[0], &mut h, smp::YIELD_TO, &[1]).0;
        assert_eq!(outcome, Outcome::AdvanceAndLeave(Leave::YieldedTo(1)));
        assert_eq!(v[1].post.waits_for(), (place == Place::Queued).then_some(1));
    }
    assert_eq!(value(&mut v[0], &mut h, smp::YIELD_TO, &[0]), 0, "it runs itself");
}
