//! Who goes to which CPU.

use super::*;

fn member(number: usize, affinity: u64) -> Box<Member<usize>> {
    Box::new(Member::new(number, NORMAL, SLICE, affinity))
}

/// CPUs, on each of which so many of normal weight want to run, and all of which have published.
fn cpus(members: &[usize]) -> (Board, Vec<Queue<usize>>) {
    let board = Board::new();
    let mut queues: Vec<Queue<usize>> =
        (0..members.len()).map(|cpu| Queue::new(cpu, 16, SLICE)).collect();
    for (queue, &members) in queues.iter_mut().zip(members) {
        (0..members).for_each(|number| queue.join(member(number, ANYWHERE)));
    }
    // The idle ones are the last, so that nobody calls them.
    queues.iter_mut().filter(|queue| !queue.is_empty()).for_each(|queue| _ = queue.publish(&board));
    queues.iter_mut().filter(|queue| queue.is_empty()).for_each(|queue| _ = queue.publish(&board));
    (board, queues)
}

/// So many slices pass on a CPU.
fn pass(queue: &mut Queue<usize>, board: &Board, slices: usize) {
    for _ in 0..slices {
        let (member, _) = queue.pick().unwrap();
        queue.put_back(member, SLICE);
    }
    queue.publish(board);
}

#[test]
fn who_wakes_up_goes_where_it_was_if_that_is_idle_or_nothing_else_is() {
    let (board, _) = cpus(&[1, 0, 0, 3]);
    assert_eq!(board.place(2, ANYWHERE), 2);
    assert_eq!(board.place(2, ANYWHERE), 1, "an idle CPU is given away once");
    assert_eq!(board.place(2, ANYWHERE), 2);
    assert_eq!(board.place(3, ANYWHERE), 3);
}

#[test]
fn who_is_preferred_comes_from_another_cpu_if_it_may() {
    let (_, mut queues) = cpus(&[2, 3]);
    queues[1].join(member(7, 0b0010));
    queues[1].join(member(8, ANYWHERE));
    let mut take = |who| queues[1].take_preferred(0, &|&other| other == who);
    assert!(take(7).is_none(), "it has to stay");
    assert!(take(9).is_none(), "it is not there");
    let taken = take(8).unwrap();
    queues[0].receive(taken);
    assert_eq!(queues[0].prefer(0, &|&who| who == 8).unwrap().0.payload, 8);
    assert_eq!((queues[0].len(), queues[1].len()), (2, 4));
}

#[test]
fn who_wakes_up_goes_only_where_it_may() {
    let (board, _) = cpus(&[1, 0, 2, 3]);
    assert_eq!(board.place(1, 0b1101), 0, "the least weight");
    assert_eq!(board.place(1, 0b1100), 2);
    assert_eq!(board.place(3, 0b1010), 1);
    assert_eq!(board.place(3, 0b1010), 3);
    assert_eq!(board.place(0, 1 << 9), 9, "one that has not published");
}

#[test]
fn idle_cpus_are_called_if_somebody_waits_who_may_go_there() {
    let (board, mut queues) = cpus(&[0, 0, 0, 0]);
    queues[0].join(member(0, 0b0001));
    queues[0].join(member(1, 0b0011));
    let _running = queues[0].pick();
    assert_eq!(queues[0].publish(&board), 0b0010);
    assert_eq!(queues[0].publish(&board), 0, "it was called already");
    queues[0].join(member(2, ANYWHERE));
    queues[0].join(member(3, 0b0001));
    assert_eq!(queues[0].publish(&board), 0b1100);
}

#[test]
fn an_idle_cpu_takes_somebody_at_once() {
    let (board, mut queues) = cpus(&[2, 0]);
    let _running = queues[0].pick();
    queues[0].publish(&board);
    assert_eq!(queues[1].look(&board, 0), Some(0));
    assert_eq!(queues[1].look(&board, 0b01), None, "it was tried");
    let taken = queues[0].take_movable(1).unwrap();
    assert!(queues[0].take_movable(1).is_none());
    queues[1].receive(taken);
    assert!(queues[1].pick().is_some());
}

