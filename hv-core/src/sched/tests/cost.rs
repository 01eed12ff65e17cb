//! What a decision costs, in comparisons of two members.

use super::*;

/// Comparisons per decision among so many members.
fn comparisons(members: u64) -> f64 {
    let mut queue = Queue::new(0, members as usize, SLICE);
    for number in 0..members {
        let weight = [64, 128, 256, 512, 1024][number as usize % 5];
        queue.join(Box::new(Member::new(number, weight, SLICE, ANYWHERE)));
    }
    let mut decide = |times| {
        for _ in 0..times {
            let (member, left) = queue.pick().unwrap();
            queue.put_back(member, left);
        }
    };
    decide(4 * members);
    COMPARISONS.set(0);
    let times = 4 * members + 1_000;
    decide(times);
    COMPARISONS.get() as f64 / times as f64
}

#[test]
fn a_decision_costs_the_logarithm_of_the_number_of_members() {
    for members in [10, 100, 1_000, 10_000, 100_000] {
        let (cost, log) = (comparisons(members), (members as f64).log2());
        std::println!("{members} members: {cost:.1} comparisons, {:.2} log2", cost / log);
        assert!(cost <= 3.0 * log + 6.0, "{members} members: {cost}");
    }
}
