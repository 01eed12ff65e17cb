//! One CPU.

use proptest::prelude::*;

use super::*;
use crate::sched::member::ahead;

/// A CPU with a clock of its own, whose vCPUs run until their slices are over. There is one more than there
/// are weights, of normal weight, which is away.
struct Cpu {
    queue: Queue<usize>,
    away: Option<Box<Member<usize>>>,
    had: Vec<u64>,
    clock: u64,
}

impl Cpu {
    fn new(weights: &[u32]) -> Cpu {
        let mut queue = Queue::new(0, weights.len() + 1, SLICE);
        let member = |(number, weight)| Box::new(Member::new(number, weight, SLICE, ANYWHERE));
        weights.iter().copied().enumerate().for_each(|of| queue.join(member(of)));
        let away = Some(member((weights.len(), NORMAL)));
        Cpu { queue, away, had: vec![0; weights.len() + 1], clock: 0 }
    }

    /// Runs the next for `most` ticks at most; who it was.
    fn turn(&mut self, most: u64) -> usize {
        let (member, left) = self.queue.pick().unwrap();
        let (number, ticks) = (member.payload, left.min(most));
        self.had[number] += ticks;
        self.clock += ticks;
        self.queue.put_back(member, ticks);
        number
    }

    /// Others run until it is this one's turn; it runs for so long and leaves.
    fn leaves(&mut self, who: usize, ticks: u64) {
        loop {
            let (member, _) = self.queue.pick().unwrap();
            if member.payload == who {
                return self.leave(member, ticks);
            }
            self.queue.put_back(member, SLICE);
        }
    }

    fn leave(&mut self, mut member: Box<Member<usize>>, ticks: u64) {
        self.queue.leave(&mut member, ticks);
        self.away = Some(member);
    }

    fn joins(&mut self) {
        self.queue.join(self.away.take().unwrap());
    }

    /// If time has gone back: who might start still may, so the order hangs on when each was looked at. All are looked
    /// at now.
    fn line_up_anew(&mut self, before: u64) {
        if ahead(self.queue.time, before) < 0 {
            let waiting = core::iter::from_fn(|| self.queue.pick());
            let mut waiting: Vec<_> = waiting.map(|(member, _)| member).collect();
            waiting.sort_by_key(|member| member.payload);
            waiting.into_iter().for_each(|member| self.queue.insert(member));
        }
    }
}

