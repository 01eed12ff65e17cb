//! Tags that keep the translations of guests apart in a CPU's TLB: VPIDs and ASIDs (SDM vol. 3,
//! VPIDs; APM vol. 2, TLB Control). Each CPU gives out its own. A guest whose translations must go
//! gets a new one, which no translation has, where the CPU cannot flush one tag alone; when they run
//! out, everything is flushed and a new generation starts.

/// The tags of one CPU.
#[derive(Debug)]
pub struct Tags {
    cpu: usize,
    count: u32,
    one_alone: bool,
    next: u32,
    generation: u64,
}

/// The tag that a vCPU has: good on the CPU that gave it, in the generation that it is of.
#[derive(Debug)]
pub struct Tag {
    cpu: usize,
    generation: u64,
    number: u32,
}

impl Tag {
    /// None yet: no CPU has a generation 0.
    pub const NONE: Tag = Tag { cpu: 0, generation: 0, number: 0 };
}

/// What must be flushed before the guest is entered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Nothing.
    Nothing,
    /// The translations under its tag.
    Tag,
    /// Those under every tag.
    All,
}

/// What to enter a guest with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// The tag; not 0.
    pub tag: u32,
    /// What to flush first, once.
    pub flush: Flush,
}

impl Tags {
    /// Those of the CPU numbered `cpu`: 1 up to, and without, `count`, since 0 is the host's.
    /// `one_alone`: the CPU can flush one tag alone.
    pub const fn new(cpu: usize, count: u32, one_alone: bool) -> Tags {
        // What the TLB holds from before is not known: the first to ask starts a generation.
        Tags { cpu, count, one_alone, next: count, generation: 1 }
    }

    /// The number for the vCPU with this tag at its next entry on this CPU. `flush`: the vCPU must not
    /// use the translations that it has made.
    pub fn choose(&mut self, tag: &mut Tag, flush: bool) -> Choice {
        let good = tag.cpu == self.cpu && tag.generation == self.generation;
        let flush = match (good, flush) {
            (true, false) => Flush::Nothing,
            (true, true) if self.one_alone => Flush::Tag,
            _ => self.renew(tag),
        };
        Choice { tag: tag.number, flush }
    }

    fn renew(&mut self, tag: &mut Tag) -> Flush {
        let out = self.next >= self.count;
        if out {
            self.generation = self.generation.wrapping_add(1);
            self.next = 1;
        }
        *tag = Tag { cpu: self.cpu, generation: self.generation, number: self.next };
        self.next = self.next.wrapping_add(1);
        if out { Flush::All } else { Flush::Nothing }
    }

    /// Takes every tag back: what [`Flush::All`] asked for was not done, or, since an entry failed, may
    /// not have been.
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

    fn choice(tag: u32, flush: Flush) -> Choice {
        Choice { tag, flush }
    }

    #[test]
    fn a_guest_keeps_its_tag_at_no_cost() {
        let mut tags = Tags::new(0, 8, false);
        let (mut one, mut two) = (Tag::NONE, Tag::NONE);
        assert_eq!(tags.choose(&mut one, false), choice(1, Flush::All), "an unknown TLB");
        assert_eq!(tags.choose(&mut two, false), choice(2, Flush::Nothing));
        assert_eq!(tags.choose(&mut one, false), choice(1, Flush::Nothing));
        assert_eq!(tags.choose(&mut two, false), choice(2, Flush::Nothing));
    }

    #[test]
    fn a_flush_takes_what_the_cpu_has_for_it() {
        for (one_alone, flushed) in
            [(true, choice(1, Flush::Tag)), (false, choice(2, Flush::Nothing))]
        {
            let (mut tags, mut tag) = (Tags::new(0, 3, one_alone), Tag::NONE);
            tags.choose(&mut tag, true);
            assert_eq!(tags.choose(&mut tag, true), flushed);
            assert_eq!(tags.choose(&mut tag, false), choice(flushed.tag, Flush::Nothing));
        }
    }

