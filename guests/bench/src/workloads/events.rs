//! Events: between two CPUs, and between two VMs that both run this.

use core::sync::atomic::{AtomicBool, Ordering};

use guest_kernel::pv;
use guest_kernel::smp;
use x86_64::area::SharedPage;
use x86_64::event;
use x86_64::hypercall::CallError;
use x86_64::pv_abi::Status;

use super::smp::{begin, end};
use crate::measure::Meter;

/// The port on either side of a question to another VM.
const MESSAGE: u16 = 1;
/// Those by which the first two CPUs are told.
const THERE: u16 = 2;
const BACK: u16 = 3;

static OVER: AtomicBool = AtomicBool::new(false);

/// The other VM that this one is linked to, the first of several.
pub(super) fn other() -> Option<u64> {
    let links = event::links().ok().filter(|&links| links != 0)?;
    Some(links.trailing_zeros().into())
}

/// Whether there is one.
pub fn is_linked() -> bool {
    other().is_some()
}

pub(super) fn made(result: Result<(), CallError>) {
    if let Err(error) = result {
        panic!("a call was refused: {error}");
    }
}

/// Waits for an event.
pub(super) fn wait(page: &SharedPage) {
    while page.events().count() == 0 {
        made(event::wait(0));
    }
}

/// Waits for one of this port, as an earlier workload's may still come.
fn wait_for(page: &SharedPage, port: u16) {
    while page.events().filter(|&came| came == port).count() == 0 {
        made(event::wait(0));
    }
}

/// Sends an event and waits for one, by one call if the other side answers while this one sleeps.
pub(super) fn ask(page: &SharedPage, port: u16) {
    made(event::send_and_wait(port));
    wait(page);
}

fn answer(_: usize) {
    let page = pv::shared();
    wait(page);
    while !OVER.load(Ordering::Relaxed) {
        ask(page, BACK);
    }
}

/// An event for another CPU, which waits for one, and one back.
pub fn ping_pong(meter: &mut Meter, ops: u64) {
    begin(smp::Wait::Halt);
    let (page, this) = (pv::shared(), event::number().expect("the workload exists"));
    made(event::open(THERE, smp::apic_id(1), this));
    made(event::open(BACK, smp::apic_id(0), this));
    OVER.store(false, Ordering::Relaxed);
    smp::run_on(1, answer);
    meter.section(ops, || ask(page, THERE));
    OVER.store(true, Ordering::Relaxed);
    made(event::send(THERE));
    smp::join(1);
    [THERE, BACK].map(event::close).into_iter().for_each(made);
    end();
}

/// Whether this VM is the one of both that asks: it has the lower number.
pub(super) fn asks(other: u64) -> bool {
    event::number().is_ok_and(|this| this < other)
}

/// Joins ports with another VM that does the same; each workload has its own, which the other may have closed late.
/// One of them asks after that: it waits for the connection that the other has made, or for its word that it has
/// seen this one's, as that and a question would be one event.
pub(super) fn join(page: &SharedPage, port: u16, other: u64) {
    let asks = asks(other);
    made(event::open(port, 0, other));
    let connected = event::connect(port, port).is_ok();
    if asks || !connected {
        wait_for(page, port);
    }
    if !asks && !connected {
        made(event::send(port));
    }
}

/// An event for another VM, which waits for one, and one back. The VM with the higher number answers: its
/// operations are the answers.
pub fn message(meter: &mut Meter, ops: u64) {
    let other = other().expect("the workload exists");
    let page = pv::shared();
    join(page, MESSAGE, other);
    if asks(other) {
        meter.section(ops, || ask(page, MESSAGE));
        made(event::close(MESSAGE));
        return;
    }
    meter.section_of_time(|| {
        let mut answers = 0;
        wait(page);
        loop {
            match event::send_and_wait(MESSAGE) {
                Ok(()) => answers += 1,
                Err(CallError::Status(Status::NotReady)) => return answers,
                Err(error) => panic!("a call was refused: {error}"),
            }
            wait(page);
        }
    });
    // The other may have ended, which has closed it.
    let _ = event::close(MESSAGE);
}
