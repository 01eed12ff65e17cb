//! Memory shared between VMs that end or are reset while the other side takes pages back, or does the same.
//!
//! A VM that is linked to several others is the one that stays.

use core::hint;
use core::sync::atomic::{AtomicU64, Ordering};

use guest_kernel::{info, println, smp, timer};
use pv_abi::Status::{self, AlreadyDone, NotReady};
use x86_64::PhysAddr;
use x86_64::event;
use x86_64::hypercall::{CallError, share as call, sys};
use x86_64::instructions::interrupts as flag;
use x86_64::share::{self, Access};

use super::ends::triple_fault;
use super::share_pair::{ABSENT, Words, all_write, at, comes, fill, holds, page, stays};
use super::smp::sound;
use super::{Action, Case, Expected, Verdict, Wrong};
use crate::random::Random;

const fn case(name: &'static str, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Depends, needs_pv: true, action: Action::Run(run) }
}

/// The cases.
pub const CASES: &[Case] = &[
    case("share-owner", owner),
    case("share-tenant", tenant),
    case("share-keeper", keeper),
    case("share-both", both),
];

/// More CPUs than these are let be.
const MOST: usize = 2;
/// Of the window: what the VMs agree on is at the first.
const TALK: u16 = 0;
const PLACE: u16 = 1;
/// How often a VM that is not yet served waits as long as another waits for it.
const OTHERS: u64 = 10;
/// Times that a VM that can be reset is, until it ends.
const LIVES: u64 = 8;
/// Microseconds within which one side is ahead of the other.
const AHEAD: u64 = 400;

/// The VMs that this one is linked to.
fn peers() -> impl Iterator<Item = u8> {
    let links = event::links().unwrap_or(0);
    (0..64).filter(move |vm| links >> vm & 1 != 0)
}

fn offer(slot: u8, gpa: PhysAddr, vm: u8) -> Result<(), CallError> {
    // SAFETY: only atomics live in the pages that are offered here.
    unsafe { share::offer(slot, gpa, vm, Access::ReadWrite) }
}

/// Takes an offer back, and counts how often it was told to wait.
fn revoke(slot: u8) -> Result<u64, CallError> {
    let mut waited = 0;
    loop {
        match call::revoke(slot.into()) {
            Err(CallError::Again(count)) if count != 0 => waited += 1,
            result => return result.map(|_| waited),
        }
        hint::spin_loop();
    }
}

fn refused(_: CallError) -> Wrong {
    Wrong::Other("a call is refused")
}

fn reset() -> Verdict {
    let _ = sys::reset();
    Err(Wrong::Other("sys.reset is refused"))
}

/// Maps at the first place of the window what is offered sooner or later.
fn map(of: u8, slot: u8) -> Result<PhysAddr, Wrong> {
    let mut found = None;
    let mut look = || {
        found = share::map(of, slot, TALK).ok();
        found.is_some()
    };
    sound((0..OTHERS).any(|_| comes(&mut look, "").is_ok()), "nothing is offered")?;
    Ok(found.unwrap_or(PhysAddr::zero()))
}

/// Where an owner and one of those that use its page talk, in the owner's memory. All that is counted is the
/// number of a life of the other one.
#[repr(C)]
struct Lease {
    /// The page is offered; the other one is to be gone.
    offered: AtomicU64,
    go: AtomicU64,
    /// The other one has mapped it, knows that it is to be gone, has it no more, and has been alive for the last time.
    mapped: AtomicU64,
    goes: AtomicU64,
    lost: AtomicU64,
    last: AtomicU64,
    cpus: AtomicU64,
}