#[test]
fn equals_take_turns() {
    let mut cpu = Cpu::new(&[NORMAL; 4]);
    let turns: Vec<usize> = (0..12).map(|_| cpu.turn(SLICE)).collect();
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
fn who_is_preferred_runs_next_and_others_have_their_shares_all_the_same() {
    let mut cpu = Cpu::new(&[NORMAL; 4]);
    let (member, _) = cpu.queue.pick().unwrap();
    cpu.queue.give_way(member, 1);
    assert!(cpu.queue.prefer(0, &|&who| who == 4).is_none(), "it is away");
    // Each time one gives way it would have the last of all run.
    let mut refused = 0;
    for turn in 0..400 {
        let preferred = cpu.queue.prefer(0, &|&who| who == 3);
        refused += u32::from(preferred.is_none());
        let (member, left) = preferred.unwrap_or_else(|| cpu.queue.pick().unwrap());
        cpu.had[member.payload] += left;
        cpu.clock += left;
        cpu.queue.put_back(member, left);
        // It is a slice ahead when it is preferred, and has another one then.
        let ahead = cpu.had[3] as i64 - (cpu.clock / 4) as i64;
        assert!(ahead <= 2 * SLICE as i64, "{ahead} ahead after turn {turn}");
        assert!(turn > 0 || cpu.had[3] == SLICE, "it ran first");
    }
    assert!(refused > 250, "{refused}");
    assert!(
        cpu.had[..3].iter().all(|had| had.abs_diff(cpu.clock / 4) <= 2 * SLICE),
        "{:?}",
        cpu.had
    );
}

#[test]
fn a_slice_that_is_cut_short_goes_on() {
    let mut cpu = Cpu::new(&[NORMAL; 2]);
    assert_eq!(cpu.turn(SLICE / 4), 0);
    let turns: Vec<usize> = (0..4).map(|_| cpu.turn(SLICE)).collect();
    assert_eq!(turns, [1, 0, 1, 0], "first the other, then the rest of the slice");
    assert_eq!(cpu.had[..2], [2 * SLICE, 2 * SLICE]);
}

#[test]
fn who_wakes_up_runs_before_those_that_run_all_the_time() {
    let mut cpu = Cpu::new(&[NORMAL; 8]);
    cpu.joins();
    for _ in 0..100 {
        cpu.turn(SLICE);
    }
    cpu.leaves(8, 10);
    for _ in 0..50 {
        // Away for much longer than its share would take.
        for _ in 0..40 {
            cpu.turn(SLICE);
        }
        cpu.joins();
        let (next, left) = cpu.queue.pick().unwrap();
        assert_eq!(next.payload, 8, "the shortest wish has the earliest deadline");
        assert!(left <= SLICE / 8);
        cpu.leave(next, 10);
    }
}

#[test]
fn sleep_neither_saves_up_time_nor_forgives_it() {
    let mut cpu = Cpu::new(&[NORMAL; 2]);
    cpu.joins();
    // It runs for what it may and a moment more, leaves, and is back at once.
    let mut had = 0;
    for _ in 0..3_000 {
        let (member, left) = cpu.queue.pick().unwrap();
        if member.payload == 2 {
            had += left + 5;
            cpu.clock += left + 5;
            cpu.leave(member, left + 5);
            cpu.joins();
        } else {
            cpu.clock += SLICE;
            cpu.queue.put_back(member, SLICE);
        }
    }
    assert!(had <= cpu.clock / 3 + 2 * SLICE, "{had} of {}", cpu.clock);
    assert!(had >= cpu.clock / 3 - 2 * SLICE, "{had} of {}", cpu.clock);
    // And after a long sleep it has no more than a share from then on.
    cpu.leaves(2, 1);
    for _ in 0..1_000 {
        cpu.turn(SLICE);
    }
    cpu.joins();
    cpu.had.fill(0);
    for _ in 0..300 {
        cpu.turn(SLICE);
    }
    let most = cpu.had.iter().max().unwrap();
    assert!(cpu.had.iter().all(|had| most - had <= 2 * SLICE), "{:?}", cpu.had);
}

#[test]
fn all_others_run_after_one_has_given_way() {
    let mut cpu = Cpu::new(&[NORMAL; 5]);
    for _ in 0..100 {
        let (member, _) = cpu.queue.pick().unwrap();
        let giver = member.payload;
        cpu.queue.give_way(member, 3);
        let others: Vec<usize> = (0..4).map(|_| cpu.turn(SLICE)).collect();
        assert!(!others.contains(&giver), "{giver} is back before its turn: {others:?}");
    }
}

#[test]
fn virtual_time_may_wrap_around() {
    // Both give way at once, with slices that are most of a wrap: time passes much faster than the clock.
    let mut queue = Queue::new(0, 2, SLICE);
    for number in 0..2 {
        queue.join(Box::new(Member::new(number, 16, 1 << 55, ANYWHERE)));
    }
    let mut turns = [0_u32; 2];
    for _ in 0..10_000 {
        let (member, _) = queue.pick().unwrap();
        turns[member.payload] += 1;
        queue.give_way(member, 1);
    }
    assert!(turns[0].abs_diff(turns[1]) <= 1, "{turns:?}");
}

#[test]
fn a_cpu_never_waits_while_somebody_can_run() {
    let mut cpu = Cpu::new(&[4096]);
    for _ in 0..100 {
        let (member, _) = cpu.queue.pick().unwrap();
        assert!(cpu.queue.is_empty());
        cpu.queue.put_back(member, SLICE);
        assert_eq!(cpu.queue.len(), 1);
    }
    cpu.leaves(0, 1);
    assert!(cpu.queue.is_empty() && cpu.queue.pick().is_none());
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

/// What happens next to the one that runs.
#[derive(Clone, Copy, Debug)]
enum Next {
    GoesOn,
    GivesWay,
    Leaves,
    Joins,
}

proptest! {
    /// One that goes on is put back and the first is picked, whether it is done in one step or in two.
    #[test]
    fn a_turn_is_a_return_and_a_choice(
        weights in prop::collection::vec(1u32..4096, 1..6),
        steps in prop::collection::vec(
            (prop_oneof![Just(Next::GoesOn), Just(Next::GivesWay), Just(Next::Leaves), Just(Next::Joins)], 0..2 * SLICE),
            0..200,
        ),
    ) {
        let mut cpus = [Cpu::new(&weights), Cpu::new(&weights)];
        let mut running = cpus.each_mut().map(|cpu| cpu.queue.pick());
        let mut away = [Vec::new(), Vec::new()];
        for (next, ticks) in steps {
            for two in [false, true] {
                let (cpu, away) = (&mut cpus[usize::from(two)], &mut away[usize::from(two)]);
                let (now, before) = (&mut running[usize::from(two)], cpu.queue.time);
                *now = match (now.take(), next) {
                    (Some((mut member, _)), Next::Leaves) => {
                        cpu.queue.leave(&mut member, ticks);
                        away.push(member);
                        cpu.line_up_anew(before);
                        cpu.queue.pick()
                    }
                    (now, Next::Joins) => {
                        let mut begins = None;
                        if let Some(mut member) = away.pop() {
                            let left = if two { None } else { cpu.queue.begin(&mut member) };
                            match left {
                                Some(left) => begins = Some((member, left)),
                                None => cpu.queue.join(member),
                            }
                            cpu.line_up_anew(before);
                        }
                        now.or(begins).or_else(|| cpu.queue.pick())
                    }
                    (Some((member, _)), Next::GoesOn) if two => {
                        cpu.queue.put_back(member, ticks);
                        cpu.queue.pick()
                    }
                    (Some((member, _)), _) if two => {
                        cpu.queue.give_way(member, ticks);
                        cpu.queue.pick()
                    }
                    (Some((mut member, _)), next) => {
                        cpu.queue.settle(&mut member, ticks, matches!(next, Next::GivesWay));
                        let number = member.payload;
                        let mut put_away = None;
                        let next = cpu.queue.turn(member, None, |member| put_away = Some(member.payload));
                        prop_assert_eq!(put_away, (next.0.payload != number).then_some(number));
                        Some(next)
                    }
                    (None, _) => cpu.queue.pick(),
                };
            }
            let seen = running.each_ref().map(|now| now.as_ref().map(|(member, left)| (member.payload, *left)));
            prop_assert_eq!(seen[0], seen[1]);
            prop_assert_eq!(cpus[0].queue.len(), cpus[1].queue.len());
        }
    }
}
