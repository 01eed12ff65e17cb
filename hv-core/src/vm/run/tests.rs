use super::*;
use crate::device::apic::{Trigger, Vectors};
use crate::host::report::Cause;
use crate::vm::exit::PortAccess;
use crate::vm::hardware::Kept;
use crate::vm::post::{Notice, Place};
use crate::vm::testing::{Fake, RFLAGS_IF, STARTED, Setup, vcpu, with_timer};
use crate::vm::{Gpr, Hardware, MachineType};
use std::boxed::Box;

/// Runs the script, at whose end the CPU refuses the entry.
#[track_caller]
fn go(v: &mut Vcpu, h: &mut Fake) {
    let leave = run(v, h);
    let cause = v.ending.take().unwrap().cause;
    assert_eq!((leave, cause), (Leave::Ended, Cause::EntryFailure));
    v.open = false;
}

fn exits(v: &Vcpu, reason: Reason) -> (u64, u64) {
    let counter = v.info.exits[reason as usize];
    (counter.count, counter.ticks)
}

fn interrupts_on(h: &mut Fake) {
    h.set(Kept::Rflags, 2 | RFLAGS_IF);
}

#[test]
fn exits_are_counted_with_the_ticks_until_the_next_entry() {
    for quick in [false, true] {
        let (mut v, mut h) = vcpu();
        v.registers.set(Gpr::Rax, 2);
        let exit = |_: &mut Vcpu, h: &mut Fake| {
            h.pass(1_000);
            // The handling of it takes this long.
            h.tick = 40;
            Exit::Rdmsr
        };
        if quick {
            h.then_quick(exit)
        } else {
            h.then(exit)
        }
        h.then(|v, h| {
            assert_eq!(exits(v, Reason::MsrRead).0, 1, "the guest finds it there");
            h.tick = 0;
            Exit::TripleFault
        });
        v.registers.set(Gpr::Rcx, 0x10);
        let leave = run(&mut v, &mut h);
        assert_eq!((leave, v.ending.unwrap().cause), (Leave::Ended, Cause::TripleFault));
        let (count, ticks) = exits(&v, Reason::MsrRead);
        assert_eq!(count, 1);
        assert!((40..1_000).contains(&ticks), "{ticks}: the guest's own time is not in it");
        assert_eq!(v.exits(), 1, "the last one is not over");
        assert!(v.open);
        assert_eq!((v.info.vmreads, v.info.vmwrites), (0, 0));
    }
}

#[test]
fn a_halt_is_counted_when_the_vcpu_runs_again_with_the_time_between() {
    let (mut v, mut h) = vcpu();
    interrupts_on(&mut h);
    h.then(|_, _| Exit::Hlt);
    assert_eq!(run(&mut v, &mut h), Leave::Halted);
    assert_eq!((exits(&v, Reason::Hlt), h.get(Kept::Rip)), ((0, 0), 0x1003));
    h.pass(70_000);
    h.then(|_, _| Exit::Pause);
    go(&mut v, &mut h);
    assert_eq!(exits(&v, Reason::Hlt), (1, 70_000));
    assert_eq!(exits(&v, Reason::Pause), (1, 0), "each exit once");
}

#[test]
fn what_comes_with_the_interrupt_of_the_timer_is_seen_before_the_entry() {
    use crate::vm::post::Notice;
    for quick in [false, true] {
        let (mut v, mut h) = vcpu();
        let (post, stop) = (v.post, &v.vm.stop);
        let comes = move |_: &mut Vcpu, h: &mut Fake| {
            h.comes = Some(Box::new(move || _ = post.leave(Notice::Nmi)));
            Exit::Cpuid
        };
        if quick {
            h.then_quick(comes)
        } else {
            h.then(comes)
        }
        h.then(|v, h| {
            assert!(v.post.take().is_none() && h.delivered == [Event::nmi()]);
            Exit::Pause
        });
        go(&mut v, &mut h);
        assert_eq!([exits(&v, Reason::Cpuid).0, exits(&v, Reason::Pause).0], [1, 1], "{quick}");
        // What ends the run ends it before the entry, too.
        h.then(move |_, h| {
            h.comes = Some(Box::new(move || {
                stop.begin(crate::vm::post::Then::End);
                post.leave(Notice::Stop);
            }));
            Exit::Cpuid
        });
        h.then(|_, _| panic!("entered"));
        assert_eq!(run(&mut v, &mut h), Leave::Stopped);
        assert_eq!(exits(&v, Reason::Cpuid).0, 2);
    }
}

