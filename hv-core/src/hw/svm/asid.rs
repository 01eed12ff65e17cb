//! ASIDs: the tags that keep the translations of guests apart in a CPU's TLB (APM vol. 2, TLB
//! Control). Each CPU gives out its own. A guest whose translations must go gets a new one, which no
//! translation has, where the CPU cannot flush one ASID alone; when they run out, everything is
//! flushed and a new generation starts.

use super::vmcb::{TLB_FLUSH_ALL, TLB_FLUSH_ASID};

/// The ASIDs of one CPU.
#[derive(Debug)]
pub struct Asids {
    cpu: usize,
    count: u32,
    flush_by_asid: bool,
    next: u32,
    generation: u64,
}

/// The ASID that a vCPU has: good on the CPU that gave it, in the generation that it is of.
#[derive(Debug)]
pub struct Tag {
    cpu: usize,
    generation: u64,
    asid: u32,
}

impl Tag {
    /// None yet: no CPU has a generation 0.
    pub const NONE: Tag = Tag { cpu: 0, generation: 0, asid: 0 };
}

/// What to enter a guest with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The ASID.
    pub asid: u32,
    /// What VMRUN must flush; it holds for one VMRUN.
    pub tlb_control: u32,
}

impl Asids {
    /// Those of the CPU numbered `cpu`: 1 up to, and without, `count`, since 0 is the host's.
    /// `flush_by_asid`: the CPU can flush one ASID alone.
    pub const fn new(cpu: usize, count: u32, flush_by_asid: bool) -> Asids {
        // What the TLB holds from before is not known: the first to ask starts a generation.
        Asids { cpu, count, flush_by_asid, next: count, generation: 1 }
    }

    /// The ASID of the vCPU with this tag, for the next VMRUN on this CPU. `flush`: the vCPU must not
    /// use the translations that it has made.
    pub fn choose(&mut self, tag: &mut Tag, flush: bool) -> Choice {
        let good = tag.cpu == self.cpu && tag.generation == self.generation;
        let tlb_control = match (good, flush) {
            (true, false) => 0,
            (true, true) if self.flush_by_asid => TLB_FLUSH_ASID,
            _ => self.renew(tag),
        };
        Choice { asid: tag.asid, tlb_control }
    }

    fn renew(&mut self, tag: &mut Tag) -> u32 {
        let out = self.next >= self.count;
        if out {
            self.generation = self.generation.wrapping_add(1);
            self.next = 1;
        }
        *tag = Tag { cpu: self.cpu, generation: self.generation, asid: self.next };
        self.next = self.next.wrapping_add(1);
        if out { TLB_FLUSH_ALL } else { 0 }
    }