#[test]
fn a_cpu_that_leads_by_a_round_takes_from_the_slowest() {
    let (board, mut queues) = cpus(&[2, 4, 3]);
    pass(&mut queues[1], &board, 8);
    pass(&mut queues[2], &board, 7);
    pass(&mut queues[0], &board, 5);
    assert_eq!(queues[0].look(&board, 0), None, "half a round");
    pass(&mut queues[0], &board, 2);
    assert_eq!(queues[0].look(&board, 0), Some(1));
    assert_eq!(queues[1].look(&board, 0), None, "the slowest has nobody to help");
    assert_eq!(queues[2].look(&board, 0), None);
}

#[test]
fn a_cpu_with_more_weight_takes_from_nobody() {
    let (board, mut queues) = cpus(&[4, 2]);
    pass(&mut queues[0], &board, 40);
    assert_eq!(queues[0].look(&board, 0), None);
}

#[test]
fn a_cpu_looks_once_in_a_round() {
    let (board, mut queues) = cpus(&[2, 2]);
    pass(&mut queues[0], &board, 8);
    assert_eq!(queues[0].look(&board, 0), None, "both have the same weight");
    queues[1].join(member(2, ANYWHERE));
    queues[1].publish(&board);
    pass(&mut queues[0], &board, 1);
    assert_eq!(queues[0].look(&board, 0), None, "half a round later");
    pass(&mut queues[0], &board, 1);
    assert_eq!(queues[0].look(&board, 0), Some(1));
    pass(&mut queues[0], &board, 1);
    assert_eq!(queues[0].look(&board, 0), Some(1), "it has taken somebody and looks again");
}

#[test]
fn a_cpu_that_was_idle_is_not_behind() {
    let (board, mut queues) = cpus(&[4, 2, 0]);
    pass(&mut queues[0], &board, 40);
    pass(&mut queues[1], &board, 20);
    assert_eq!(queues[1].look(&board, 0), None, "both are at the same time");
    (0..3).for_each(|number| queues[2].join(member(number, ANYWHERE)));
    queues[2].publish(&board);
    pass(&mut queues[1], &board, 2);
    assert_eq!(queues[1].look(&board, 0), None, "it owes nothing for the time before");
    pass(&mut queues[1], &board, 2);
    assert!(queues[1].look(&board, 0).is_some());
}

#[test]
fn who_moves_keeps_what_it_had_and_was_to_have() {
    let (board, mut queues) = cpus(&[1, 3]);
    pass(&mut queues[1], &board, 3);
    pass(&mut queues[0], &board, 3);
    let (running, _) = queues[1].pick().unwrap();
    assert_eq!(queues[0].look(&board, 0), Some(1));
    let taken = queues[1].take_movable(0).unwrap();
    queues[1].put_back(running, SLICE);
    let number = taken.payload;
    assert_eq!(taken.left(), SLICE);
    queues[0].receive(taken);
    // The other has had three slices, this one has had one.
    let mut turns = vec![];
    for _ in 0..4 {
        let (member, left) = queues[0].pick().unwrap();
        turns.push(if number == member.payload { 'm' } else { 'o' });
        queues[0].put_back(member, left);
    }
    assert_eq!(turns[..2], ['m', 'm'], "{turns:?}");
}

#[test]
fn only_who_may_run_there_is_taken() {
    let mut queue = Queue::new(0, 8, SLICE);
    for (number, affinity) in [0b0001, 0b0011, 0b0101, 0b0101, ANYWHERE].into_iter().enumerate() {
        queue.join(member(number, affinity));
    }
    let taken: Vec<usize> = [2, 3, 3, 2, 2, 1]
        .into_iter()
        .filter_map(|cpu| Some(queue.take_movable(cpu)?.payload))
        .collect();
    assert_eq!(taken, [2, 4, 3, 1]);
    assert_eq!(queue.len(), 1);
    assert!((1..64).all(|cpu| queue.take_movable(cpu).is_none()));
    assert_eq!(queue.pick().unwrap().0.payload, 0);
}

#[test]
fn nothing_is_allocated_after_new() {
    let mut queue = Queue::new(0, 4, SLICE);
    for number in 0..4 {
        queue.join(member(number, if number == 3 { 0b1 } else { 0b11 }));
    }
    let before = queue.capacity();
    for round in 0..1_000 {
        let (member, _) = queue.pick().unwrap();
        if round % 3 == 0 {
            queue.give_way(member, 5)
        } else {
            queue.put_back(member, SLICE)
        }
        if let Some(member) = queue.take_movable([1, 2][round % 2]) {
            queue.receive(member);
        }
    }
    assert_eq!(queue.capacity(), before);
}