/// Takes pages back from others that are reset or end meanwhile.
fn owner() -> Verdict {
    let (target, words) = page::<Words>();
    let (mut revoked, mut waited) = (0, 0);
    let mut random = Random::new(timer::now(), 0);
    for vm in peers() {
        let (gpa, lease) = page::<Lease>();
        let [talk, slot] = [2 * vm, 2 * vm + 1];
        offer(talk, gpa, vm).map_err(refused)?;
        for life in 1.. {
            fill(words, 0);
            offer(slot, target, vm).map_err(refused)?;
            lease.offered.store(life, Ordering::Release);
            let mapped = || lease.mapped.load(Ordering::Acquire) == life;
            comes(mapped, "what is offered is not mapped")?;
            let cpus = lease.cpus.load(Ordering::Relaxed);
            sound(all_write(words, cpus), "what is offered is not written")?;
            lease.go.store(life, Ordering::Release);
            let goes = || lease.goes.load(Ordering::Acquire) == life;
            comes(goes, "a VM does not hear that it is to be gone")?;
            timer::delay(random.below(AHEAD));
            let again = revoke(slot).map_err(|_| Wrong::Other("a page is not given back"))?;
            (revoked, waited) = (revoked + 1, waited + again.min(1));
            fill(words, !life);
            sound(stays(words, !life), "a write came after the revocation")?;
            if lease.last.load(Ordering::Relaxed) == life {
                break;
            }
            let lost = || lease.lost.load(Ordering::Acquire) == life;
            comes(lost, "a VM does not come back")?;
            sound(holds(words, !life), "a VM that was reset reaches what it had before")?;
        }
        // Whatever has become of it, the page where they talked comes back as well.
        revoke(talk).map_err(refused)?;
    }
    println!("@hostile share-owner has revoked {revoked} times, and waited {waited} times");
    sound(revoked != 0, "there is nobody to lend a page to")
}

/// Uses what it is lent, with all CPUs, and is reset or ends when it is told to.
fn tenant() -> Verdict {
    let n = smp::start(MOST);
    let of = peers().next().ok_or(Wrong::Other("there is nobody to have a page from"))?;
    let window = map(of, 2 * this())?.as_u64();
    let lease = at::<Lease>(PhysAddr::new(window));
    let gpa = window + u64::from(PLACE) * 4096;
    LENT.store(gpa, Ordering::Relaxed);
    let lent = at::<Words>(PhysAddr::new(gpa));
    let life = lease.mapped.load(Ordering::Relaxed) + 1;
    if life > 1 {
        // What was lent before is out of reach for as long as the owner looks.
        let reached = timer::spin_until(AHEAD, || {
            fill(lent, life);
            !holds(lent, ABSENT)
        });
        sound(!reached, "a page is there after a reset")?;
        lease.lost.store(life - 1, Ordering::Release);
    }
    comes(|| lease.offered.load(Ordering::Acquire) == life, "nothing is offered any more")?;
    share::map(of, 2 * this() + 1, PLACE).map_err(refused)?;
    let way = info::options().value("way").unwrap_or("reset");
    let last = way != "reset" || life == LIVES;
    lease.last.store(if last { life } else { 0 }, Ordering::Relaxed);
    lease.cpus.store(n as u64, Ordering::Relaxed);
    (1..n).for_each(|cpu| smp::run_on(cpu, use_deaf));
    lease.mapped.store(life, Ordering::Release);
    let mut count = 0u64;
    let go = || {
        count += 1;
        lent[0].store(count, Ordering::Relaxed);
        lease.go.load(Ordering::Acquire) == life
    };
    comes(go, "the owner does not go on")?;
    lease.goes.store(life, Ordering::Release);
    timer::delay(Random::new(timer::now(), life).below(AHEAD));
    match way {
        "triple-fault" => triple_fault(),
        "reset" if !last => reset(),
        // The others use the page until the VM has ended.
        _ => Ok(()),
    }
}

fn this() -> u8 {
    event::number().unwrap_or(0) as u8
}

/// The page that the tenant has.
static LENT: AtomicU64 = AtomicU64::new(0);

/// Uses the page, and hears of nothing meanwhile.
fn use_deaf(cpu: usize) {
    flag::disable();
    let lent = at::<Words>(PhysAddr::new(LENT.load(Ordering::Relaxed)));
    for count in 1u64.. {
        lent[cpu].store(count, Ordering::Relaxed);
        hint::black_box(lent[count as usize % lent.len()].load(Ordering::Relaxed));
        // Machines on which CPUs take turns may give others none before it. So seldom it is no loop of PAUSEs.
        if count.is_multiple_of(4096) {
            hint::spin_loop();
        }
    }
}

/// Where two VMs meet to end at the same time, in the memory of a third.
#[repr(C)]
struct Meeting {
    /// How often all have met.
    met: AtomicU64,
    /// The life that each is in when it comes there.
    lives: [AtomicU64; 64],
}

/// Has the VMs that it is linked to meet.
fn keeper() -> Verdict {
    let (gpa, meeting) = page::<Meeting>();
    for vm in peers() {
        offer(vm, gpa, vm).map_err(refused)?;
    }
    let lives = |vm: u8| meeting.lives[usize::from(vm)].load(Ordering::Acquire);
    for life in 1..=LIVES {
        comes(|| peers().all(|vm| lives(vm) == life), "a VM does not come to where all meet")?;
        meeting.met.store(life, Ordering::Release);
    }
    for vm in peers() {
        revoke(vm).map_err(|_| Wrong::Other("a page is not given back"))?;
    }
    Ok(())
}

