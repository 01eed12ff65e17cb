//! Memory shared between VMs: two of them, of which one takes back what the other uses.
//!
//! The first page is where they talk. The option `peer=N` is the number of the other VM.

use core::hint;
use core::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

use guest_kernel::{frames, info, println, smp, timer};
use pv_abi::Status;
use x86_64::PhysAddr;
use x86_64::hypercall::{CallError, share as call, sys};
use x86_64::instructions::interrupts as flag;
use x86_64::share::{self, Access};

use super::smp::sound;
use super::{Action, Case, Expected, Verdict, Wrong};

const fn case(name: &'static str, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Depends, needs_pv: true, action: Action::Run(run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    case("share-grantor", grantor),
    case("share-grantee", grantee),
    case("share-reset", reset),
    case("share-survivor", survivor),
];

/// More CPUs than these are let be.
const MOST: usize = 4;
/// Words of a page.
const WORDS: usize = 512;
/// The page where they talk, and the one that is taken back: slots of the grantor.
const TALK: u8 = 0;
const PAGE: u8 = 1;
/// The places of the grantee's window in which it has that page, in turn.
const PLACES: [u16; 2] = [1, 2];
/// Times that it is taken back, and that the grantor starts.
const ROUNDS: u64 = 12;
const STARTS: u64 = 4;
/// How long something may take, and for how long nothing must happen, in microseconds.
const PATIENCE: u64 = 3_000_000;
const STILL: u64 = 1_000;
/// What [`Talk`] says when all is over.
const OVER: u64 = 1 << 40;
/// What is read where nothing is.
pub(super) const ABSENT: u64 = u64::MAX;

pub(super) type Words = [AtomicU64; WORDS];

/// The page where they talk.
#[repr(C)]
struct Talk {
    /// The grantor's: the round, from 1 up.
    round: AtomicU64,
    /// The grantee's: the round whose page it has mapped, its CPUs, and the starts of the grantor that it has
    /// seen.
    mapped: AtomicU64,
    cpus: AtomicU64,
    starts: AtomicU64,
}

/// What is at a physical address of a page that others may change.
pub(super) fn at<T>(gpa: PhysAddr) -> &'static T {
    // SAFETY: all below 4 GiB is identity mapped. `T` is made of atomics, so whatever is there and whoever
    // writes it, and be it nothing, the value is valid.
    unsafe { &*(gpa.as_u64() as *const T) }
}

/// A page of this VM's that has never been used.
pub(super) fn page<T>() -> (PhysAddr, &'static T) {
    let gpa = frames::allocate_fresh().start_address();
    let gpa = PhysAddr::new(gpa.as_u64());
    (gpa, at(gpa))
}

pub(super) fn comes(condition: impl FnMut() -> bool, why: &'static str) -> Verdict {
    sound(timer::spin_until(PATIENCE, condition), why)
}

fn peer() -> u8 {
    info::options().number("peer").unwrap_or(0) as u8
}

fn offer(slot: u8, gpa: PhysAddr, access: Access) -> Verdict {
    // SAFETY: only atomics live in the pages that are offered here.
    unsafe { share::offer(slot, gpa, peer(), access) }
        .map_err(|_| Wrong::Other("an offer is refused"))
}

pub(super) fn holds(page: &Words, value: u64) -> bool {
    page.iter().all(|word| word.load(Ordering::Relaxed) == value)
}

pub(super) fn fill(page: &Words, value: u64) {
    page.iter().for_each(|word| word.store(value, Ordering::Relaxed));
}

/// Whether the page holds this value for as long as a stale translation may be used.
pub(super) fn stays(page: &Words, value: u64) -> bool {
    !timer::spin_until(STILL, || !holds(page, value)) && holds(page, value)
}

/// Every CPU of the grantee has written since.
pub(super) fn all_write(page: &Words, cpus: u64) -> bool {
    let before: [u64; MOST] = core::array::from_fn(|cpu| page[cpu].load(Ordering::Relaxed));
    let cpus = usize::try_from(cpus).unwrap_or(MOST).min(MOST);
    let wrote = |cpu: usize| page[cpu].load(Ordering::Relaxed) != before[cpu];
    timer::spin_until(PATIENCE, || (0..cpus).all(wrote))
}

