use std::boxed::Box;
use std::vec::Vec;

use core::sync::atomic::{AtomicU32, Ordering};

use guest_shim::PhysAddr;
use pv_abi::Status;
use pv_abi::ring::{CAPACITY, ConsoleRing};

use super::call::Calls;
use super::ring::Ring;
use super::*;

/// The hypervisor's side: guest-physical addresses are the test's own addresses.
#[derive(Default)]
struct Model {
    output: Vec<u8>,
    input: Vec<u8>,
    /// Bytes taken by one call at most.
    appetite: usize,
    /// A short call says AGAIN, not success.
    again: bool,
    calls: usize,
    ring: Option<u64>,
    /// The counters start here, to see them wrap.
    start: u32,
}

impl Model {
    fn new(appetite: usize) -> Model {
        Model { appetite, ..Model::default() }
    }

    /// Takes at most `most` bytes out of the ring, as the ABI says.
    fn drain(&mut self, most: usize) -> usize {
        let ring = self.ring.expect("registered") as *mut ConsoleRing;
        // SAFETY: the page is leaked by the test; both sides use the counters atomically.
        let (head, tail) = unsafe {
            (AtomicU32::from_ptr(&raw mut (*ring).head), AtomicU32::from_ptr(&raw mut (*ring).tail))
        };
        let from = tail.load(Ordering::Relaxed);
        let available = head.load(Ordering::Acquire).wrapping_sub(from) as usize;
        assert!(available <= CAPACITY, "the guest overran the ring");
        let taken = available.min(most);
        for i in 0..taken {
            let at = from.wrapping_add(i as u32) as usize % CAPACITY;
            // SAFETY: `at` is within `data`, and the byte before the head.
            self.output.push(unsafe { (&raw const (*ring).data).cast::<u8>().add(at).read() });
        }
        tail.store(from.wrapping_add(taken as u32), Ordering::Release);
        taken
    }
}

impl Backend for Model {
    fn write(&mut self, gpa: u64, length: u64) -> Result<u64, CallError> {
        self.calls += 1;
        assert!(length > 0 && length <= 4096);
        let taken = self.appetite.min(length as usize);
        // SAFETY: the test's own page.
        self.output
            .extend_from_slice(unsafe { core::slice::from_raw_parts(gpa as *const u8, taken) });
        if self.again && taken < length as usize {
            Err(CallError::Again(taken as u64))
        } else {
            Ok(taken as u64)
        }
    }

    unsafe fn read(&mut self, gpa: u64, length: u64) -> Result<u64, CallError> {
        self.calls += 1;
        let stored = self.input.len().min(length as usize);
        for (i, byte) in self.input.drain(..stored).enumerate() {
            // SAFETY: the test's own page.
            unsafe { (gpa as *mut u8).add(i).write(byte) };
        }
        Ok(stored as u64)
    }

    unsafe fn ring_register(&mut self, gpa: u64) -> Result<u64, CallError> {
        if !gpa.is_multiple_of(4096) {
            return Err(CallError::Status(Status::Misaligned));
        }
        self.ring = Some(gpa);
        Ok(CAPACITY as u64)
    }

    fn ring_flush(&mut self) -> Result<u64, CallError> {
        self.calls += 1;
        Ok(if self.appetite == 0 { 0 } else { self.drain(self.appetite) as u64 })
    }
}

fn page() -> (&'static Page, PhysAddr) {
    let page: &'static Page = Box::leak(Box::new(Page::new()));
    (page, PhysAddr::new(page.as_ptr() as u64))
}

fn calls(model: Model, longest: u32) -> Calls<Model> {
    let (page, gpa) = page();
    // SAFETY: the page is fresh, and the model takes addresses of this program.
    unsafe { Calls::new(model, page, gpa, longest) }
}

/// A ring whose counters stand at `model.start`.
fn ring(model: Model) -> Ring<Model> {
    let (page, gpa) = page();
    let start = model.start;
    // SAFETY: as above.
    let mut ring = unsafe { Ring::register(model, page, gpa) }.unwrap();
    ring.start_at(start);
    ring
}

