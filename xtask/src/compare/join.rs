//! Joins what the guest says of a section with what the hypervisor counted in it.

use std::collections::BTreeMap;

use hv_core::host::report::{CALLS, Vendor};
use hv_core::vm::policy::Policy;
use pv_abi::area::call_slot;
use pv_abi::call::{EXTENSIONS, Number, stat};
use pv_abi::exit::Reason;
use pv_abi::stat::{BEGIN, END};

use super::rows::GuestRow;
use crate::event::Section;
use crate::machine::{Hardware, Machine};

mod error;

pub use error::JoinError;

/// One workload under one policy on one machine, measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    pub machine: Machine,
    pub vendor: Vendor,
    /// The workload's number in the guest, by which tables are ordered.
    pub id: u64,
    pub workload: String,
    pub policy: Policy,
    pub ops: u64,
    /// Exits in the section, marks left out, and those of the empty loop taken off.
    pub exits: u64,
    /// Exits in the section with those of the clock.
    pub all_exits: u64,
    /// Ticks in the section, those of the empty loop taken off.
    pub ticks: u64,
    pub exits_by_reason: BTreeMap<&'static str, u64>,
    /// By the call's number as it stands in RAX; [`UNKNOWN_CALL`] for all that have none.
    pub hypercalls_by_number: BTreeMap<u64, u64>,
    pub vmreads: u64,
    pub vmwrites: u64,
    /// Ticks that the marks of a section take outside of the measurement, on the average.
    pub mark_ticks: u64,
}

/// Stands for calls that the ABI does not know.
pub const UNKNOWN_CALL: u64 = u64::MAX;

impl Row {
    pub fn exits_per_op(&self) -> f64 {
        self.exits as f64 / self.ops as f64
    }

    pub fn ticks_per_op(&self) -> f64 {
        self.ticks as f64 / self.ops as f64
    }

    /// Whether there is a VMCS whose fields are read and written by instructions that can be counted.
    pub fn has_vmcs(&self) -> bool {
        self.vendor == Vendor::Vmx
    }

    pub fn vmreads_per_exit(&self) -> f64 {
        self.vmreads as f64 / self.all_exits.max(1) as f64
    }

    pub fn vmwrites_per_exit(&self) -> f64 {
        self.vmwrites as f64 / self.all_exits.max(1) as f64
    }
}

/// The ticks by which the marks of one section may exceed the guest's own reading: from the TSC
/// read of the BEGIN mark to the guest's first, and from the guest's last to that of the END mark.
pub const fn mark_cost(hardware: &Hardware) -> u64 {
    // Where a tick is no instruction, two world switches of real hardware, or of a hypervisor below.
    if hardware.repeatable { 1_500 } else { 200_000 }
}

/// Joins all rows of one boot. Sections of one id add up.
pub fn join(
    policy: Policy,
    hardware: &Hardware,
    rows: &[GuestRow],
    marks: &[Section],
) -> Result<Vec<Row>, JoinError> {
    let mut sections = pair(marks)?;
    let mut joined = Vec::new();
    for row in rows {
        let own = sections
            .remove(&row.id)
            .ok_or_else(|| JoinError::NoSection { workload: row.name.clone() })?;
        joined.push(join_row(policy, hardware, row, &own)?);
    }
    match sections.into_keys().next() {
        Some(id) => Err(JoinError::NoRow { id }),
        None => Ok(joined),
    }
}

/// A section: its begin and its end.
type Pair<'a> = (&'a Section, &'a Section);

/// Sections by id. One vCPU marks, so sections follow each other.
fn pair(marks: &[Section]) -> Result<BTreeMap<u64, Vec<Pair<'_>>>, JoinError> {
    let mut sections: BTreeMap<u64, Vec<Pair>> = BTreeMap::new();
    let mut open: Option<&Section> = None;
    for mark in marks {
        let (id, phase) = (mark.mark.id, mark.mark.phase);
        match open.take() {
            None if phase == BEGIN => open = Some(mark),
            Some(begin) if phase == END && begin.mark.id == id => {
                sections.entry(id).or_default().push((begin, mark));
            }
            _ => return Err(JoinError::Unpaired { id, phase }),
        }
    }
    match open {
        Some(begin) => Err(JoinError::Open { id: begin.mark.id }),
        None => Ok(sections),
    }
}

