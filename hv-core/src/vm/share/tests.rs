//! VMs that offer, map, unmap, revoke, reset and run in any order, CPUs that keep every translation until
//! they flush, and a model of who may reach what.

use std::collections::BTreeMap;
use std::vec::Vec;

use proptest::prelude::*;
use pv_abi::call::{Number, share};

use super::*;
use crate::hypercall::hypercall;
use crate::vm::ipi::Flush;
use crate::vm::post::Place;
use crate::vm::testing::{Fake, RAM, linked};
use crate::vm::{Gpr, Hardware, Outcome, Vcpu};

const VMS: u8 = 3;
const VCPUS: usize = 2;
/// Numbers of pages, slots and places that are used: few, so that they meet.
const FEW: u64 = 3;

#[derive(Clone, Debug)]
enum Step {
    Offer {
        slot: u64,
        page: u64,
        to: u64,
        access: u64,
    },
    Revoke {
        slot: u64,
    },
    Map {
        of: u64,
        slot: u64,
        index: u64,
    },
    Unmap {
        of: u64,
        slot: u64,
    },
    /// The vCPU begins to run, or exits and looks at what is due.
    Look,
    /// It leaves its CPU.
    Leave,
    /// It reaches for a place of its window.
    Reach {
        index: u64,
        write: bool,
    },
    /// The VM stops, and starts again.
    Reset,
}

fn step() -> impl Strategy<Value = (usize, usize, Step)> {
    let (slot, page, to) = (0..FEW, 1..FEW + 1, 0..u64::from(VMS));
    let reach = || (0..FEW, any::<bool>()).prop_map(|(index, write)| Step::Reach { index, write });
    let step = prop_oneof![
        3 => (slot.clone(), page, to.clone(), 0u64..2)
            .prop_map(|(slot, page, to, access)| Step::Offer { slot, page, to, access }),
        2 => slot.clone().prop_map(|slot| Step::Revoke { slot }),
        4 => (to.clone(), slot.clone(), 0..FEW)
            .prop_map(|(of, slot, index)| Step::Map { of, slot, index }),
        1 => (to, slot).prop_map(|(of, slot)| Step::Unmap { of, slot }),
        4 => Just(Step::Look),
        1 => Just(Step::Leave),
        8 => reach(),
        1 => Just(Step::Reset),
    ];
    (0..usize::from(VMS), 0..VCPUS, step)
}

/// A vCPU, and what the CPU that it is on keeps for it.
struct Runs {
    vcpu: Vcpu,
    hardware: Fake,
    running: bool,
    tlb: BTreeMap<u64, (u64, Access)>,
}

impl Runs {
    fn call(&mut self, number: Number, arguments: &[u64]) -> (Status, u64) {
        let registers = &mut self.vcpu.registers;
        registers.set(Gpr::Rax, number.0);
        for (at, &argument) in [Gpr::Rdi, Gpr::Rsi, Gpr::Rdx, Gpr::Rcx].iter().zip(arguments) {
            registers.set(*at, argument);
        }
        let before = self.hardware.syncs;
        assert_eq!(hypercall(&mut self.vcpu, &mut self.hardware), Outcome::Advance);
        self.forget(before);
        let status = Status::from_code(self.vcpu.registers.get(Gpr::Rax)).expect("a status");
        (status, self.vcpu.registers.get(Gpr::Rdx))
    }

    /// What comes before an entry.
    fn look(&mut self) {
        let before = self.hardware.syncs;
        self.vcpu.post.set_place(Place::Running(1));
        self.hardware.sync_translations(&self.vcpu.vm.generation);
        self.vcpu.settle_flush(&mut self.hardware);
        self.forget(before);
        self.running = true;
    }

    /// The CPU keeps nothing if it has flushed since it had flushed so often. One that waits in a call does what it
    /// is asked meanwhile.
    fn forget(&mut self, before: u32) {
        if self.hardware.syncs != before {
            self.tlb.clear();
        }
    }

    fn leave(&mut self) {
        self.vcpu.post.set_place(Place::Queued);
        self.running = false;
    }

    /// The page that the CPU finds, if it may.
    fn reach(&mut self, gpa: u64, write: bool) -> Option<u64> {
        let table = || self.vcpu.vm.share.as_ref().and_then(|share| share.window.find(gpa));
        if !self.tlb.contains_key(&gpa)
            && let Some(found) = table()
        {
            self.tlb.insert(gpa, found);
        }
        let &(page, access) = self.tlb.get(&gpa)?;
        (!write || access == Access::ReadWrite).then_some(page)
    }
}