fn text(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

#[test]
fn a_line_is_one_call() {
    let mut console = calls(Model::new(4096), 4096);
    console.write(&text(80)).unwrap();
    assert_eq!(console.backend.calls, 1);
    assert_eq!(console.backend.output, text(80));
}

#[test]
fn long_output_is_cut_into_the_longest_transfers() {
    for (longest, expected) in [(4096, 3), (1000, 10), (u32::MAX, 3)] {
        let mut console = calls(Model::new(4096), longest);
        console.write(&text(10_000)).unwrap();
        assert_eq!(console.backend.calls, expected, "longest transfer {longest}");
        assert_eq!(console.backend.output, text(10_000));
    }
}

#[test]
fn what_was_not_taken_is_written_again_from_there() {
    for again in [false, true] {
        let mut console = calls(Model { again, ..Model::new(7) }, 4096);
        console.write(&text(100)).unwrap();
        assert_eq!(console.backend.output, text(100));
        assert_eq!(console.backend.calls, 15);
    }
}

#[test]
fn a_console_that_takes_nothing_does_not_hang_the_guest() {
    let mut console = calls(Model { again: true, ..Model::new(0) }, 4096);
    assert_eq!(console.write(b"x"), Err(CallError::Again(0)));
    let mut console = calls(Model::new(9), 0);
    assert_eq!(console.write(b"x"), Err(CallError::Status(Status::BadLength)));
    assert_eq!(console.write(b""), Ok(()));
}

#[test]
fn reading_gives_what_was_typed_and_does_not_wait() {
    let mut console = calls(Model { input: text(10), ..Model::new(0) }, 4096);
    let mut buffer = [0; 6];
    assert_eq!(console.read(&mut buffer), Ok(6));
    assert_eq!(buffer[..], text(10)[..6]);
    assert_eq!(console.read(&mut buffer), Ok(4));
    assert_eq!(buffer[..4], text(10)[6..]);
    assert_eq!(console.read(&mut buffer), Ok(0));
    let asked = console.backend.calls;
    assert_eq!(console.read(&mut []), Ok(0));
    assert_eq!(console.backend.calls, asked, "an empty buffer needs no call");
}

#[test]
fn what_fits_into_the_ring_costs_no_call() {
    let mut console = ring(Model::new(CAPACITY));
    console.write(&text(CAPACITY)).unwrap();
    assert_eq!(console.backend.calls, 0);
    console.backend.drain(CAPACITY);
    assert_eq!(console.backend.output, text(CAPACITY));
}

#[test]
fn a_full_ring_is_flushed_and_loses_nothing() {
    let mut console = ring(Model::new(CAPACITY));
    console.write(&text(10_000)).unwrap();
    assert_eq!(console.backend.calls, 4);
    console.backend.drain(CAPACITY);
    assert_eq!(console.backend.output, text(10_000));
}

#[test]
fn the_ring_goes_round_at_every_offset_and_over_the_end_of_the_counters() {
    for start in [0, 5, CAPACITY as u32 - 1, u32::MAX - 3000, u32::MAX] {
        let mut console = ring(Model { start, ..Model::new(CAPACITY) });
        let all = text(60_000);
        let mut rest = &all[..];
        // Sizes and drains of co-prime lengths, so that every position of both comes up.
        for size in (1..400).cycle() {
            let (piece, left) = rest.split_at(rest.len().min(size));
            console.write(piece).unwrap();
            console.backend.drain(311);
            rest = left;
            if rest.is_empty() {
                break;
            }
        }
        console.backend.drain(CAPACITY);
        assert_eq!(console.backend.output, all, "counters from {start}");
    }
}

#[test]
fn a_ring_that_is_never_drained_does_not_hang_the_guest() {
    let mut console = ring(Model::new(0));
    assert_eq!(console.write(&text(CAPACITY + 1)), Err(CallError::Again(CAPACITY as u64)));
}

#[test]
fn a_tail_ahead_of_the_head_is_no_room() {
    let mut console = ring(Model::new(0));
    let tail = console.backend.ring.unwrap() as *mut ConsoleRing;
    // SAFETY: the test's own page.
    unsafe { AtomicU32::from_ptr(&raw mut (*tail).tail) }.store(1, Ordering::Release);
    assert_eq!(console.write(b"x"), Err(CallError::Again(0)));
}