#[test]
fn the_guest_can_see_when_it_was_entered_last() {
    let (mut v, mut h) = vcpu();
    h.then(|_, _| Exit::Pause);
    go(&mut v, &mut h);
    let first = v.info.entered;
    assert_eq!(first, v.now(&h), "in its own time");
    h.pass(5_000);
    h.then_quick(|_, _| Exit::Cpuid);
    go(&mut v, &mut h);
    assert_eq!(v.info.entered, first + 5_000);
}

#[test]
fn reads_and_writes_of_the_control_block_are_counted() {
    let (mut v, mut h) = vcpu();
    h.counts = (100, 200);
    h.then(|_, _| Exit::Cr(crate::vm::exit::CrAccess::Clts));
    h.then(|_, _| Exit::Pause);
    go(&mut v, &mut h);
    assert_eq!((v.info.vmreads, v.info.vmwrites), (101, 201));
}

#[test]
fn the_instruction_ends_as_its_outcome_says() {
    for quick in [false, true] {
        let (mut v, mut h) = vcpu();
        v.registers.set(Gpr::Rcx, 0x10);
        let then = |h: &mut Fake, exit: Exit| {
            if quick {
                h.then_quick(move |_, _| exit);
            } else {
                h.then(move |_, _| exit);
            }
        };
        then(&mut h, Exit::Rdmsr);
        go(&mut v, &mut h);
        assert_eq!(h.get(Kept::Rip), 0x1003);
        v.registers.set(Gpr::Rcx, 0x3a);
        then(&mut h, Exit::Rdmsr);
        go(&mut v, &mut h);
        assert_eq!(h.get(Kept::Rip), 0x1003, "an instruction that faults is not over");
        assert_eq!(h.pending.take(), Some(Event::exception(13, 0)));
        let port = PortAccess { port: 0x60, size: 1, input: true, string: true, repeated: false };
        then(&mut h, Exit::Port(port));
        let leave = run(&mut v, &mut h);
        assert_eq!((leave, v.ending.unwrap().cause), (Leave::Ended, Cause::Unsupported));
        assert_eq!(h.get(Kept::Rip), 0x1003);
    }
}

#[test]
fn a_single_step_over_an_instruction_that_exits_traps_behind_it() {
    for quick in [false, true] {
        let (mut v, mut h) = vcpu();
        v.due = u64::MAX;
        h.set(Kept::Rflags, 2 | 1 << 8);
        v.registers.set(Gpr::Rcx, 0x10);
        if quick {
            h.then_quick(|_, _| Exit::Rdmsr)
        } else {
            h.then(|_, _| Exit::Rdmsr)
        }
        go(&mut v, &mut h);
        assert_eq!((h.steps, h.get(Kept::Rip)), (1, 0x1003), "once");
        assert_eq!(exits(&v, Reason::MsrRead).0, 1);
    }
}

#[test]
fn an_instruction_that_exits_ends_the_shadow_before_it() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    let _ = v.apic.post(0x50, Trigger::Edge);
    interrupts_on(&mut h);
    h.shadow = true;
    v.registers.set(Gpr::Rcx, 0x10);
    h.then_quick(|_, h| {
        assert_eq!((h.window, h.pending), ((true, false), None), "it waits for the shadow's end");
        Exit::Rdmsr
    });
    h.then(|_, _| Exit::InterruptWindow);
    h.then(|_, _| Exit::Pause);
    go(&mut v, &mut h);
    assert_eq!(h.delivered, [Event::interrupt(0x50)]);
    assert_eq!(h.window, (false, false));
}

#[test]
fn interrupts_wait_for_their_window() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    let _ = v.apic.post(0x50, Trigger::Edge);
    h.then(|v, h| {
        assert_eq!(h.window, (true, false));
        assert!(v.apic.page().has(Vectors::Irr, 0x50));
        interrupts_on(h);
        Exit::InterruptWindow
    });
    h.then(|v, h| {
        assert_eq!(h.window, (false, false));
        assert!(v.apic.page().has(Vectors::Isr, 0x50));
        Exit::Pause
    });
    go(&mut v, &mut h);
    assert_eq!(h.delivered, [Event::interrupt(0x50)]);
    assert_eq!(exits(&v, Reason::InterruptWindow).0, 1);
}