/// An offer that is not revoked, as the model has it.
#[derive(Clone, Copy, Debug)]
struct Stands {
    to: u8,
    page: u64,
    write: bool,
    /// Nobody can map it.
    revoked: bool,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]
    #[test]
    fn nobody_reaches_what_is_not_offered(steps in prop::collection::vec(step(), 1..150)) {
        let fresh = |vcpu| {
            let mut hardware = Fake::new();
            hardware.tick = 100_000;
            Runs { vcpu, hardware, running: false, tlb: BTreeMap::new() }
        };
        let mut vms: Vec<Vec<Runs>> = linked(VMS, VCPUS as u32)
            .into_iter()
            .map(|vcpus| vcpus.into_iter().map(fresh).collect())
            .collect();
        let mut stands: BTreeMap<(usize, u64), Stands> = BTreeMap::new();
        for (number, cpu, step) in steps {
            let runs = &mut vms[number][cpu];
            let vm = runs.vcpu.vm;
            match step {
                Step::Offer { slot, page, to, access } => {
                    let (status, _) = runs.call(share::OFFER, &[slot, page * PAGE, to, access]);
                    let expected = if stands.contains_key(&(number, slot)) {
                        Status::AlreadyDone
                    } else if to == number as u64 {
                        Status::Denied
                    } else {
                        Status::Success
                    };
                    prop_assert_eq!(status, expected);
                    if status == Status::Success {
                        let page = vm.memory.locate(page * PAGE, PAGE).unwrap() as u64;
                        let offer = Stands { to: to as u8, page, write: access == 1, revoked: false };
                        stands.insert((number, slot), offer);
                    }
                }
                Step::Revoke { slot } => match runs.call(share::REVOKE, &[slot]).0 {
                    Status::Success => prop_assert!(stands.remove(&(number, slot)).is_some()),
                    Status::Again => stands.get_mut(&(number, slot)).unwrap().revoked = true,
                    status => {
                        prop_assert_eq!(status, Status::NotReady);
                        prop_assert!(!stands.contains_key(&(number, slot)));
                    }
                },
                Step::Map { of, slot, index } => {
                    let (status, gpa) = runs.call(share::MAP, &[of, slot, index]);
                    if status == Status::Success {
                        let offer = stands[&(of as usize, slot)];
                        prop_assert!(usize::from(offer.to) == number && !offer.revoked);
                        prop_assert_eq!(gpa, window(RAM) + index * PAGE);
                    }
                }
                Step::Unmap { of, slot } => {
                    if runs.call(share::UNMAP, &[of, slot]).0 == Status::Success {
                        prop_assert!(stands.contains_key(&(of as usize, slot)));
                    }
                }
                Step::Look => runs.look(),
                Step::Leave => runs.leave(),
                Step::Reach { index, write } if runs.running => {
                    if let Some(page) = runs.reach(window(RAM) + index * PAGE, write) {
                        let may = |offer: &Stands| {
                            usize::from(offer.to) == number
                                && offer.page == page
                                && (!write || offer.write)
                        };
                        prop_assert!(stands.values().any(may), "VM {} reaches {:#x}", number, page);
                    }
                }
                Step::Reach { .. } => {}
                Step::Reset => {
                    for runs in &mut vms[number] {
                        runs.leave();
                        runs.hardware.seen = crate::mem::tlb::Seen::NEVER;
                    }
                    let mut users = vm.take_all_back();
                    while let Some(user) = lowest(&mut users) {
                        let posts = vm.peer(user.into()).unwrap().posts;
                        let mut link = Fake::new();
                        let mut flush = Flush::ask(posts, u64::MAX, &[], None, &mut link);
                        for runs in vms[usize::from(user)].iter_mut().filter(|runs| runs.running) {
                            prop_assert!(flush.missing() != 0, "a CPU in guest mode is not waited for");
                            runs.look();
                        }
                        prop_assert_eq!(flush.missing(), 0);
                    }
                    stands.retain(|&(of, _), _| of != number);
                }
            }
        }
    }
}

/// Offers page 2 of VM 0 to VM 1, which maps it at place 5 and has used it on a CPU.
fn shared() -> (Runs, Runs) {
    let fresh = |vcpu| Runs { vcpu, hardware: Fake::new(), running: false, tlb: BTreeMap::new() };
    let mut vms = linked(2, 1).into_iter().map(|mut vcpus| fresh(vcpus.remove(0)));
    let (mut grantor, mut grantee) = (vms.next().unwrap(), vms.next().unwrap());
    assert_eq!(grantor.call(share::OFFER, &[7, 2 * PAGE, 1, 1]), (Status::Success, 0));
    let gpa = window(RAM) + 5 * PAGE;
    assert_eq!(grantee.call(share::MAP, &[0, 7, 5]), (Status::Success, gpa));
    grantee.look();
    assert!(grantee.reach(gpa, true).is_some());
    (grantor, grantee)
}

