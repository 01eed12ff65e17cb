//! Which ports, MSRs and pages cost a VM's exits: kept for VMs whose description asks for it.

extern crate alloc;

use alloc::vec::Vec;

use hashbrown::HashMap;
use pv_abi::exit::Reason;

use super::{Exit, Gpr, Vcpu, hardware::Backend};
use crate::host::stat::{Place, TOP, TopEntry};

/// Places that are told apart. A guest that reaches for more gets the rest counted by reason alone.
const MOST: usize = 1024;

/// Exits by place.
#[derive(Clone, Debug)]
pub struct Profile(HashMap<(Place, u64), u64>);

impl Profile {
    /// An empty one, with all the memory that it will ever take.
    pub fn new() -> Profile {
        Profile(HashMap::with_capacity(MOST))
    }

    /// Counts an exit.
    pub fn count(&mut self, place: Place, number: u64) {
        let room = self.0.len() < MOST;
        match self.0.get_mut(&(place, number)) {
            Some(count) => *count = count.wrapping_add(1),
            None if room => drop(self.0.insert((place, number), 1)),
            None => {}
        }
    }

    /// With those of another vCPU.
    #[must_use]
    pub fn and(mut self, other: Profile) -> Profile {
        for (place, count) in other.0 {
            let before = self.0.get(&place).copied().unwrap_or(0);
            self.0.insert(place, before.wrapping_add(count));
        }
        self
    }

    /// Those of each kind that cost most, the dearest first.
    pub fn top(&self) -> Vec<TopEntry> {
        let mut all = Vec::new();
        for place in Place::ALL {
            let counts = self.0.iter().filter(|((of, _), _)| *of == place);
            let mut entries: Vec<TopEntry> = counts
                .map(|(&(_, number), &count)| TopEntry {
                    place: place as u32,
                    reserved: 0,
                    number,
                    count,
                })
                .collect();
            // A sort would be a large part of what is compiled, for so few.
            let dear = |(_, entry): &(usize, &TopEntry)| (entry.count, !entry.number);
            for _ in 0..TOP {
                let Some((at, _)) = entries.iter().enumerate().max_by_key(dear) else { break };
                all.push(entries.swap_remove(at));
            }
        }
        all
    }
}

impl Default for Profile {
    fn default() -> Profile {
        Profile::new()
    }
}

/// Counts the last exit of a vCPU in its profile; `exit` is what it was, where that has been decoded.
#[inline(always)]
pub fn count(vcpu: &mut Vcpu, hardware: &mut impl Backend, exit: Option<&Exit>) {
    if vcpu.profile.is_some() {
        count_place(vcpu, hardware, exit);
    }
}

#[cold]
#[inline(never)]
fn count_place(vcpu: &mut Vcpu, hardware: &mut impl Backend, exit: Option<&Exit>) {
    let Some(profile) = &mut vcpu.profile else { return };
    let msr = vcpu.registers.get(Gpr::Rcx) & 0xffff_ffff;
    let (place, number) = match vcpu.reason {
        Reason::MsrRead => (Place::MsrRead, msr),
        Reason::MsrWrite => (Place::MsrWrite, msr),
        Reason::PortIn => (Place::PortIn, hardware.port().into()),
        Reason::PortOut => (Place::PortOut, hardware.port().into()),
        _ => match exit {
            Some(Exit::NestedFault(fault)) => (Place::Page, fault.gpa & !0xfff),
            Some(Exit::ApicAccess { .. } | Exit::ApicWrite { .. }) => {
                (Place::Page, vcpu.apic.base_address())
            }
            _ => return,
        },
    };
    profile.count(place, number);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_of_each_kind_come_first_and_ten_at_most() {
        let mut profile = Profile::new();
        for port in 0..20u64 {
            (0..=port).for_each(|_| profile.count(Place::PortIn, port));
        }
        profile.count(Place::MsrRead, 0x1b);
        let top = profile.top();
        assert_eq!(top.len(), TOP + 1);
        let of = |entry: &TopEntry| (entry.place, entry.number, entry.count);
        assert_eq!(of(&top[0]), (Place::PortIn as u32, 19, 20));
        assert_eq!(of(&top[TOP - 1]), (Place::PortIn as u32, 10, 11));
        assert_eq!(of(&top[TOP]), (Place::MsrRead as u32, 0x1b, 1));
    }

    #[test]
    fn a_guest_cannot_make_it_grow() {
        let mut profile = Profile::new();
        let capacity = profile.0.capacity();
        (0..10_000).for_each(|page| profile.count(Place::Page, page << 12));
        (0..5).for_each(|_| profile.count(Place::Page, 0));
        assert_eq!((profile.0.len(), profile.0.capacity()), (MOST, capacity));
        assert_eq!(profile.top()[0].count, 6, "what is known goes on being counted");
    }
}