/// Slots of each CPU, in which the other VM is offered a page each, and places for the other's. Behind the meeting's.
const SLOTS: u8 = 4;
const FIRST: u8 = 64;
/// Calls of the first CPU in each life.
const ROUNDS: u64 = 300;

/// The other VM, its window, this VM's pages, and what went wrong.
static OTHER: AtomicU64 = AtomicU64::new(0);
static WINDOW: AtomicU64 = AtomicU64::new(0);
static PAGES: [AtomicU64; MOST * SLOTS as usize] =
    [const { AtomicU64::new(0) }; MOST * SLOTS as usize];
static WRONG: AtomicU64 = AtomicU64::new(0);

fn allow<T>(result: Result<T, CallError>, statuses: &[Status]) -> bool {
    if let Err(error) = &result
        && !matches!(error, CallError::Status(status) if statuses.contains(status))
    {
        WRONG.fetch_add(1, Ordering::Relaxed);
    }
    result.is_ok()
}

/// One thing that can be done with pages that are shared, at random.
fn share_once(cpu: usize, random: &mut Random) {
    let other = OTHER.load(Ordering::Relaxed) as u8;
    let all = random.below(MOST as u64 * u64::from(SLOTS));
    let place = TALK + 1 + all as u16;
    // Only this CPU offers and revokes these.
    let own = cpu * usize::from(SLOTS) + random.below(SLOTS.into()) as usize;
    let gpa = PhysAddr::new(PAGES[own].load(Ordering::Relaxed));
    match random.below(6) {
        0 => drop(allow(offer(FIRST + own as u8, gpa, other), &[AlreadyDone])),
        1 => {
            if allow(revoke(FIRST + own as u8), &[NotReady]) {
                let (words, mark) = (at::<Words>(gpa), random.next() >> 1);
                fill(words, mark);
                if timer::spin_until(random.below(30), || !holds(words, mark)) {
                    WRONG.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        2 => drop(allow(share::map(other, FIRST + all as u8, place), &[AlreadyDone, NotReady])),
        3 => drop(allow(share::unmap(other, FIRST + all as u8), &[NotReady])),
        _ => {
            // Few, as each is an exit where nothing is mapped, and no mark.
            let gpa = WINDOW.load(Ordering::Relaxed) + u64::from(place) * 4096;
            let words = at::<Words>(PhysAddr::new(gpa));
            (0..4).for_each(|_| words[random.below(512) as usize].store(!0, Ordering::Relaxed));
        }
    }
}

/// Shares with another VM that does the same, until both are reset or end.
fn both() -> Verdict {
    let n = smp::start(MOST);
    let (keeper, other) = (option("keeper"), option("peer"));
    OTHER.store(other.into(), Ordering::Relaxed);
    PAGES.iter().for_each(|place| place.store(page::<Words>().0.as_u64(), Ordering::Relaxed));
    let window = map(keeper, this())?;
    WINDOW.store(window.as_u64(), Ordering::Relaxed);
    let meeting = at::<Meeting>(window);
    let life = meeting.met.load(Ordering::Acquire) + 1;
    flag::enable();
    let seed = timer::now();
    (1..n).for_each(|cpu| {
        smp::run_on(cpu, |cpu| {
            let mut random = Random::new(timer::now(), cpu as u64);
            loop {
                share_once(cpu, &mut random);
            }
        })
    });
    let mut random = Random::new(seed, 0);
    (0..ROUNDS).for_each(|_| share_once(0, &mut random));
    sound(
        WRONG.load(Ordering::Relaxed) == 0,
        "a write came after a revocation, or a wrong status",
    )?;
    meeting.lives[usize::from(this())].store(life, Ordering::Release);
    let met = || {
        // One that is alone does nothing else, so that it is reset at the same moment as the other.
        if n > 1 {
            share_once(0, &mut random);
        }
        meeting.met.load(Ordering::Acquire) >= life
    };
    comes(met, "the others do not come to where all meet")?;
    if life < LIVES { reset() } else { Ok(()) }
}

fn option(name: &str) -> u8 {
    info::options().number(name).unwrap_or(0) as u8
}
