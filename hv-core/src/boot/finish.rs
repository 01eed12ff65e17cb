//! The report of how a VM ended.

use core::fmt::Write;
use core::mem::size_of;

use zerocopy::{FromZeros, IntoBytes};

use super::home::Unit;
use crate::host::link::Channel;
use crate::host::report::{Cause, End, Registers};
use crate::host::stat::{Moment, Stat};
use crate::hw::instructions::tsc;
use crate::hw::output::{self, Text};
use crate::vm::Hardware;
use crate::vm::exit::Ending;
use crate::vm::hardware::{Backend, Kept};
use crate::vm::profile::Profile;
use crate::vm::{Gpr, Vcpu, Vm};

/// Bytes of the text of a report.
const TEXT: usize = 1024;

/// How a VM ended, as the vCPU that ended it tells.
pub struct Report {
    end: End,
    text: Text<TEXT>,
}

impl Report {
    /// What a vCPU that is on this CPU has to tell of the end; `None` if it has left for another reason.
    #[inline(never)]
    pub fn of(vcpu: &Vcpu, guest: &mut impl Backend) -> Option<Report> {
        let Ending { cause, code, address, message } = vcpu.ending?;
        let mut text = Text::new();
        text.push(message.as_bytes());
        if cause == Cause::EntryFailure {
            explain(guest, &mut text);
        }
        let exit = guest.vendor_exit();
        let end = End {
            cause: cause as u32,
            reason: vcpu.reason as u32,
            vendor: exit.vendor as u64,
            vendor_code: exit.code,
            vendor_detail: exit.detail,
            code,
            address,
            exits: 0,
            registers: registers(vcpu, guest),
        };
        Some(Report { end, text })
    }

    /// The image could not be loaded again.
    pub fn not_loaded() -> Report {
        let mut text = Text::new();
        text.push(b"the image could not be loaded again");
        Report { end: End { cause: Cause::Refused as u32, ..End::new_zeroed() }, text }
    }

    /// Sends it, behind what the VM has written and what all its vCPUs have cost.
    #[inline(never)]
    pub fn send(mut self, vm: &Vm, units: &[Unit]) {
        let link = &mut output::Host { vm: vm.number };
        vm.outbox.lock().flush(link);
        let now = tsc();
        let stat = Stat::sum(units.iter().map(|unit| unit.payload.vcpu.stat(Moment::End, 0, now)));
        output::send(vm.number, Channel::Stat, stat.as_bytes());
        let profiles = units.iter().filter_map(|unit| unit.payload.vcpu.profile.as_ref());
        if let Some(profile) = profiles.cloned().reduce(Profile::and) {
            output::send(vm.number, Channel::Top, profile.top().as_bytes());
        }
        self.end.exits = stat.total();
        let mut payload = Text::<{ size_of::<End>() + TEXT }>::new();
        payload.push(self.end.as_bytes());
        payload.push(self.text.as_bytes());
        output::send(vm.number, Channel::End, payload.as_bytes());
    }
}

/// Names the rules that the guest's state breaks.
fn explain(guest: &mut impl Backend, text: &mut Text<TEXT>) {
    let before = text.as_bytes().len();
    let _ = guest.explain(text);
    if text.as_bytes().len() == before {
        let _ = write!(
            text,
            "the CPU refused to enter the guest, and the checker knows no rule that it breaks"
        );
    }
}

fn registers(vcpu: &Vcpu, guest: &mut dyn Hardware) -> Registers {
    let mut gpr = vcpu.registers.all();
    if let Some(rsp) = gpr.get_mut(Gpr::Rsp as usize) {
        *rsp = guest.kept(Kept::Rsp);
    }
    let ([cs, ss], cs_base) = guest.code_and_stack();
    Registers {
        gpr,
        rip: guest.kept(Kept::Rip),
        rflags: guest.kept(Kept::Rflags),
        cr0: guest.kept(Kept::Cr0),
        cr2: guest.cr2(),
        cr3: guest.kept(Kept::Cr3),
        cr4: guest.kept(Kept::Cr4),
        efer: guest.kept(Kept::Efer),
        cs,
        ss,
        cs_base,
    }
}
