//! Every order in which the steps of one who takes a nested mapping away, and waits until no CPU uses it, can
//! fall between those of a vCPU that uses it.

use std::boxed::Box;

use super::{Generation, MustFlush, Seen};
use crate::device::apic::ApicPage;
use crate::vm::post::{Place, Post};

/// Steps of both together.
const STEPS: u32 = 17;

struct World {
    post: Post,
    generation: Generation,
    mapped: bool,
    /// Of who takes the mapping away: the next step, and the number of the flush that it asked for.
    taker: u32,
    asked: u64,
    interrupted: bool,
    /// It knows that nobody uses the mapping.
    gone: bool,
    /// Of the vCPU: the next step, what it owes, and what its CPU has cached.
    user: u32,
    owed: Option<u64>,
    seen: Seen,
    cached: bool,
}

impl World {
    /// The vCPU has used the mapping, and does not run.
    fn new(page: &'static ApicPage) -> World {
        let (generation, mut seen) = (Generation::default(), Seen::NEVER);
        seen.behind(&generation);
        World {
            post: Post::new(0, page),
            generation,
            mapped: true,
            taker: 0,
            asked: 0,
            interrupted: false,
            gone: false,
            user: 0,
            owed: None,
            seen,
            cached: true,
        }
    }

    fn take(&mut self) {
        match self.taker {
            0 => self.mapped = false,
            1 => self.generation.publish(MustFlush::new()),
            2 => self.asked = self.post.ask_flush(),
            _ => {
                self.gone |= self.post.runs_unflushed(self.asked).is_none();
                self.interrupted = true;
                return;
            }
        }
        self.taker += 1;
    }

    fn sync(&mut self) {
        if self.seen.behind(&self.generation) {
            self.cached = false;
        }
    }

    /// `false` if it uses the mapping after it is known to be gone.
    fn run(&mut self, looks_behind_the_count: bool) -> bool {
        match self.user {
            0 => self.post.set_place(Place::Running(1)),
            1 => self.sync(),
            2 => self.owed = self.post.flush_owed(),
            3 if looks_behind_the_count && self.owed.is_some() => self.sync(),
            3 => {}
            4 => {
                if let Some(owed) = self.owed {
                    self.post.flushed(owed);
                }
            }
            5 => {
                self.cached |= self.mapped;
                if self.cached && self.gone {
                    return false;
                }
                if core::mem::take(&mut self.interrupted) {
                    self.user = 1;
                    return true;
                }
            }
            _ => {
                self.post.set_place(Place::Queued);
                self.user = 0;
                return true;
            }
        }
        self.user += 1;
        true
    }
}

/// Whether no order of the steps has the vCPU use what is gone, and in how many orders it is gone at all.
fn explore(looks_behind_the_count: bool) -> (bool, u32) {
    let page: &'static ApicPage = Box::leak(Box::new(ApicPage::new()));
    let (mut sound, mut ended) = (true, 0);
    for order in 0u32..1 << STEPS {
        let mut world = World::new(page);
        for step in 0..STEPS {
            if order >> step & 1 == 0 {
                world.take();
            } else if !world.run(looks_behind_the_count) {
                sound = false;
                break;
            }
        }
        ended += u32::from(world.gone);
    }
    (sound, ended)
}

#[test]
fn what_is_known_to_be_gone_is_used_by_nobody_whatever_the_order() {
    let (sound, ended) = explore(true);
    assert!(sound, "a mapping was used after its end");
    assert!(ended > 1 << (STEPS - 3), "it ended in {ended} orders only");
}

#[test]
fn a_look_at_the_generation_before_the_count_is_not_enough() {
    assert!(!explore(false).0);
}