    #[test]
    fn when_they_run_out_everybody_starts_anew() {
        let mut tags = Tags::new(0, 3, true);
        let [mut one, mut two, mut three] = [Tag::NONE, Tag::NONE, Tag::NONE];
        tags.choose(&mut one, false);
        tags.choose(&mut two, false);
        assert_eq!(tags.choose(&mut three, false), choice(1, Flush::All));
        assert_eq!(tags.choose(&mut one, false), choice(2, Flush::Nothing));
    }

    #[test]
    fn another_cpu_gives_another() {
        let (mut here, mut there) = (Tags::new(0, 8, true), Tags::new(1, 8, true));
        let (mut tag, mut other) = (Tag::NONE, Tag::NONE);
        here.choose(&mut tag, false);
        there.choose(&mut other, false);
        assert_eq!(there.choose(&mut tag, false), choice(2, Flush::Nothing));
        assert_eq!(
            here.choose(&mut tag, false),
            choice(2, Flush::Nothing),
            "1 may have old translations"
        );
    }

    /// What happens to one vCPU.
    #[derive(Clone, Debug)]
    enum Step {
        Unmap,
        Run {
            cpu: usize,
        },
        /// The entry fails, and may flush or not.
        Refused {
            cpu: usize,
            flushes: bool,
        },
        /// It leaves the CPU before it is entered.
        Leave {
            cpu: usize,
        },
    }

    fn step() -> impl Strategy<Value = (usize, Step)> {
        let cpu = 0usize..2;
        let step = prop_oneof![
            Just(Step::Unmap),
            cpu.clone().prop_map(|cpu| Step::Run { cpu }),
            cpu.clone().prop_map(|cpu| Step::Run { cpu }),
            cpu.clone().prop_map(|cpu| Step::Leave { cpu }),
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

    /// By tag: whose translations the TLB has, and of which version of the mappings.
    type Tlb = BTreeMap<u32, (usize, u32)>;

    fn flush(tlb: &mut Tlb, choice: Choice) {
        match choice.flush {
            Flush::Nothing => {}
            Flush::All => tlb.clear(),
            Flush::Tag => drop(tlb.remove(&choice.tag)),
        }
    }

    proptest! {
        #[test]
        fn no_stale_translation_is_used(
            count in 2u32..6,
            one_alone: bool,
            steps in prop::collection::vec(step(), 0..200),
        ) {
            let mut tags = [0, 1].map(|cpu| Tags::new(cpu, count, one_alone));
            // The TLBs start with rubbish under every tag.
            let mut tlbs = [(); 2].map(|()| (0..count).map(|n| (n, (9, 9))).collect::<Tlb>());
            let mut vcpus: Vec<Vcpu> =
                (0..4).map(|_| Vcpu { tag: Tag::NONE, version: 0, flush: false }).collect();
            for (who, step) in steps {
                let vcpu = &mut vcpus[who];
                match step {
                    Step::Unmap => (vcpu.version, vcpu.flush) = (vcpu.version + 1, true),
                    Step::Run { cpu } => {
                        let choice = tags[cpu].choose(&mut vcpu.tag, vcpu.flush);
                        prop_assert!((1..count).contains(&choice.tag), "{choice:?}");
                        prop_assert!(one_alone || choice.flush != Flush::Tag);
                        flush(&mut tlbs[cpu], choice);
                        let used = tlbs[cpu].insert(choice.tag, (who, vcpu.version));
                        prop_assert!(used.is_none_or(|used| used == (who, vcpu.version)));
                        vcpu.flush = false;
                    }
                    Step::Leave { cpu } => {
                        let choice = tags[cpu].choose(&mut vcpu.tag, vcpu.flush);
                        if choice.flush == Flush::All {
                            tags[cpu].forget();
                        }
                    }
                    Step::Refused { cpu, flushes } => {
                        let choice = tags[cpu].choose(&mut vcpu.tag, vcpu.flush);
                        if flushes {
                            flush(&mut tlbs[cpu], choice);
                        }
                        tags[cpu].forget();
                        vcpu.flush = false;
                    }
                }
            }
        }
    }
}