#[test]
fn an_interrupt_below_the_priority_needs_no_window() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    let _ = v.apic.write_cr8(5);
    let _ = v.apic.post(0x5f, Trigger::Edge);
    interrupts_on(&mut h);
    h.then(|_, h| {
        assert_eq!(h.window, (false, false));
        Exit::Pause
    });
    go(&mut v, &mut h);
    assert_eq!(h.delivered, []);
}

#[test]
fn an_event_that_is_injected_already_goes_first() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    interrupts_on(&mut h);
    let _ = v.apic.post(0x50, Trigger::Edge);
    v.nmi = true;
    h.pending = Some(Event::exception(14, 2));
    h.then(|_, h| {
        assert_eq!(h.window, (true, true));
        Exit::NmiWindow
    });
    h.then(|_, h| {
        h.nmi_blocked = true;
        assert_eq!(h.window, (true, false));
        Exit::InterruptWindow
    });
    h.then(|_, _| Exit::Pause);
    go(&mut v, &mut h);
    let order = [Event::exception(14, 2), Event::nmi(), Event::interrupt(0x50)];
    assert_eq!(h.delivered, order);
}

#[test]
fn a_blocked_nmi_asks_for_its_own_window() {
    let (mut v, mut h) = vcpu();
    v.nmi = true;
    h.nmi_blocked = true;
    interrupts_on(&mut h);
    h.then(|_, h| {
        assert_eq!(h.window, (false, true));
        Exit::Pause
    });
    go(&mut v, &mut h);
    assert!(v.nmi);
}

#[test]
fn an_interrupt_whose_delivery_faulted_comes_after_the_fault_and_once() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    interrupts_on(&mut h);
    let _ = v.apic.post(0x50, Trigger::Edge);
    let fault = Event::exception(14, 2);
    h.then(move |_, h| {
        // Delivery touched a page that is not there; the backend injects what was interrupted.
        h.pending = Some(Event::interrupt(0x50));
        Exit::Exception { event: fault, detail: 0x5000 }
    });
    h.then(|_, h| {
        assert_eq!(h.window, (true, false));
        // The handler of the fault runs with interrupts off, and turns them on again.
        Exit::InterruptWindow
    });
    h.then(|_, _| Exit::Pause);
    h.then(|_, _| Exit::Pause);
    v.attend();
    go(&mut v, &mut h);
    let order = [Event::interrupt(0x50), fault, Event::interrupt(0x50)];
    assert_eq!(h.delivered, order);
    assert!(v.apic.page().has(Vectors::Isr, 0x50));
    assert!(!v.apic.page().has(Vectors::Irr, 0x50));
    assert_eq!((v.delayed, h.pending), (None, None));
}

#[test]
fn where_the_cpu_delivers_it_is_told_what_waits() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    h.delivers = true;
    let _ = v.apic.post(0x50, Trigger::Edge);
    interrupts_on(&mut h);
    h.then(|_, _| Exit::Pause);
    go(&mut v, &mut h);
    assert_eq!((h.status, h.pending, h.window), (Some((0x50, 0)), None, (false, false)));
    assert!(v.apic.page().has(Vectors::Irr, 0x50), "the CPU takes it");
    assert!(v.wakes(&mut h, STARTED));
}

#[test]
fn nothing_is_looked_at_before_it_is_due() {
    let (mut v, mut h) = vcpu();
    with_timer(&mut v);
    interrupts_on(&mut h);
    let _ = v.apic.write_deadline(10_000, 0);
    v.registers.set(Gpr::Rcx, 0x10);
    for at in [4_000, 9_000, 10_001] {
        h.then_quick(move |v, h| {
            assert_eq!(v.due, STARTED + 10_000);
            h.time.set(STARTED + at);
            Exit::Rdmsr
        });
    }
    h.then(|_, _| Exit::Pause);
    go(&mut v, &mut h);
    assert_eq!(h.slices[..3], [10_000, 6_000, 1_000], "the rest of the time until then");
    assert_eq!(h.delivered, [Event::interrupt(0x40)]);
    assert_eq!(exits(&v, Reason::MsrRead).0, 3);
}