#[test]
fn a_revocation_waits_for_those_that_run_and_is_done_when_they_have_looked() {
    let (mut grantor, mut grantee) = shared();
    grantor.hardware.tick = 10_000;
    assert_eq!(grantor.call(share::REVOKE, &[7]), (Status::Again, 1));
    assert_eq!(grantor.hardware.interrupted.len(), 1);
    assert_eq!(grantee.call(share::MAP, &[0, 7, 5]).0, Status::NotReady, "it cannot be had again");
    assert_eq!(grantor.call(share::OFFER, &[7, PAGE, 1, 1]).0, Status::AlreadyDone);
    grantee.leave();
    assert_eq!(grantor.call(share::REVOKE, &[7]), (Status::Success, 0));
    assert_eq!(grantor.call(share::REVOKE, &[7]).0, Status::NotReady);
    grantee.look();
    assert_eq!(grantee.reach(window(RAM) + 5 * PAGE, false), None);
    assert_eq!(grantee.call(share::UNMAP, &[0, 7]).0, Status::NotReady);
}

#[test]
fn of_two_that_revoke_the_same_one_ends_it() {
    let (mut grantor, grantee) = shared();
    let vm = grantor.vcpu.vm;
    let Ok(Revocation::Flush(peer, 1)) = vm.begin_revocation(7) else { panic!("nothing to do") };
    assert!(core::ptr::eq(peer, grantee.vcpu.vm));
    assert_eq!(grantor.call(share::REVOKE, &[7]), (Status::Again, 1), "the other waits");
    vm.revoked(7, 1);
    assert!(matches!(vm.begin_revocation(7), Ok(Revocation::Flush(_, 1))), "it gave up");
    vm.revoked(7, 0);
    assert_eq!(grantor.call(share::REVOKE, &[7]).0, Status::NotReady);
    // What is said of a revocation that is over touches no later offer.
    assert_eq!(grantor.call(share::OFFER, &[7, PAGE, 1, 0]).0, Status::Success);
    vm.revoked(7, 0);
    assert_eq!(grantor.call(share::OFFER, &[7, PAGE, 1, 0]).0, Status::AlreadyDone);
}

#[test]
fn one_that_waits_for_others_does_what_it_is_asked() {
    let (mut grantor, mut grantee) = shared();
    let gpa = window(RAM) + 5 * PAGE;
    assert_eq!(grantee.call(share::OFFER, &[7, 2 * PAGE, 0, 1]).0, Status::Success);
    assert_eq!(grantor.call(share::MAP, &[1, 7, 5]).0, Status::Success);
    grantor.hardware.tick = 10_000;
    assert_eq!(grantor.call(share::REVOKE, &[7]), (Status::Again, 1));
    grantor.leave();
    assert!(grantee.reach(gpa, true).is_some(), "it has not exited");
    assert_eq!(grantee.call(share::REVOKE, &[7]), (Status::Success, 0), "nobody runs there");
    assert_eq!(grantee.reach(gpa, true), None);
    grantee.leave();
    assert_eq!(grantor.call(share::REVOKE, &[7]), (Status::Success, 0));
}

#[test]
fn one_that_is_asked_for_a_flush_does_it_for_nested_mappings_as_well() {
    let (mut grantor, mut grantee) = shared();
    // It has looked at the generation, and not at what it is asked.
    grantee.hardware.sync_translations(&grantee.vcpu.vm.generation);
    grantor.hardware.tick = 10_000;
    assert_eq!(grantor.call(share::REVOKE, &[7]).0, Status::Again);
    let before = grantee.hardware.syncs;
    grantee.vcpu.settle_flush(&mut grantee.hardware);
    assert_eq!((grantee.hardware.syncs, grantee.vcpu.post.flush_owed()), (before + 1, None));
}

#[test]
fn an_offer_that_was_never_mapped_disturbs_nobody() {
    let (mut grantor, grantee) = shared();
    assert_eq!(grantor.call(share::OFFER, &[8, PAGE, 1, 0]).0, Status::Success);
    assert_eq!(grantor.call(share::REVOKE, &[8]), (Status::Success, 0));
    assert!(grantor.hardware.interrupted.is_empty());
    assert_eq!(grantee.vcpu.post.flush_owed(), None);
}

#[test]
fn what_was_given_back_is_still_waited_for_when_it_is_revoked() {
    let (mut grantor, mut grantee) = shared();
    grantor.hardware.tick = 10_000;
    grantee.vcpu.due = u64::MAX;
    assert_eq!(grantee.call(share::UNMAP, &[0, 7]), (Status::Success, 0));
    assert_eq!(grantee.vcpu.due, crate::vm::vcpu::ATTEND, "the caller flushes");
    assert_eq!(grantor.call(share::REVOKE, &[7]), (Status::Again, 1), "others may not have");
}

