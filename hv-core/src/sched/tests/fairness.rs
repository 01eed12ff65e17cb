//! Many CPUs: everybody has its share, nobody starves, no CPU is idle in vain (which the machine itself checks).

use proptest::prelude::*;

use super::*;
use simulation::{Machine, Vcpu};

const MIX: [u32; 5] = [64, 128, 256, 512, 1024];

/// The share of a CPU that each of these has if all always run: by weight, but nobody more than one CPU.
fn shares(cpus: usize, vcpus: &[Vcpu]) -> Vec<f64> {
    let weights: Vec<f64> = vcpus.iter().map(|vcpu| f64::from(vcpu.weight)).collect();
    let mut heaviest: Vec<usize> = (0..weights.len()).collect();
    heaviest.sort_by(|&a, &b| weights[b].total_cmp(&weights[a]));
    let (mut left, mut all) = (cpus as f64, weights.iter().sum::<f64>());
    let mut shares = vec![0.0; weights.len()];
    for at in heaviest {
        shares[at] = (left * weights[at] / all).min(1.0);
        (left, all) = (left - shares[at], all - weights[at]);
    }
    shares
}

/// Runs for so many slices. By how much somebody is off its share at most, in slices and as a part of it.
fn off(machine: &mut Machine, cpus: usize, vcpus: &[Vcpu], slices: u64) -> (f64, f64) {
    machine.run(machine.now + slices * SLICE);
    let all = machine.seen.iter().zip(shares(cpus, vcpus));
    all.fold((0.0, 0.0), |(most, part): (f64, f64), (seen, share)| {
        let due = share * slices as f64;
        let off = (seen.had as f64 / SLICE as f64 - due).abs();
        (most.max(off), part.max(off / due))
    })
}

/// Nobody with a share like this waits longer: two slices of its own, as long as they take at that, and the rounds
/// by which its CPU may lead and one more, of this many members, with one in ten spare.
fn longest(share: f64, members: usize) -> u64 {
    let slices = 2.0 / share + (SPREAD + 1) as f64 * members as f64;
    (1.1 * slices * SLICE as f64) as u64
}

#[test]
fn a_thousand_vcpus_have_their_shares_of_64_cpus() {
    let vcpus: Vec<Vcpu> = (0..1_000).map(|n| Vcpu::busy(MIX[n * 7 % 5])).collect();
    // As they come, and all on one CPU first.
    for (first, each) in [(1, 1_000), (0, 200)] {
        let mut machine = Machine::new(64, &vcpus, |n| n * first);
        machine.run(100 * SLICE);
        let (slices, part) = off(&mut machine, 64, &vcpus, each * 1_000 / 64);
        std::println!("{slices:.2} slices, {:.2}%, {} moves", part * 100.0, machine.moves);
        assert!(part < 0.05, "off by {:.2}%", part * 100.0);
        for (seen, share) in machine.seen.iter().zip(shares(64, &vcpus)) {
            assert!(seen.waited <= longest(share, 17), "{} for {share}", seen.waited);
        }
    }
}

#[test]
fn sleepers_and_pinned_ones_take_nothing_from_others() {
    let vcpu = |n: usize| {
        let mut vcpu = Vcpu::busy(MIX[n * 7 % 5]);
        if n.is_multiple_of(3) {
            vcpu.work = SLICE / 10 + n as u64 * 977 % SLICE;
            vcpu.sleep = (1 + n as u64 % 50) * SLICE;
        }
        if n.is_multiple_of(4) {
            vcpu.affinity = 1 << (n / 4 % 64);
        }
        vcpu
    };
    let vcpus: Vec<Vcpu> = (0..1_000).map(vcpu).collect();
    let mut machine = Machine::new(64, &vcpus, |n| n);
    machine.run(100 * SLICE);
    machine.run(machine.now + 4_000 * SLICE);
    // What sleepers leave goes to the others by their weights.
    let all = vcpus.iter().zip(&machine.seen);
    let busy = all.filter(|(vcpu, _)| vcpu.sleep == 0);
    let each: Vec<f64> =
        busy.map(|(vcpu, seen)| seen.had as f64 / f64::from(vcpu.weight)).collect();
    let middle = each.iter().sum::<f64>() / each.len() as f64;
    let part = each.iter().map(|had| (had / middle - 1.0).abs()).fold(0.0, f64::max);
    std::println!("off by {:.2}%, {} moves", part * 100.0, machine.moves);
    assert!(part < 0.05, "off by {:.2}%", part * 100.0);
    for (seen, share) in machine.seen.iter().zip(shares(64, &vcpus)) {
        assert!(seen.waited <= longest(share, 17), "{} for {share}", seen.waited);
    }
}

#[test]
fn who_wakes_up_runs_soon_among_a_thousand() {
    let vcpu = |n: usize| {
        let often = (SLICE / 2, (10 + n as u64 % 17) * SLICE);
        let (work, sleep) = if n.is_multiple_of(2) { often } else { (u64::MAX, 0) };
        Vcpu { work, sleep, ..Vcpu::busy(NORMAL) }
    };
    let vcpus: Vec<Vcpu> = (0..1_000).map(vcpu).collect();
    let mut machine = Machine::new(64, &vcpus, |n| n);
    machine.run(200 * SLICE);
    machine.run(machine.now + 2_000 * SLICE);
    let woken = machine.seen.iter().step_by(2).map(|seen| seen.woken).max().unwrap();
    std::println!("{:.3} slices", woken as f64 / SLICE as f64);
    // An eighth of what a slice takes at its share: only others that woke up are due before.
    assert!(woken <= 17 * SLICE / 8, "{woken}");
}

