use std::boxed::Box;

use pv_abi::area::INFO_SIZE;
use zerocopy::FromZeros;

use super::*;

/// An area over memory of the test's own, which it leaks.
fn area(fill: impl FnOnce(&mut VcpuInfo)) -> Area {
    let mut info = VcpuInfo::new_box_zeroed().unwrap();
    info.version = pv_abi::VERSION;
    info.size = INFO_SIZE as u32;
    fill(&mut info);
    let shared = Box::leak(Box::new(SharedPage::new()));
    // SAFETY: both halves are leaked, so they stay.
    unsafe { Area::from_parts(shared, NonNull::from(Box::leak(info))) }
}

#[test]
fn what_is_registered_again_is_as_new() {
    let page = SharedPage::new();
    page.deadline().store(9, Ordering::Relaxed);
    page.armed.store(7, Ordering::Relaxed);
    page.eoi.store(1, Ordering::Relaxed);
    page.mask(1000);
    page.pending[3].store(1, Ordering::Relaxed);
    page.selector.store(8, Ordering::Relaxed);
    page.clear();
    // SAFETY: any bit pattern is a value of these bytes, which nobody writes.
    let bytes = unsafe { &*(&raw const page).cast::<[u8; size_of::<SharedPage>()]>() };
    assert!(bytes.iter().all(|&byte| byte == 0));
}

#[test]
fn the_end_of_interrupt_flag_is_taken_once() {
    let area = area(|_| ());
    assert!(!area.shared().take_eoi());
    area.shared().eoi.store(1, Ordering::Relaxed);
    assert!(area.shared().take_eoi());
    assert!(!area.shared().take_eoi());
}

#[test]
fn counters_are_found_by_reason_and_call() {
    let area = area(|info| {
        info.exits[Reason::Cpuid as usize] = Counter { count: 3, ticks: 30 };
        info.exits[Reason::Hypercall as usize] = Counter { count: 4, ticks: 40 };
        info.exits[Reason::Mark as usize] = Counter { count: 100, ticks: 1 };
        info.calls[call_slot(3, 0)] = Counter { count: 2, ticks: 20 };
    });
    assert_eq!(area.exits(Reason::Cpuid), Counter { count: 3, ticks: 30 });
    assert_eq!(area.calls(pv_abi::call::timer::ARM).count, 2);
    assert_eq!(area.total_exits(), 7, "marks are left out");
}

#[test]
fn a_reader_starts_again_while_the_clock_is_written() {
    // Odd at first, then changed under the reader, then quiet.
    let mut sequences = [1, 2, 4, 4, 4].into_iter();
    let mut reads = 0;
    let value = read_consistently(
        || sequences.next().unwrap(),
        || {
            reads += 1;
            reads
        },
    );
    assert_eq!(value, 3);
}

#[test]
fn the_clock_is_never_torn() {
    let mut info = VcpuInfo::new_box_zeroed().unwrap();
    info.clock.multiplier = 1;
    let info = NonNull::from(Box::leak(info));
    let shared: &'static SharedPage = Box::leak(Box::new(SharedPage::new()));
    // SAFETY: both halves are leaked.
    let area = unsafe { Area::from_parts(shared, info) };
    std::thread::scope(|scope| {
        let writer = scope.spawn(move || {
            // Named whole, so that the closure takes the area and not its pointer.
            let Area { info, .. } = { area };
            for n in 1..20_000u64 {
                let clock = info.as_ptr();
                // SAFETY: the only writer, of memory that is never referenced.
                unsafe {
                    let sequence = &raw mut (*clock).clock.sequence;
                    sequence.write_volatile(sequence.read_volatile().wrapping_add(1));
                    fence(Ordering::SeqCst);
                    (&raw mut (*clock).clock.tsc_base).write_volatile(n);
                    (&raw mut (*clock).clock.ns_base).write_volatile(n * 2);
                    fence(Ordering::SeqCst);
                    sequence.write_volatile(sequence.read_volatile().wrapping_add(1));
                }
            }
        });
        while !writer.is_finished() {
            let clock = area.clock();
            assert_eq!(clock.ns_base, clock.tsc_base * 2);
        }
    });
}
