//! Messages in memory that two VMs share: both run this.
//!
//! The VM with the lower number asks, or sends; it offers a ring for each direction. The operations of the other
//! are what it has answered, or received.

use core::hint;

use guest_kernel::{frames, pv};
use x86_64::PhysAddr;
use x86_64::area::SharedPage;
use x86_64::event;
use x86_64::share::{self, Access, Message, Receiver, RingPage, Sender};
use x86_64::structures::paging::PhysFrame;

use super::events::{ask, asks, join, made, other, wait};
use crate::measure::Meter;

/// The ports, of which polling needs one for the beginning.
const POLL: u16 = 4;
const STREAM: u16 = 5;
/// The slots of the asker, which are the places of the other's window too: there and back.
const SLOTS: [u8; 2] = [0, 1];
/// One that is offered to see whether anything can be.
const TRIAL: u8 = 2;
/// The first word of the last message.
const END: u64 = u64::MAX;

fn vm(other: u64) -> u8 {
    u8::try_from(other).expect("a link is a bit of 64")
}

fn offer(slot: u8, frame: PhysFrame, other: u64) -> bool {
    let gpa = PhysAddr::new(frame.start_address().as_u64());
    // SAFETY: nothing lives in the frame, or a ring of atomics.
    unsafe { share::offer(slot, gpa, vm(other), Access::ReadWrite) }.is_ok()
}

fn take_back(slot: u8, frame: PhysFrame) {
    made(share::revoke(slot));
    // SAFETY: it came from the allocator; the other VM cannot reach it, and this one is done with it.
    unsafe { frames::free(frame) };
}

/// Whether there is a VM to share with.
pub fn exist() -> bool {
    let Some(other) = other() else {
        return false;
    };
    let frame = frames::allocate();
    let offered = offer(TRIAL, frame, other);
    if offered {
        take_back(TRIAL, frame);
    }
    offered
}

/// The ring at an address of this VM's RAM or window.
fn ring(at: u64) -> &'static RingPage {
    // SAFETY: all below 4 GiB is identity mapped. A ring is made of atomics, so whatever is there and whoever
    // writes it, and be it nothing, the value is valid.
    unsafe { &*(at as *const RingPage) }
}

/// This side's ends of both rings.
struct Ends {
    to: Sender<'static>,
    from: Receiver<'static>,
    shared: &'static SharedPage,
    other: u64,
    port: u16,
    /// The asker's.
    frames: Option<[PhysFrame; 2]>,
}

impl Ends {
    fn begin(port: u16) -> Ends {
        let (other, shared) = (other().expect("the workload exists"), pv::shared());
        let frames = asks(other).then(|| {
            SLOTS.map(|slot| {
                let frame = frames::allocate();
                // SAFETY: the frame is identity mapped, and nobody else's until it is offered.
                unsafe { (frame.start_address().as_u64() as *mut RingPage).write(RingPage::new()) };
                assert!(offer(slot, frame, other), "a ring cannot be offered");
                frame
            })
        });
        // What the other side maps has been offered before it is connected.
        join(shared, port, other);
        let [there, back] = match frames {
            Some(frames) => frames.map(|frame| frame.start_address().as_u64()),
            None => SLOTS.map(|slot| {
                share::map(vm(other), slot, slot.into()).expect("the ring is offered").as_u64()
            }),
        }
        .map(ring);
        let (to, from) = if frames.is_some() { (there, back) } else { (back, there) };
        Ends { to: Sender::new(to), from: Receiver::new(from), shared, other, port, frames }
    }

    fn asks(&self) -> bool {
        self.frames.is_some()
    }

    /// Sends a message to one that polls, which leaves room.
    fn put(&mut self, first: u64) {
        let message = [first, 0, 0, 0, 0, 0, 0, 0];
        self.to.send(&message, || ()).expect("the ring has room");
    }

    /// Polls for a message.
    fn poll(&mut self) -> u64 {
        loop {
            if let Some(message) = self.received() {
                return message[0];
            }
            hint::spin_loop();
        }
    }

    fn received(&mut self) -> Option<Message> {
        self.from.receive().expect("the other side counts right")
    }

    /// Sends a message, and sleeps while there is no room.
    fn send(&mut self, message: &Message) {
        while self.to.send(message, || made(event::send(self.port))).is_err() {
            if self.to.may_sleep() {
                wait(self.shared);
                self.to.awake();
            }
        }
    }

    /// Takes a message, and sleeps while there is none.
    fn receive(&mut self) -> Message {
        loop {
            if let Some(message) = self.received() {
                return message;
            }
            if !self.from.may_sleep() {
                continue;
            }
            if self.from.sender_waits() {
                ask(self.shared, self.port);
            } else {
                wait(self.shared);
            }
            self.from.awake();
        }
    }

    fn end(self) {
        if let Some(frames) = self.frames {
            SLOTS.into_iter().zip(frames).for_each(|(slot, frame)| take_back(slot, frame));
        } else {
            for slot in SLOTS {
                // The other may have taken it back before.
                let _ = share::unmap(vm(self.other), slot);
            }
        }
        // The other may have ended, which has closed it.
        let _ = event::close(self.port);
    }
}

/// A question to a VM on another CPU, and the answer, both found by polling.
pub fn poll(meter: &mut Meter, ops: u64) {
    let mut ends = Ends::begin(POLL);
    if ends.asks() {
        let mut question = 0;
        let mut ask = |question: u64| {
            ends.put(question);
            ends.poll()
        };
        // The first one waits for the other side to begin.
        assert_eq!(ask(0), 0, "a wrong answer");
        meter.section(ops, || {
            question += 1;
            assert_eq!(ask(question), question, "a wrong answer");
        });
        assert_eq!(ask(END), END, "a wrong answer");
    } else {
        let first = ends.poll();
        ends.put(first);
        meter.section_of_time(|| {
            let mut answers = 0;
            loop {
                let question = ends.poll();
                if question == END {
                    return answers;
                }
                ends.put(question);
                answers += 1;
            }
        });
        ends.put(END);
    }
    ends.end();
}

/// Messages of 64 bytes one way, as fast as they go: a receiver without a message sleeps, and so does a sender
/// without room.
pub fn throughput(meter: &mut Meter, ops: u64) {
    let mut ends = Ends::begin(STREAM);
    if ends.asks() {
        let (mut count, mut sum) = (0u64, 0u64);
        meter.section(ops, || {
            count += 1;
            sum = sum.wrapping_add(8 * count);
            ends.send(&[count; 8]);
        });
        ends.send(&[END; 8]);
        assert_eq!(ends.receive()[..2], [count, sum], "a message was lost");
    } else {
        let (mut count, mut sum) = (0u64, 0u64);
        meter.section_of_time(|| {
            loop {
                let message = ends.receive();
                if message[0] == END {
                    return count;
                }
                count += 1;
                sum = message.iter().fold(sum, |sum, word| sum.wrapping_add(*word));
            }
        });
        ends.send(&[count, sum, 0, 0, 0, 0, 0, 0]);
    }
    ends.end();
}