#[test]
fn a_guest_is_looked_at_within_half_a_second() {
    let (mut v, mut h) = vcpu();
    h.then(|_, _| Exit::Pause);
    go(&mut v, &mut h);
    assert_eq!(h.slices[0], 500_000_000);
}

#[test]
fn what_waits_for_the_host_is_sent_in_time() {
    let (mut v, mut h) = vcpu();
    v.registers.set(Gpr::Rax, b'x'.into());
    let port = PortAccess { port: 0x3f8, size: 1, input: false, string: false, repeated: false };
    h.then_quick(move |_, _| Exit::Port(port));
    h.then_quick(move |v, h| {
        assert!(h.sent.is_empty());
        let wait = 20_000_000;
        assert_eq!(v.due, STARTED + wait);
        assert_eq!(h.slices.last(), Some(&wait), "also if the guest never exits");
        h.pass(wait + 1);
        Exit::Port(port)
    });
    h.then(move |_, h| {
        assert!(!h.sent.is_empty());
        Exit::Port(port)
    });
    h.then(|v, h| {
        assert_eq!(h.slices.last(), Some(&v.send_at.wrapping_sub(h.time.get())), "behind any exit");
        Exit::Pause
    });
    go(&mut v, &mut h);
}

#[test]
fn the_slice_counts_only_while_others_wait() {
    let (mut v, mut h) = vcpu();
    h.then(|_, h| {
        h.pass(2_000);
        Exit::Pause
    });
    h.then(|_, _| Exit::Pause);
    go(&mut v, &mut h);
    v.attend();
    v.slice_end = STARTED + 5_000;
    h.then_quick(|_, h| {
        assert_eq!(h.slices.last(), Some(&3_000));
        h.time.set(STARTED + 4_999);
        Exit::Rdmsr
    });
    v.registers.set(Gpr::Rcx, 0x10);
    h.then(|_, h| {
        h.pass(1);
        Exit::TimeSlice
    });
    assert_eq!(run(&mut v, &mut h), Leave::Preempted);
    assert!(v.open, "the exit is counted later");
    let before = exits(&v, Reason::TimeSlice).0;
    v.slice_end = STARTED + 100_000;
    h.pass(10_000);
    h.then(|_, _| Exit::Wbinvd);
    go(&mut v, &mut h);
    assert_eq!(exits(&v, Reason::TimeSlice), (before + 1, 10_000));
}

#[test]
fn the_time_limit_ends_the_vm() {
    let mut v = Setup { time_limit: STARTED + 5_000, ..Setup::default() }.vcpu();
    let mut h = Fake::new();
    h.then(|v, h| {
        assert_eq!(v.slice_due, STARTED + 5_000);
        h.pass(5_000);
        Exit::TimeSlice
    });
    let limit = |v: &mut Vcpu, h: &mut Fake| {
        assert_eq!(run(v, h), Leave::Ended);
        v.ending.take().unwrap().cause == Cause::TimeLimit
    };
    assert!(limit(&mut v, &mut h));
    v.attend();
    assert!(limit(&mut v, &mut h), "also before the first entry");
}

#[test]
fn entries_are_checked_where_that_is_asked_for() {
    let (mut v, mut h) = vcpu();
    h.sound = false;
    h.then(|_, _| Exit::Hlt);
    interrupts_on(&mut h);
    assert_eq!(run(&mut v, &mut h), Leave::Halted, "not asked for");
    let options = Options::ABI | Options::CHECK_ENTRIES;
    let mut v = Setup { options, ..Setup::default() }.vcpu();
    h.sound = true;
    h.then_quick(|_, h| {
        h.sound = false;
        Exit::Rdmsr
    });
    h.then(|_, _| panic!("entered"));
    let leave = run(&mut v, &mut h);
    assert_eq!((leave, v.ending.unwrap().cause), (Leave::Ended, Cause::EntryFailure));
}

#[test]
fn translations_are_flushed_before_the_entry_after_they_changed() {
    let (mut v, mut h) = vcpu();
    h.then(|_, _| Exit::Pause);
    go(&mut v, &mut h);
    assert_eq!(h.syncs, 1);
    let owed = h.show_info(false).unwrap();
    v.vm.generation.publish(owed);
    v.attend();
    h.then(|_, h| {
        assert_eq!(h.syncs, 2);
        Exit::Pause
    });
    go(&mut v, &mut h);
}