/// The page that is taken back, for [`revoke`].
static TARGET: AtomicU64 = AtomicU64::new(0);
static ROUND: AtomicU64 = AtomicU64::new(0);
/// Revocations that succeeded, that found nothing, and that something was wrong with.
static DONE: AtomicU64 = AtomicU64::new(0);
static LATE: AtomicU64 = AtomicU64::new(0);
static WRONG: AtomicU64 = AtomicU64::new(0);

/// A value that no CPU of the grantee writes.
fn mark(round: u64) -> u64 {
    0x5eed << 48 | round
}

/// What each CPU of the grantor does in a round: one of them has the page back, and finds that nobody else
/// writes to it.
fn revoke(_: usize) {
    let result = loop {
        match call::revoke(PAGE.into()) {
            Err(CallError::Again(count)) if count != 0 => hint::spin_loop(),
            result => break result,
        }
    };
    match result {
        Ok(0) => {
            let (page, mark) = (
                at::<Words>(PhysAddr::new(TARGET.load(Ordering::Relaxed))),
                mark(ROUND.load(Ordering::Relaxed)),
            );
            fill(page, mark);
            if !stays(page, mark) {
                WRONG.fetch_add(1, Ordering::Relaxed);
            }
            DONE.fetch_add(1, Ordering::Relaxed);
        }
        Err(CallError::Status(Status::NotReady)) => {
            LATE.fetch_add(1, Ordering::Relaxed);
        }
        _ => {
            WRONG.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// One page is offered, used, and taken back by all CPUs at the same time, again and again.
fn grantor() -> Verdict {
    let n = smp::start(MOST);
    let (gpa, talk) = page::<Talk>();
    let (target, words) = page::<Words>();
    TARGET.store(target.as_u64(), Ordering::Relaxed);
    offer(TALK, gpa, Access::ReadWrite)?;
    flag::enable();
    for round in 1..=ROUNDS {
        ROUND.store(round, Ordering::Relaxed);
        let writable = round % 3 != 0;
        fill(words, 0);
        offer(PAGE, target, if writable { Access::ReadWrite } else { Access::Read })?;
        talk.round.store(round, Ordering::Release);
        let mapped = || talk.mapped.load(Ordering::Acquire) == round;
        comes(mapped, "the other VM does not map what is offered")?;
        let cpus = talk.cpus.load(Ordering::Relaxed);
        if writable {
            sound(all_write(words, cpus), "the other VM does not write")?;
        } else {
            sound(stays(words, 0), "a page that may be read was written")?;
        }
        smp::run_on_all(n, revoke);
        sound(WRONG.load(Ordering::Relaxed) == 0, "a write came after the revocation")?;
        let (done, late) = (DONE.load(Ordering::Relaxed), LATE.load(Ordering::Relaxed));
        sound((done, done + late) == (round, round * n as u64), "a revocation did not end once")?;
    }
    talk.round.store(OVER, Ordering::Release);
    // The page where they talk is taken back by the end of this VM, whatever the other is at.
    let verdict =
        comes(|| talk.mapped.load(Ordering::Acquire) == OVER, "the other VM is not content");
    flag::disable();
    verdict
}

/// Tells the CPUs of the grantee to end.
static ENOUGH: AtomicBool = AtomicBool::new(false);
/// The first place of the window.
static WINDOW: AtomicU64 = AtomicU64::new(0);

fn place(index: u16) -> &'static Words {
    at(PhysAddr::new(WINDOW.load(Ordering::Relaxed) + u64::from(index) * 4096))
}

/// The place that has the page. Where nothing is mapped each access exits, which flushes more than it must; so
/// the CPUs reach for this one alone, and stay in guest mode until the page is taken away.
static PLACE: AtomicU16 = AtomicU16::new(PLACES[0]);

/// What each CPU of the grantee does: it writes to its word, and reads all.
fn use_it(cpu: usize) {
    let mut count = 0u64;
    while !ENOUGH.load(Ordering::Relaxed) {
        count += 1;
        touch(cpu, count);
    }
}

fn touch(cpu: usize, count: u64) {
    let page = place(PLACE.load(Ordering::Relaxed));
    page[cpu].store(count, Ordering::Relaxed);
    hint::black_box(page[count as usize % WORDS].load(Ordering::Relaxed));
}

/// Maps the page where they talk as soon as it is offered.
fn begin_talk() -> Result<&'static Talk, Wrong> {
    let mut found = None;
    comes(
        || {
            found = share::map(peer(), TALK, 0).ok();
            found.is_some()
        },
        "the other VM offers nothing",
    )?;
    let gpa = found.unwrap_or(PhysAddr::zero());
    WINDOW.store(gpa.as_u64(), Ordering::Relaxed);
    Ok(at(gpa))
}

/// Uses what it is offered, with all CPUs and all the time.
fn grantee() -> Verdict {
    let n = smp::start(MOST);
    flag::enable();
    let talk = begin_talk()?;
    talk.cpus.store(n as u64, Ordering::Relaxed);
    (1..n).for_each(|cpu| smp::run_on(cpu, use_it));
    let (mut seen, mut count) = (0, 0);
    let verdict = loop {
        let round = talk.round.load(Ordering::Acquire);
        count += 1;
        touch(0, count);
        if round == seen {
            continue;
        }
        if round == OVER {
            break Ok(());
        }
        seen = round;
        // Every other time it is given back, and mapped elsewhere, before it is used.
        let again = round % 2 == 0;
        PLACE.store(PLACES[usize::from(again)], Ordering::Relaxed);
        let mapped = share::map(peer(), PAGE, PLACES[0]).is_ok()
            && (!again || share::unmap(peer(), PAGE).is_ok())
            && (!again || share::map(peer(), PAGE, PLACES[1]).is_ok());
        if !mapped {
            break Err(Wrong::Other("what is offered cannot be mapped"));
        }
        talk.mapped.store(round, Ordering::Release);
    };
    ENOUGH.store(true, Ordering::Relaxed);
    (1..n).for_each(smp::join);
    verdict?;
    for index in PLACES {
        fill(place(index), 0);
        sound(holds(place(index), ABSENT), "something is left where nothing is mapped")?;
    }
    let late = [share::unmap(peer(), PAGE), share::map(peer(), PAGE, PLACES[0]).map(drop)];
    let none = Err(CallError::Status(Status::NotReady));
    sound(late.iter().all(|result| *result == none), "what was revoked is still there")?;
    talk.mapped.store(OVER, Ordering::Release);
    flag::disable();
    Ok(())
}

/// Resets while the other VM writes to its memory, and finds it zero, and that it stays so.
fn reset() -> Verdict {
    let (gpa, talk) = page::<Talk>();
    let (target, words) = page::<Words>();
    sound(stays(words, 0), "memory is not zero after a reset")?;
    offer(TALK, gpa, Access::ReadWrite)?;
    offer(PAGE, target, Access::ReadWrite)?;
    comes(
        || talk.mapped.load(Ordering::Acquire) != 0,
        "the other VM does not map what is offered",
    )?;
    let starts = talk.starts.load(Ordering::Relaxed);
    sound(all_write(words, talk.cpus.load(Ordering::Relaxed)), "the other VM does not write")?;
    println!("@hostile share-reset start {starts}");
    if starts == STARTS {
        return Ok(());
    }
    match sys::reset() {
        Err(_) => Err(Wrong::Other("sys.reset is refused")),
        Ok(_) => Err(Wrong::Other("the guest goes on")),
    }
}

/// Writes to the memory of a VM that is reset, and has it again after that, until it is gone.
fn survivor() -> Verdict {
    let n = smp::start(MOST);
    flag::enable();
    for start in 1..=STARTS {
        let talk = begin_talk()?;
        if start == 1 {
            (1..n).for_each(|cpu| smp::run_on(cpu, use_it));
        }
        talk.starts.store(start, Ordering::Relaxed);
        talk.cpus.store(n as u64, Ordering::Relaxed);
        comes(|| share::map(peer(), PAGE, PLACES[0]).is_ok(), "the second page is not offered")?;
        talk.mapped.store(1, Ordering::Release);
        let mut count = 0;
        let gone = || {
            count += 1;
            touch(0, count);
            talk.mapped.load(Ordering::Relaxed) == ABSENT
        };
        comes(gone, "the other VM does not end")?;
    }
    ENOUGH.store(true, Ordering::Relaxed);
    (1..n).for_each(smp::join);
    flag::disable();
    for index in [0, PLACES[0]] {
        sound(holds(place(index), ABSENT), "something is left of a VM that has ended")?;
    }
    Ok(())
}
