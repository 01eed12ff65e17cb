use std::vec;
use std::vec::Vec;

use super::*;

const SLICE: u64 = 10_000;

/// A CPU with a clock of its own, whose vCPUs run until their slices are over.
struct Cpu {
    queue: Queue,
    had: Vec<u64>,
    clock: u64,
}

impl Cpu {
    fn new(weights: &[u32]) -> Cpu {
        let mut queue = Queue::new(weights.len() + 1);
        for (id, &weight) in weights.iter().enumerate() {
            queue.join(Member::new(id as u32, weight, SLICE));
        }
        Cpu { queue, had: vec![0; weights.len() + 1], clock: 0 }
    }

    /// Runs the next for `most` ticks at most; who it was.
    fn turn(&mut self, most: u64) -> u32 {
        let member = self.queue.pick().unwrap();
        let (id, ticks) = (member.id, member.left().min(most));
        self.had[id as usize] += ticks;
        self.clock += ticks;
        self.queue.put_back(member, ticks);
        id
    }
}

#[test]
fn equals_take_turns() {
    let mut cpu = Cpu::new(&[NORMAL; 4]);
    let turns: Vec<u32> = (0..12).map(|_| cpu.turn(SLICE)).collect();
    assert_eq!(turns, [0, 1, 2, 3, 0, 1, 2, 3, 0, 1, 2, 3]);
}

#[test]
fn time_is_shared_by_weight_and_nobody_is_ever_far_from_its_share() {
    let weights: Vec<u32> = (0..40).map(|i| [16, 100, 256, 300, 1024, 4096][i % 6]).collect();
    let all: u64 = weights.iter().map(|&weight| u64::from(weight)).sum();
    let mut cpu = Cpu::new(&weights);
    for turn in 0..40_000 {
        cpu.turn(1 + turn * 7919 % SLICE);
        for (&had, &weight) in cpu.had.iter().zip(&weights) {
            let share = u128::from(cpu.clock) * u128::from(weight) / u128::from(all);
            let lag = share as i128 - i128::from(had);
            assert!(lag.abs() <= i128::from(SLICE) + 1, "off by {lag} after turn {turn}");
        }
    }
}

#[test]
fn a_slice_that_is_cut_short_goes_on() {
    let mut cpu = Cpu::new(&[NORMAL; 2]);
    assert_eq!(cpu.turn(SLICE / 4), 0);
    let turns: Vec<u32> = (0..4).map(|_| cpu.turn(SLICE)).collect();
    assert_eq!(turns, [1, 0, 0, 1], "first the other, then the rest of the slice");
    assert_eq!(cpu.had[..2], [2 * SLICE, 2 * SLICE]);
}

#[test]
fn who_wakes_up_runs_before_those_that_run_all_the_time() {
    let mut cpu = Cpu::new(&[NORMAL; 8]);
    let sleeper = Member::new(8, NORMAL, SLICE);
    cpu.queue.join(sleeper);
    for _ in 0..100 {
        cpu.turn(SLICE);
    }
    let mut member = loop {
        let member = cpu.queue.pick().unwrap();
        if member.id == 8 {
            break cpu.queue.leave(member, 10);
        }
        cpu.queue.put_back(member, SLICE);
    };
    for _ in 0..50 {
        // Away for much longer than its share would take.
        for _ in 0..40 {
            cpu.turn(SLICE);
        }
        cpu.queue.join(member);
        let next = cpu.queue.pick().unwrap();
        assert_eq!(next.id, 8, "the shortest wish has the earliest deadline");
        assert!(next.left() <= SLICE / WAKE);
        member = cpu.queue.leave(next, 10);
    }
}

#[test]
fn sleep_neither_saves_up_time_nor_forgives_it() {
    let mut cpu = Cpu::new(&[NORMAL; 2]);
    cpu.queue.join(Member::new(2, NORMAL, SLICE));
    // It runs for its whole slice and a moment more, leaves, and is back at once.
    let mut had = 0;
    for _ in 0..3_000 {
        let member = cpu.queue.pick().unwrap();
        if member.id == 2 {
            let ticks = member.left() + 5;
            had += ticks;
            cpu.clock += ticks;
            let away = cpu.queue.leave(member, ticks);
            cpu.queue.join(away);
        } else {
            cpu.clock += SLICE;
            cpu.queue.put_back(member, SLICE);
        }
    }
    assert!(had <= cpu.clock / 3 + 2 * SLICE, "{had} of {}", cpu.clock);
    // And after a long sleep it has no more than a share from then on.
    let member = loop {
        let member = cpu.queue.pick().unwrap();
        if member.id == 2 {
            break cpu.queue.leave(member, 1);
        }
        cpu.queue.put_back(member, SLICE);
    };
    for _ in 0..1_000 {
        cpu.turn(SLICE);
    }
    cpu.queue.join(member);
    cpu.had.fill(0);
    for _ in 0..300 {
        cpu.turn(SLICE);
    }
    let most = cpu.had.iter().max().unwrap();
    assert!(cpu.had.iter().all(|had| most - had <= SLICE + SLICE / WAKE), "{:?}", cpu.had);
}

#[test]
fn all_others_run_after_one_has_given_way() {
    let mut cpu = Cpu::new(&[NORMAL; 5]);
    for _ in 0..100 {
        let member = cpu.queue.pick().unwrap();
        let giver = member.id;
        cpu.queue.give_way(member, 3);
        let mut others: Vec<u32> = (0..4).map(|_| cpu.turn(SLICE)).collect();
        others.sort_unstable();
        assert!(!others.contains(&giver), "{giver} is back before its turn: {others:?}");
    }
}

#[test]
fn a_cpu_never_waits_while_somebody_can_run() {
    let mut queue = Queue::new(1);
    queue.join(Member::new(0, 4096, SLICE));
    for _ in 0..100 {
        let member = queue.pick().unwrap();
        assert!(queue.is_empty());
        queue.put_back(member, SLICE);
    }
    let member = queue.pick().unwrap();
    let _ = queue.leave(member, 1);
    assert!(queue.is_empty() && queue.pick().is_none());
}

#[test]
fn weights_out_of_range_are_brought_into_it() {
    for weight in [0, 1, u32::MAX] {
        let mut cpu = Cpu::new(&[weight, NORMAL]);
        for _ in 0..100 {
            cpu.turn(SLICE);
        }
        assert!(cpu.had[0] > 0 && cpu.had[1] > 0);
    }
}