fn join_row(
    policy: Policy,
    hardware: &Hardware,
    guest: &GuestRow,
    sections: &[Pair<'_>],
) -> Result<Row, JoinError> {
    let mut row = Row {
        machine: hardware.machine,
        vendor: hardware.vendor,
        id: guest.id,
        workload: guest.name.clone(),
        policy,
        ops: guest.ops,
        exits: 0,
        all_exits: 0,
        mark_ticks: 0,
        ticks: guest.ticks.saturating_sub(guest.empty),
        exits_by_reason: BTreeMap::new(),
        hypercalls_by_number: BTreeMap::new(),
        vmreads: 0,
        vmwrites: 0,
    };
    let mut ticks = 0;
    for (begin, end) in sections {
        let backwards = || JoinError::Backwards { workload: guest.name.clone() };
        ticks += row.add(begin, end).ok_or_else(backwards)?;
    }
    let workload = guest.name.clone();
    let allowed = mark_cost(hardware).saturating_mul(sections.len() as u64);
    if !(guest.ticks..=guest.ticks.saturating_add(allowed)).contains(&ticks) {
        return Err(JoinError::Ticks { workload, guest: guest.ticks, hypervisor: ticks, allowed });
    }
    row.mark_ticks = (ticks - guest.ticks) / sections.len() as u64;
    match guest.exits {
        Some(exits) if exits != row.all_exits => {
            Err(JoinError::Exits { workload, guest: exits, hypervisor: row.all_exits })
        }
        _ => {
            row.take_off_clock(guest.empty_exits);
            Ok(row)
        }
    }
}

impl Row {
    /// Takes off the exits of the empty loop, as its ticks are. What the loop does is read the
    /// clock.
    fn take_off_clock(&mut self, exits: u64) {
        if let Some(count) = self.exits_by_reason.get_mut(Reason::Rdtsc.name()) {
            *count = count.saturating_sub(exits);
        }
        self.exits_by_reason.retain(|_, count| *count != 0);
        self.exits = self.exits_by_reason.values().sum();
    }

    /// Adds what the hypervisor counted in a section, and gives its ticks; `None` if something
    /// ran backwards.
    fn add(&mut self, begin: &Section, end: &Section) -> Option<u64> {
        let before: BTreeMap<u64, u64> = begin.counters.iter().map(|c| (c.slot, c.count)).collect();
        for counter in &end.counters {
            let earlier = before.get(&counter.slot).copied().unwrap_or(0);
            let count = counter.count.checked_sub(earlier)?;
            if count == 0 {
                continue;
            }
            match counter.slot.checked_sub(CALLS) {
                None if counter.slot == Reason::Mark as u64 => {}
                None => {
                    self.all_exits += count;
                    *self.exits_by_reason.entry(reason_name(counter.slot)).or_default() += count;
                }
                Some(slot) => match call_number(slot) {
                    stat::MARK => {}
                    number => *self.hypercalls_by_number.entry(number.0).or_default() += count,
                },
            }
        }
        self.vmreads += end.mark.vmreads.checked_sub(begin.mark.vmreads)?;
        self.vmwrites += end.mark.vmwrites.checked_sub(begin.mark.vmwrites)?;
        end.mark.tsc.checked_sub(begin.mark.tsc)
    }
}

fn reason_name(slot: u64) -> &'static str {
    u8::try_from(slot).ok().and_then(Reason::from_index).map_or("unnamed", Reason::name)
}

/// The call that is counted in this slot.
fn call_number(slot: u64) -> Number {
    let mut calls = EXTENSIONS.iter().flat_map(|extension| extension.calls);
    let found = calls
        .find(|call| call_slot(call.number.extension(), call.number.function()) as u64 == slot);
    found.map_or(Number(UNKNOWN_CALL), |call| call.number)
}

#[cfg(test)]
mod tests;