    /// Takes every ASID back: VMRUN failed with #VMEXIT(INVALID), and whether it flushed first is not
    /// known.
    pub fn forget(&mut self) {
        self.generation = self.generation.wrapping_add(1);
        self.next = self.count;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    fn choice(asid: u32, tlb_control: u32) -> Choice {
        Choice { asid, tlb_control }
    }

    #[test]
    fn a_guest_keeps_its_asid_at_no_cost() {
        let mut asids = Asids::new(0, 8, false);
        let (mut one, mut two) = (Tag::NONE, Tag::NONE);
        assert_eq!(asids.choose(&mut one, false), choice(1, TLB_FLUSH_ALL), "an unknown TLB");
        assert_eq!(asids.choose(&mut two, false), choice(2, 0));
        assert_eq!(asids.choose(&mut one, false), choice(1, 0));
        assert_eq!(asids.choose(&mut two, false), choice(2, 0));
    }

    #[test]
    fn a_flush_takes_what_the_cpu_has_for_it() {
        for (flush_by_asid, flushed) in [(true, choice(1, TLB_FLUSH_ASID)), (false, choice(2, 0))] {
            let (mut asids, mut tag) = (Asids::new(0, 3, flush_by_asid), Tag::NONE);
            asids.choose(&mut tag, true);
            assert_eq!(asids.choose(&mut tag, true), flushed);
            assert_eq!(asids.choose(&mut tag, false), choice(flushed.asid, 0));
        }
    }

    #[test]
    fn when_they_run_out_everybody_starts_anew() {
        let mut asids = Asids::new(0, 3, true);
        let [mut one, mut two, mut three] = [Tag::NONE, Tag::NONE, Tag::NONE];
        asids.choose(&mut one, false);
        asids.choose(&mut two, false);
        assert_eq!(asids.choose(&mut three, false), choice(1, TLB_FLUSH_ALL));
        assert_eq!(asids.choose(&mut one, false), choice(2, 0));
    }

    #[test]
    fn another_cpu_gives_another() {
        let (mut here, mut there) = (Asids::new(0, 8, true), Asids::new(1, 8, true));
        let (mut tag, mut other) = (Tag::NONE, Tag::NONE);
        here.choose(&mut tag, false);
        there.choose(&mut other, false);
        assert_eq!(there.choose(&mut tag, false), choice(2, 0));
        assert_eq!(here.choose(&mut tag, false), choice(2, 0), "1 may have old translations");
    }

    /// What happens to one vCPU.
    #[derive(Clone, Debug)]
    enum Step {
        Unmap,
        Run {
            cpu: usize,
        },
        /// VMRUN fails, and may flush or not.
        Refused {
            cpu: usize,
            flushes: bool,
        },
    }

    fn step() -> impl Strategy<Value = (usize, Step)> {
        let cpu = 0usize..2;
        let step = prop_oneof![
            Just(Step::Unmap),
            cpu.clone().prop_map(|cpu| Step::Run { cpu }),
            cpu.clone().prop_map(|cpu| Step::Run { cpu }),
            (cpu, any::<bool>()).prop_map(|(cpu, flushes)| Step::Refused { cpu, flushes }),
        ];
        (0usize..4, step)
    }

    /// A vCPU: its tag, how often its mappings changed, and whether it must still flush for that.
    struct Vcpu {
        tag: Tag,
        version: u32,
        flush: bool,
    }

    /// By ASID: whose translations the TLB has, and of which version of the mappings.
    type Tlb = BTreeMap<u32, (usize, u32)>;

    fn flush(tlb: &mut Tlb, choice: Choice) {
        match choice.tlb_control {
            0 => {}
            TLB_FLUSH_ALL => tlb.clear(),
            TLB_FLUSH_ASID => drop(tlb.remove(&choice.asid)),
            other => panic!("TLB_CONTROL {other}"),
        }
    }

    proptest! {
        #[test]
        fn no_stale_translation_is_used(
            count in 2u32..6,
            by_asid: bool,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut asids = [0, 1].map(|cpu| Asids::new(cpu, count, by_asid));
            // The TLBs start with rubbish under every ASID.
            let mut tlbs = [(); 2].map(|()| (0..count).map(|n| (n, (9, 9))).collect::<Tlb>());
            let mut vcpus: Vec<Vcpu> =
                (0..4).map(|_| Vcpu { tag: Tag::NONE, version: 0, flush: false }).collect();
            for (who, step) in steps {
                let vcpu = &mut vcpus[who];
                match step {
                    Step::Unmap => (vcpu.version, vcpu.flush) = (vcpu.version + 1, true),
                    Step::Run { cpu } => {
                        let choice = asids[cpu].choose(&mut vcpu.tag, vcpu.flush);
                        prop_assert!((1..count).contains(&choice.asid), "{choice:?}");
                        prop_assert!(by_asid || choice.tlb_control != TLB_FLUSH_ASID);
                        flush(&mut tlbs[cpu], choice);
                        let used = tlbs[cpu].insert(choice.asid, (who, vcpu.version));
                        prop_assert!(used.is_none_or(|used| used == (who, vcpu.version)));
                        vcpu.flush = false;
                    }
                    Step::Refused { cpu, flushes } => {
                        let choice = asids[cpu].choose(&mut vcpu.tag, vcpu.flush);
                        if flushes {
                            flush(&mut tlbs[cpu], choice);
                        }
                        asids[cpu].forget();
                        vcpu.flush = false;
                    }
                }
            }
        }
    }
}
