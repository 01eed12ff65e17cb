//! What a decision of the scheduler costs: `cargo bench -p hv-core --bench sched`.

use std::time::Instant;

use hv_core::sched::{ANYWHERE, Board, CPUS, Member, Queue};
use simulation::{Machine, SLICE, Vcpu};

#[path = "../src/sched/tests/simulation.rs"]
#[expect(dead_code, reason = "the tests look at more of it")]
mod simulation;

const WEIGHTS: [u32; 5] = [64, 128, 256, 512, 1024];

/// The least time of five runs of `times`, in nanoseconds for each.
fn least(times: u64, mut run: impl FnMut()) -> f64 {
    let mut once = || {
        let began = Instant::now();
        (0..times).for_each(|_| run());
        began.elapsed().as_nanos() as f64 / times as f64
    };
    (0..5).map(|_| once()).fold(f64::INFINITY, f64::min)
}

/// The time to put one back, pick the next and publish.
fn one_cpu(members: usize) -> f64 {
    let board = Board::new();
    let mut queue = Queue::new(0, members, SLICE);
    for number in 0..members {
        queue.join(Box::new(Member::new(number, WEIGHTS[number % 5], SLICE, ANYWHERE)));
    }
    let mut decide = || {
        if let Some((member, left)) = queue.pick() {
            queue.put_back(member, left);
            queue.publish(&board);
        }
    };
    (0..4 * members).for_each(|_| decide());
    least(200_000, decide)
}

/// The time of a look at all other CPUs.
fn look() -> f64 {
    let board = Board::new();
    let queues = (0..CPUS).map(|cpu| {
        let mut queue = Queue::new(cpu, 4, SLICE);
        let member = |number| Box::new(Member::new(number, 256, SLICE, ANYWHERE));
        (0..2).for_each(|number| queue.join(member(number)));
        queue.publish(&board);
        queue
    });
    let mut queues: Vec<Queue<usize>> = queues.collect();
    // Nobody is in CPU 1's bit of this, so that each call looks and is not put off.
    least(200_000, || assert_eq!(queues[0].look(&board, 0b10), None))
}

fn main() {
    println!("one CPU: pick, put back, publish");
    println!("{:>8} {:>8} {:>16}", "members", "ns", "ns / log2(n)");
    for members in [10, 100, 1_000, 10_000] {
        let ns = one_cpu(members);
        println!("{members:>8} {ns:>8.0} {:>16.1}", ns / (members as f64).log2());
    }
    println!("a look at {CPUS} CPUs: {:.0} ns", look());
    println!("64 CPUs: a decision, with the events of the simulation");
    println!("{:>8} {:>8} {:>10} {:>8}", "members", "ns", "decisions", "moves");
    for members in [100, 1_000, 10_000] {
        let vcpus: Vec<Vcpu> = (0..members).map(|n| Vcpu::busy(WEIGHTS[n * 7 % 5])).collect();
        let mut machine = Machine::new(CPUS, &vcpus, |n| n);
        machine.run(1_000 * SLICE);
        let (decisions, moves, began) = (machine.decisions, machine.moves, Instant::now());
        machine.run(machine.now + 4_000 * SLICE);
        let (decisions, moves) = (machine.decisions - decisions, machine.moves - moves);
        let ns = began.elapsed().as_nanos() as f64 / decisions as f64;
        println!("{members:>8} {ns:>8.0} {decisions:>10} {moves:>8}");
    }
}