#[test]
fn few_vcpus_have_their_shares_of_few_cpus() {
    // The first two weigh more than the others, or not.
    for (cpus, vcpus, heavy) in [(2, 3, 1), (2, 4, 8), (4, 5, 1), (4, 5, 8)] {
        let weight = |n| if n < 2 { heavy * NORMAL } else { NORMAL };
        let vcpus: Vec<Vcpu> = (0..vcpus).map(|n| Vcpu::busy(weight(n))).collect();
        for first in [1, 0] {
            let mut machine = Machine::new(cpus, &vcpus, |n| n * first);
            machine.run(100 * SLICE);
            let (slices, part) = off(&mut machine, cpus, &vcpus, 1_000);
            std::println!("{cpus}/{}: {slices:.2} slices, {:.2}%", vcpus.len(), part * 100.0);
            assert!(part < 0.01, "{cpus}/{}: off by {:.2}%", vcpus.len(), part * 100.0);
        }
    }
}

#[test]
fn a_cpu_that_was_idle_neither_gains_nor_loses() {
    // Four of seven sleep, so that CPUs are idle, and then all want to run.
    let vcpu = |n| match n {
        0..3 => Vcpu::busy(NORMAL),
        _ => Vcpu { work: 1, sleep: 50_000 * SLICE, ..Vcpu::busy(NORMAL) },
    };
    let mut vcpus: Vec<Vcpu> = (0..7).map(vcpu).collect();
    let mut machine = Machine::new(4, &vcpus, |n| n);
    machine.run(40_000 * SLICE);
    vcpus.fill(Vcpu::busy(NORMAL));
    machine.work(&vcpus);
    machine.run(50_001 * SLICE);
    let (slices, _) = off(&mut machine, 4, &vcpus, 100);
    std::println!("{slices:.2} slices");
    assert!(slices < (SPREAD + 2) as f64, "off by {slices} slices");
}

#[test]
fn who_has_halted_for_long_owes_no_more_than_a_slice() {
    // One on each CPU, and the first works a little and often. After a long time a third wants to run, then all do.
    let often = Vcpu { work: SLICE / 16, sleep: SLICE, ..Vcpu::busy(NORMAL) };
    let late = Vcpu { work: 1, sleep: 20_000 * SLICE, ..Vcpu::busy(NORMAL) };
    let mut vcpus = [often, Vcpu::busy(NORMAL), late];
    let mut machine = Machine::new(2, &vcpus, |n| n);
    machine.run(19_000 * SLICE);
    vcpus[2] = Vcpu::busy(NORMAL);
    machine.work(&vcpus);
    machine.run(20_001 * SLICE);
    vcpus[0] = Vcpu::busy(NORMAL);
    machine.work(&vcpus);
    machine.run(20_003 * SLICE);
    let (slices, _) = off(&mut machine, 2, &vcpus, 100);
    std::println!("{slices:.2} slices");
    assert!(slices < (SPREAD + 2) as f64, "off by {slices} slices");
}

#[test]
fn a_call_to_a_cpu_that_is_joined_meanwhile_reaches_another() {
    // The first waits on CPU 0 for the second, which may run nowhere else. CPU 1 is called, and the third joins it.
    let all = [u64::MAX, 0b01, 0b10];
    let vcpus = all.map(|affinity| Vcpu { affinity, ..Vcpu::busy(NORMAL) });
    let mut machine = Machine::new(4, &vcpus, |n| n);
    machine.run(10 * SLICE);
    assert!(machine.seen.iter().all(|seen| seen.had == 10 * SLICE));
}

fn weights() -> impl Strategy<Value = u32> {
    prop_oneof![Just(NORMAL), 64_u32..=1024]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_few_have_their_shares(cpus in 1_usize..=4, weights in prop::collection::vec(weights(), 1..=9)) {
        let vcpus: Vec<Vcpu> = weights.into_iter().map(Vcpu::busy).collect();
        let mut machine = Machine::new(cpus, &vcpus, |n| n);
        machine.run(100 * SLICE);
        let (slices, part) = off(&mut machine, cpus, &vcpus, 2_000);
        prop_assert!(part < 0.05, "off by {slices} slices, {:.2}%", part * 100.0);
    }

    #[test]
    fn nobody_starves(
        cpus in 1_usize..=4,
        all in prop::collection::vec(
            (16_u32..=4096, any::<u64>(), 1..4 * SLICE, prop_oneof![Just(0), 1..20 * SLICE]), 1..=9),
    ) {
        let vcpu = |&(weight, mask, work, sleep): &(u32, u64, u64, u64)| {
            let affinity = mask & ((1 << cpus) - 1);
            let affinity = if affinity == 0 { u64::MAX } else { affinity };
            let work = if sleep == 0 { u64::MAX } else { work };
            Vcpu { weight, affinity, work, sleep }
        };
        let vcpus: Vec<Vcpu> = all.iter().map(vcpu).collect();
        let mut machine = Machine::new(cpus, &vcpus, |n| n);
        machine.run(1_000 * SLICE);
        // It is as if all were on one CPU, at worst.
        for (seen, share) in machine.seen.iter().zip(shares(1, &vcpus)) {
            prop_assert!(seen.waited <= longest(share, vcpus.len()), "{} for {share}", seen.waited);
        }
    }
}
