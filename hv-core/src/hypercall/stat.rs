//! *stat*: accounting.

use pv_abi::Status;
use pv_abi::call::{Number, stat};
use pv_abi::exit::Reason;
use pv_abi::stat::{BEGIN, Class, END};
use zerocopy::IntoBytes;

use super::{Arguments, Reply, UNKNOWN};
use crate::host::link::Channel;
use crate::host::report::{CALLS, Mark, MarkCounter};
use crate::vm::hardware::Link;
use crate::vm::{Hardware, Options, Vcpu};

pub(super) fn call(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    &Arguments(first, phase, ..): &Arguments,
) -> Reply {
    let may = vcpu.vm.options.contains(Options::MAY_SEE_STATISTICS);
    match number {
        stat::MARK if !matches!(phase, BEGIN | END) => Reply::Error(Status::InvalidArgument),
        stat::MARK if !may => Reply::Error(Status::Denied),
        stat::MARK => {
            vcpu.reason = Reason::Mark;
            vcpu.call = 0;
            let now = hardware.tsc();
            mark(vcpu, hardware, first, phase);
            // The next look at the vCPU that nothing but time asks for is far from here, so that a
            // section holds none by chance. What had to be sent has been.
            vcpu.renew_horizon(now);
            vcpu.follow_timer(now);
            Reply::Uncounted(vcpu.exits())
        }
        stat::READ => match read(vcpu, first) {
            None => Reply::Error(Status::InvalidArgument),
            Some(_) if !may => Reply::Error(Status::Denied),
            Some(value) => Reply::Value(value),
        },
        _ => UNKNOWN,
    }
}

fn read(vcpu: &Vcpu, selector: u64) -> Option<u64> {
    let index = selector as u32 as usize;
    Some(match Class::from_number((selector >> 32) as u32)? {
        Class::ExitCount => vcpu.info.exits.get(index)?.count,
        Class::ExitTicks => vcpu.info.exits.get(index)?.ticks,
        Class::CallCount => vcpu.info.calls.get(index)?.count,
        Class::CallTicks => vcpu.info.calls.get(index)?.ticks,
        Class::Vmcs => *[vcpu.info.vmreads, vcpu.info.vmwrites].get(index)?,
    })
}

/// Counters that a report has room for: more than there are reasons and calls.
const MAX_COUNTERS: usize = 128;

/// Puts the counters into the outbox. What a mark costs is not in them: the counters of this exit
/// are added after it, and to nothing but [`Reason::Mark`].
#[inline(never)]
fn mark(vcpu: &mut Vcpu, link: &mut dyn Link, id: u64, phase: u64) {
    const NONE: MarkCounter = MarkCounter { slot: 0, count: 0, ticks: 0 };
    let mut counters = [NONE; MAX_COUNTERS];
    let exits = vcpu.info.exits.iter().zip(0u64..).filter(|&(_, slot)| slot != Reason::Mark as u64);
    let calls = vcpu.info.calls.iter().zip(CALLS..);
    let used = exits.chain(calls).filter(|(counter, _)| counter.count != 0);
    let mut count = 0usize;
    for (place, (counter, slot)) in counters.iter_mut().zip(used) {
        *place = MarkCounter { slot, count: counter.count, ticks: counter.ticks };
        count = count.wrapping_add(1);
    }
    let counters = counters.get(..count).unwrap_or(&[]);
    let now = if phase == END { vcpu.exited.wrapping_add(vcpu.tsc_offset) } else { 0 };
    let report =
        Mark { id, phase, tsc: now, vmreads: vcpu.info.vmreads, vmwrites: vcpu.info.vmwrites };
    let parts = (report.as_bytes(), counters.as_bytes());
    if phase == BEGIN {
        // What waits goes out now and this frame with the end's, so that nothing of either falls
        // into the section; it is stamped last.
        vcpu.send_output(link);
        let mut outbox = vcpu.vm.outbox.lock();
        let at = outbox.frame(link, Channel::Mark, parts.0, parts.1);
        let now = link.tsc().wrapping_add(vcpu.tsc_offset);
        outbox.stamp(at, core::mem::offset_of!(Mark, tsc), now);
    } else {
        vcpu.vm.outbox.lock().frame(link, Channel::Mark, parts.0, parts.1);
        vcpu.send_output(link);
    }
}
