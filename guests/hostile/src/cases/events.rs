//! Events that must be refused, events of several CPUs at once, and what becomes of ports when a VM is gone.

use core::sync::atomic::{AtomicU64, Ordering};

use guest_kernel::{println, pv, smp};
use pv_abi::Status::{self, *};
use pv_abi::call::{Number, event as abi};
use pv_abi::event::{PORTS, WAIT};
use x86_64::event;
use x86_64::hypercall::{CallError, sched, sys};
use x86_64::instructions::interrupts as flag;

use super::calls::{check, raw};
use super::smp::{begin, end, sound};
use super::{Action, Case, Expected, Verdict, Wrong};
use crate::random::Random;

/// The cases.
pub const CASES: &[Case] = &[
    case("event-calls", Expected::Survives, Action::Run(event_calls)),
    case("event-storm", Expected::Survives, Action::Several(event_storm)),
    case("event-resets", Expected::Depends, Action::Run(resets)),
    case("event-outlives-resets", Expected::Depends, Action::Run(outlives_resets)),
    case("event-alone", Expected::Depends, Action::Run(alone)),
];

const fn case(name: &'static str, expected: Expected, action: Action) -> Case {
    Case { name, expected, needs_pv: true, action }
}

/// Ports that the storm leaves alone.
const QUIET: u16 = 100;
const MEETING: u16 = 1000;
/// Ports of the storm, few so that CPUs and VMs meet at them.
const FEW: u64 = 6;
/// Calls of every CPU in the storm.
const ROUNDS: u64 = 1500;
/// Questions that are answered after it.
const QUESTIONS: u64 = 20;
/// Times that a VM outlives its peer.
const LIVES: u64 = 3;

fn refused(number: Number, arguments: [u64; 3], want: Status) -> Verdict {
    let [a, b, c] = arguments;
    check(&raw(number.0, [a, b, c, 0, 0], 0, want))
}

fn made(result: Result<(), CallError>, why: &'static str) -> Verdict {
    sound(result.is_ok(), why)
}

fn this() -> u64 {
    event::number().unwrap_or(u64::MAX)
}

/// The VM that this one is linked to.
fn other() -> Option<u64> {
    let links = event::links().ok().filter(|&links| links != 0)?;
    Some(links.trailing_zeros().into())
}

/// Every wrong call, and what the vCPU finds of right ones.
fn event_calls() -> Verdict {
    let (this, links) = (this(), event::links().unwrap_or(u64::MAX));
    let ports = u64::from(PORTS);
    sound(this < 64 && links & 1 << this == 0, "a VM is linked to itself")?;
    for wrong in [ports, ports + 1, 0xffff, 0x1_0000, 1 << 32, 1 << 63, u64::MAX] {
        refused(abi::OPEN, [wrong, 0, this], InvalidArgument)?;
        refused(abi::OPEN, [wrong, u64::MAX, u64::MAX], InvalidArgument)?;
        refused(abi::CONNECT, [wrong, 0, 0], InvalidArgument)?;
        refused(abi::CONNECT, [0, wrong, 0], InvalidArgument)?;
        refused(abi::CLOSE, [wrong, 0, 0], InvalidArgument)?;
        refused(abi::SEND, [wrong, 0, 0], InvalidArgument)?;
        refused(abi::SEND, [wrong, WAIT, 0], InvalidArgument)?;
        refused(abi::SEND, [wrong, 2, 0], Reserved)?;
    }
    for nobody in [smp::available() as u64, 64, 256, 1 << 32, u64::MAX] {
        refused(abi::OPEN, [0, nobody, this], InvalidArgument)?;
    }
    let unlinked = (0..64).filter(|vm| *vm != this && links >> vm & 1 == 0);
    for vm in unlinked.chain([64, 256 | this, 1 << 32 | this, u64::MAX]) {
        refused(abi::OPEN, [0, 0, vm], Denied)?;
    }
    for port in [0, u64::from(QUIET), ports - 1] {
        refused(abi::CLOSE, [port, 0, 0], NotReady)?;
        refused(abi::SEND, [port, 0, 0], NotReady)?;
        refused(abi::SEND, [port, WAIT, 0], NotReady)?;
        refused(abi::CONNECT, [port, port, 0], NotReady)?;
        refused(abi::OPEN, [port, 0, this], Success)?;
        refused(abi::OPEN, [port, 0, this], AlreadyDone)?;
        refused(abi::OPEN, [port, 0, u64::MAX], AlreadyDone)?;
        refused(abi::CONNECT, [port, 1, 0], AlreadyDone)?;
        sends_to_itself(port as u16)?;
        refused(abi::CLOSE, [port, 0, 0], Success)?;
        refused(abi::CLOSE, [port, 0, 0], NotReady)?;
    }
    for vector in [1, 15, 256, 1 << 32, u64::MAX] {
        refused(abi::VECTOR, [vector, 0, 0], InvalidArgument)?;
    }
    refused(abi::SEND, [0, 1 << 63 | WAIT, 0], Reserved)
}

/// An event is found once, and when it is unmasked.
fn sends_to_itself(port: u16) -> Verdict {
    let page = pv::shared();
    let sends = || refused(abi::SEND, [port.into(), 0, 0], Success);
    sends()?;
    sends()?;
    sound(page.events().eq([port]), "an event was not found once")?;
    page.mask(port);
    sends()?;
    sound(!page.has_events(), "a masked event is told")?;
    sound(page.unmask(port), "a masked event is not pending")?;
    // It does not wait, as there is something to be found.
    refused(abi::SEND, [port.into(), WAIT, 0], Success)?;
    refused(abi::WAIT, [0; 3], Success)?;
    sound(page.events().eq([port]), "an event was not found once")
}