#[test]
fn a_reset_of_the_grantee_leaves_the_offers() {
    let (grantor, mut grantee) = shared();
    grantee.leave();
    assert_eq!(grantee.vcpu.vm.take_all_back(), 0, "nobody has anything of it");
    grantee.look();
    assert_eq!(grantee.reach(window(RAM) + 5 * PAGE, false), None);
    assert_eq!(grantee.call(share::UNMAP, &[0, 7]).0, Status::NotReady);
    assert_eq!(grantee.call(share::MAP, &[0, 7, 6]).0, Status::Success);
    assert_eq!(grantor.vcpu.vm.take_all_back(), 0b10);
}

#[test]
fn wrong_calls_are_refused_by_the_lowest_status_that_applies() {
    let (mut grantor, mut grantee) = shared();
    let gpa = window(RAM) + 5 * PAGE;
    use Status::*;
    for (arguments, status) in [
        ([256, PAGE + 8, 9, 2], Misaligned),
        ([256, RAM, 9, 2], BadAddress),
        ([256, gpa, 9, 2], BadAddress),
        ([256, !0xfff, 9, 2], BadAddress),
        ([256, PAGE, 1, 0], InvalidArgument),
        ([u64::MAX, PAGE, 1, 0], InvalidArgument),
        ([7, PAGE, 9, 2], InvalidArgument),
        ([7, PAGE, 9, 1 << 32], InvalidArgument),
        ([7, PAGE, 9, 0], AlreadyDone),
        ([8, PAGE, 0, 0], Denied),
        ([8, PAGE, 2, 0], Denied),
        ([8, PAGE, 257, 0], Denied),
        ([8, PAGE, u64::MAX, 0], Denied),
    ] {
        assert_eq!(grantor.call(share::OFFER, &arguments), (status, 0), "{arguments:x?}");
    }
    assert_eq!(grantee.call(share::OFFER, &[0, gpa, 0, 0]).0, BadAddress, "it is not its own");
    for (arguments, status) in [
        ([0, 256, 0], InvalidArgument),
        ([9, 0, 512], InvalidArgument),
        ([9, 0, u64::MAX], InvalidArgument),
        ([9, 0, 5], NotReady),
        ([0, 7, 6], AlreadyDone),
        ([0, 7, 5], AlreadyDone),
        ([0, 8, 6], NotReady),
        ([1, 7, 6], NotReady),
        ([2, 7, 6], NotReady),
        ([256, 7, 6], NotReady),
        ([u64::MAX, 7, 6], NotReady),
    ] {
        assert_eq!(grantee.call(share::MAP, &arguments), (status, 0), "{arguments:x?}");
    }
    for (arguments, status) in [
        ([0, 256], InvalidArgument),
        ([0, 8], NotReady),
        ([1, 7], NotReady),
        ([u64::MAX, 7], NotReady),
    ] {
        assert_eq!(grantee.call(share::UNMAP, &arguments), (status, 0), "{arguments:x?}");
    }
    assert_eq!(grantor.call(share::UNMAP, &[0, 7]).0, NotReady, "it is not offered to itself");
    for (slot, status) in [(256, InvalidArgument), (u64::MAX, InvalidArgument), (8, NotReady)] {
        assert_eq!(grantor.call(share::REVOKE, &[slot]), (status, 0));
    }
    assert!(grantee.reach(gpa, true).is_some(), "nothing has changed");
}

#[test]
fn both_sides_need_the_right_and_the_link() {
    use crate::vm::Options;
    use crate::vm::testing::Setup;
    use spin::Once;

    let rights = Setup::default().options | Options::MAY_SHARE;
    for (links, options) in [
        ([0b10, 0b01], [rights, Setup::default().options]),
        ([0b10, 0b01], [Setup::default().options, rights]),
        ([0, 0], [rights; 2]),
    ] {
        let peers: &'static [_] = Vec::from_iter((0..2).map(|_| Once::new())).leak();
        let mut vcpus: Vec<Vcpu> = (0..2)
            .map(|n| {
                let setup = Setup {
                    number: n as u8,
                    links: links[n],
                    options: options[n],
                    peers,
                    ..Setup::default()
                };
                let vcpu = setup.vcpu();
                peers[n].call_once(|| vcpu.vm);
                vcpu
            })
            .collect();
        let mut one = |n: usize, number, arguments: &[u64]| {
            let mut runs = Runs {
                vcpu: vcpus.remove(n),
                hardware: Fake::new(),
                running: false,
                tlb: BTreeMap::new(),
            };
            let answer = runs.call(number, arguments);
            vcpus.insert(n, runs.vcpu);
            answer
        };
        assert_eq!(one(0, share::OFFER, &[0, PAGE, 1, 0]), (Status::Denied, 0));
        assert_eq!(one(1, share::MAP, &[0, 0, 0]), (Status::NotReady, 0));
        assert_eq!(one(0, share::REVOKE, &[0]), (Status::NotReady, 0));
    }
}