#[test]
fn a_double_fault_s_fault_ends_the_vm() {
    let (mut v, mut h) = vcpu();
    h.then(|_, h| {
        h.pending = Some(Event::exception(8, 0));
        Exit::Exception { event: Event::exception(14, 0), detail: 0 }
    });
    let leave = run(&mut v, &mut h);
    assert_eq!((leave, v.ending.unwrap().cause), (Leave::Ended, Cause::TripleFault));
}

#[test]
fn an_illegal_call_counts_as_an_exit_and_as_no_call() {
    for quick in [false, true] {
        let (mut v, mut h) = vcpu();
        h.cpl = 3;
        v.registers.set(Gpr::Rax, 3);
        if quick {
            h.then_quick(|_, _| Exit::Hypercall)
        } else {
            h.then(|_, _| Exit::Hypercall)
        }
        go(&mut v, &mut h);
        assert_eq!(h.pending, Some(Event::exception(6, 0)));
        assert_eq!(h.get(Kept::Rip), 0x1000, "at the instruction");
        assert_eq!(exits(&v, Reason::Hypercall).0, 1);
        assert!(v.info.calls.iter().all(|c| c.count == 0));
    }
}

#[test]
fn a_timer_that_is_faster_than_the_hypervisor_leaves_the_guest_time() {
    let mut v = Setup { machine: MachineType::Pc, ..Setup::default() }.vcpu();
    let mut h = Fake::new();
    h.time.set(STARTED);
    // Pin 2, and counter 0 with the shortest period that there is.
    v.write_io_apic(0x00, 0x14, &mut h);
    v.write_io_apic(0x10, 0x30, &mut h);
    for (port, value) in [(0x43, 0x34), (0x40, 1), (0x40, 0)] {
        let _ = v.vm.board.lock().write(port, 1, value, 0);
    }
    // From one look at the clock to the next it is more than the time for which devices are left alone.
    h.tick = v.vm.ticks(25);
    for _ in 0..10 {
        h.then(|_, _| Exit::TimeSlice);
    }
    go(&mut v, &mut h);
    assert!(h.slices.iter().all(|&slice| slice > 0), "{:?}", h.slices);
}

#[test]
fn a_timer_of_the_board_fires_in_time_though_the_guest_exits_no_more() {
    let mut v = Setup { machine: MachineType::Pc, ..Setup::default() }.vcpu();
    let mut h = Fake::new();
    h.time.set(STARTED);
    // Pin 2, and one interrupt in 4,096 / 1,193,182 seconds.
    v.write_io_apic(0x00, 0x14, &mut h);
    v.write_io_apic(0x10, 0x30, &mut h);
    h.then(|_, _| Exit::Pause);
    for (port, value) in [(0x43, 0x30), (0x40, 0x00), (0x40, 0x10)] {
        h.then(move |v, _| {
            v.registers.set(Gpr::Rax, value);
            let (size, input, string, repeated) = (1, false, false, false);
            Exit::Port(PortAccess { port, size, input, string, repeated })
        });
    }
    h.then(|v, h| {
        let last = *h.slices.last().unwrap();
        assert!(last <= v.vm.ticks(3_500), "{last}");
        Exit::Pause
    });
    go(&mut v, &mut h);
}

/// A vCPU whose timer is due at [`STARTED`] + 10,000.
fn armed() -> (Vcpu, Fake) {
    let (mut v, mut h) = vcpu();
    interrupts_on(&mut h);
    with_timer(&mut v);
    let deadline = (STARTED + 10_000).wrapping_add(v.tsc_offset);
    let _ = crate::emulate::msr::write_deadline(&mut v, &mut h, deadline);
    (v, h)
}

/// The same, away since it gave way.
fn away() -> (Vcpu, Fake) {
    let (mut v, mut h) = armed();
    v.begin_slice(STARTED + 100_000, STARTED);
    h.then(|_, _| Exit::Pause);
    assert_eq!(run(&mut v, &mut h), Leave::Yielded);
    h.windows = 0;
    (v, h)
}

#[test]
fn one_that_comes_back_to_nothing_new_goes_on_at_once() {
    let (mut v, mut h) = away();
    h.pass(1_000);
    v.begin_slice(h.time.get() + 2_000, h.time.get());
    h.then(|_, h| {
        assert!(*h.slices.last().unwrap() <= 2_000, "the new slice: {:?}", h.slices);
        assert_eq!((h.windows, h.delivered.len()), (0, 0), "nothing was looked at");
        Exit::TimeSlice
    });
    h.pass(10);
    go(&mut v, &mut h);
}