/// What was answered otherwise than the specification allows.
static SURPRISES: AtomicU64 = AtomicU64::new(0);

fn allow(result: Result<(), CallError>, statuses: &[Status]) {
    let fine = match result {
        Ok(()) => true,
        Err(CallError::Status(status)) => statuses.contains(&status),
        Err(_) => false,
    };
    SURPRISES.fetch_add(u64::from(!fine), Ordering::Relaxed);
}

/// What each CPU does in the storm: everything with few ports, and garbage in what it shares.
fn storm(cpu: usize) {
    let page = pv::shared();
    let (this, vcpus) = (this(), smp::count() as u64);
    let whom = [this, other().unwrap_or(this)];
    let mut random = Random::new(this, cpu as u64);
    for _ in 0..ROUNDS {
        let (port, remote) = (random.below(FEW) as u16, random.below(FEW) as u16);
        match random.below(8) {
            0 => {
                let vcpu = smp::apic_id(random.below(vcpus) as usize);
                let result = event::open(port, vcpu, *random.of(&whom));
                allow(result, &[AlreadyDone, NotReady]);
            }
            1 => allow(event::connect(port, remote), &[AlreadyDone, NotReady]),
            2 => allow(event::close(port), &[NotReady]),
            3 => page.mask(random.below(FEW) as u16),
            4 => drop(page.unmask(port)),
            5 => drop(page.events().count()),
            6 => scribble(page, &mut random),
            _ => allow(event::send(port), &[NotReady]),
        }
    }
}

/// Overwrites what the hypervisor and this CPU both write.
fn scribble(page: &'static x86_64::area::SharedPage, random: &mut Random) {
    use core::mem::offset_of;
    use pv_abi::area::VcpuShared;

    let start = &raw const *page as u64;
    for field in [offset_of!(VcpuShared, selector), offset_of!(VcpuShared, pending)] {
        let word = (start + field as u64) as *mut u64;
        // SAFETY: both are atomics of the page, where any value is one.
        unsafe { AtomicU64::from_ptr(word) }.store(random.next(), Ordering::Relaxed);
    }
}

/// Every CPU of this VM, and of another if it is linked and does the same, opens, connects, sends and closes at the
/// same time; after that questions are answered.
fn event_storm() -> Verdict {
    let n = begin();
    SURPRISES.store(0, Ordering::Relaxed);
    flag::enable();
    smp::run_on_all(n, storm);
    flag::disable();
    let verdict = sound(SURPRISES.load(Ordering::Relaxed) == 0, "a call surprises")
        .and_then(|()| (0..FEW as u16).try_for_each(close))
        .and_then(|()| other().map_or(Ok(()), talk));
    end();
    verdict
}

fn close(port: u16) -> Verdict {
    match event::close(port) {
        Ok(()) | Err(CallError::Status(NotReady)) => Ok(()),
        Err(_) => Err(Wrong::Other("a port is not closed")),
    }
}

/// Waits for the event of one port.
fn wait_for(port: u16) -> Verdict {
    while !pv::shared().events().any(|came| came == port) {
        made(event::wait(0), "event.wait is refused")?;
    }
    Ok(())
}

/// Joins with the other VM, and asks it or answers it.
fn talk(other: u64) -> Verdict {
    made(event::open(MEETING, 0, other), "a port is not opened")?;
    let (first, connected) = (this() < other, event::connect(MEETING, MEETING).is_ok());
    // The first question must not come while the other side has not seen that it is connected: both would be one
    // event. So the first waits for one in any case.
    if first || !connected {
        wait_for(MEETING)?;
    }
    if !first && !connected {
        made(event::send(MEETING), "an event is not sent")?;
    }
    for _ in 0..QUESTIONS {
        if !first {
            wait_for(MEETING)?;
        }
        made(event::send(MEETING), "an event is not sent")?;
        if first {
            wait_for(MEETING)?;
        }
    }
    close(MEETING)
}

/// Joins with another VM, and resets itself when that has said something: until the other has ended.
fn resets() -> Verdict {
    let other = other().ok_or(Wrong::Other("there is no link"))?;
    loop {
        match event::open(QUIET, 0, other) {
            Ok(()) | Err(CallError::Status(AlreadyDone)) => {}
            Err(CallError::Status(NotReady)) => return Ok(()),
            Err(_) => return Err(Wrong::Other("a port is not opened")),
        }
        if event::connect(QUIET, QUIET).is_ok() {
            break;
        }
        let _ = sched::yield_now();
    }
    wait_for(QUIET)?;
    let _ = sys::reset();
    Err(Wrong::Other("the guest goes on"))
}

/// Keeps a port open, and answers a VM that resets itself several times.
fn outlives_resets() -> Verdict {
    let other = other().ok_or(Wrong::Other("there is no link"))?;
    made(event::open(QUIET, 0, other), "a port is not opened")?;
    for _ in 0..LIVES {
        while event::send(QUIET).is_err() {
            wait_for(QUIET)?;
        }
        while event::send(QUIET).is_ok() {
            wait_for(QUIET)?;
        }
        println!("@hostile the other VM was reset");
    }
    Ok(())
}

/// Waits for a VM that has nothing to say: when it is gone, nobody can end that.
fn alone() -> Verdict {
    if let Some(other) = other() {
        let _ = event::open(QUIET, 0, other);
    }
    loop {
        let _ = pv::shared().events().count();
        made(event::wait(0), "event.wait is refused")?;
    }
}