#[test]
fn one_that_comes_back_finds_what_has_happened_meanwhile() {
    // What others have left.
    let (mut v, mut h) = away();
    let _ = v.post.leave(Notice::Vector(0x51, Trigger::Edge));
    h.then(|_, h| {
        assert_eq!(h.delivered, [Event::interrupt(0x51)]);
        Exit::Pause
    });
    assert_eq!(run(&mut v, &mut h), Leave::Yielded);

    // A flush that was asked for, and a mapping that is gone.
    let (mut v, mut h) = away();
    let asked = v.post.ask_flush();
    let owed = h.show_info(false).unwrap();
    v.vm.generation.publish(owed);
    let (syncs, flushes) = (h.syncs, h.flushes.len());
    h.then(move |v, h| {
        assert!(h.syncs > syncs && h.flushes.len() > flushes);
        v.post.set_place(Place::Running(0));
        assert_eq!(v.post.runs_unflushed(asked), None, "whoever asked knows");
        Exit::Pause
    });
    assert_eq!(run(&mut v, &mut h), Leave::Yielded);

    // Its timer, and the end of its VM's time.
    let (mut v, mut h) = away();
    h.pass(20_000);
    h.then(|_, h| {
        assert_eq!(h.delivered, [Event::interrupt(0x40)]);
        Exit::Pause
    });
    assert_eq!(run(&mut v, &mut h), Leave::Yielded);
    let mut v = Setup { time_limit: STARTED + 5_000, ..Setup::default() }.vcpu();
    let mut h = Fake::new();
    v.begin_slice(STARTED + 100_000, STARTED);
    h.then(|_, _| Exit::Pause);
    assert_eq!(run(&mut v, &mut h), Leave::Yielded);
    h.pass(6_000);
    v.begin_slice(STARTED + 100_000, h.time.get());
    h.then(|_, _| panic!("entered"));
    assert_eq!(run(&mut v, &mut h), Leave::Ended);
}

#[test]
fn what_was_taken_when_the_turn_was_over_is_given_in_the_next() {
    let (mut v, mut h) = away();
    let _ = v.post.leave(Notice::Vector(0x51, Trigger::Edge));
    let now = h.time.get();
    v.begin_slice(now, now);
    assert_eq!(run(&mut v, &mut h), Leave::Preempted);
    assert!(!v.post.has_notices());
    v.begin_slice(now + 100_000, now);
    h.then(|_, h| {
        assert_eq!(h.delivered, [Event::interrupt(0x51)]);
        Exit::Pause
    });
    assert_eq!(run(&mut v, &mut h), Leave::Yielded);
}

#[test]
fn who_is_told_something_on_its_cpu_waits_for_a_part_of_a_slice() {
    let (mut v, mut h) = away();
    let (part, now) = (v.vm.slice / 64, h.time.get());
    v.mails[0].put(3);
    v.attend();
    v.begin_slice(u64::MAX, now);
    h.then(move |_, h| {
        assert!(h.slices.last().is_some_and(|&slice| slice <= part), "{:?}", h.slices);
        h.time.set(now + part - 1);
        Exit::Pause
    });
    h.then(move |v, h| {
        assert!(v.has_mail());
        h.time.set(now + part);
        Exit::TimeSlice
    });
    assert_eq!(run(&mut v, &mut h), Leave::Mail);
    // In a turn that has lasted for so long it waits no more.
    v.attend();
    h.then(|_, _| panic!("entered"));
    assert_eq!(run(&mut v, &mut h), Leave::Mail);
}

#[test]
fn one_that_wakes_up_is_given_the_interrupt_that_woke_it() {
    let (mut v, mut h) = armed();
    v.begin_slice(u64::MAX, STARTED);
    h.then(|_, _| Exit::Hlt);
    assert_eq!(run(&mut v, &mut h), Leave::Halted);
    h.pass(20_000);
    let now = h.time.get();
    assert!(v.wakes(&mut h, now));
    v.look_at_events();
    v.go_on(now);
    h.then(|_, h| {
        assert_eq!(h.delivered, [Event::interrupt(0x40)]);
        Exit::Pause
    });
    go(&mut v, &mut h);
}
