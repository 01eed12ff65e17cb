//! Which vCPU runs on this CPU: round robin among those that have something to do.

extern crate alloc;

use alloc::vec::Vec;
use core::fmt::Write;
use core::mem::size_of;

use zerocopy::IntoBytes;

use super::machine::{Instance, Machine};
use crate::host::link::Channel;
use crate::host::report::{Cause, End, Registers};
use crate::hw::cpu::HostSegments;
use crate::hw::instructions::tsc;
use crate::hw::output::Text;
use crate::hw::vmx::guest::Guest;
use crate::hw::vmx::setup;
use crate::hw::vmx::vmcs::VmxOn;
use crate::hw::{local_apic, output};
use crate::vm::exit::Leave;
use crate::vm::hardware::Backend;
use crate::vm::hardware::Kept;
use crate::vm::run::run;
use crate::vm::{Features, Gpr, Hardware, Vcpu};

/// One CPU's own.
pub struct Cpu {
    /// VMX is on.
    pub on: VmxOn,
    /// What exits load.
    pub segments: HostSegments,
    /// The VM that ran last.
    pub last: Option<u8>,
}

/// Runs VMs until the last of this CPU has ended.
pub fn schedule(cpu: &mut Cpu, machine: &'static Machine, mut vms: Vec<Instance>) {
    let mut next = 0usize;
    while !vms.is_empty() {
        let count = vms.len();
        let ready = (0..count)
            .map(|i| next.wrapping_add(i).checked_rem(count).unwrap_or(0))
            .find(|&i| vms.get_mut(i).is_some_and(|vm| !vm.halted || wakes(vm)));
        let Some(at) = ready else {
            idle(machine, &mut vms);
            continue;
        };
        let yield_at = yield_at(&vms, at);
        let Some(vm) = vms.get_mut(at) else { continue };
        vm.halted = false;
        match run_once(cpu, machine, vm, yield_at) {
            Leave::Halted => {
                vm.halted = true;
                if !wakes(vm)
                    && vm.vcpu.apic.timer_due().is_none()
                    && vm.vcpu.vm.time_limit == u64::MAX
                {
                    // Nothing is left that could end the halt.
                    let message = "the guest waits for an interrupt that nothing can raise";
                    finish(cpu, machine, vm, Leave::ended(Cause::HaltedForEver, 0, message));
                    remove(machine, &mut vms, at);
                }
            }
            Leave::Preempted => vm.preempted_at = Some(tsc()),
            Leave::Reset => {
                if vm.reset().is_err() {
                    let message = "the image could not be loaded again";
                    finish(cpu, machine, vm, Leave::ended(Cause::Refused, 0, message));
                    remove(machine, &mut vms, at);
                }
            }
            leave => {
                finish(cpu, machine, vm, leave);
                remove(machine, &mut vms, at);
            }
        }
        next = at.wrapping_add(1);
    }
}

/// The TSC at which the VM at `at` makes room: after its slice if another can run, else when the first
/// of the others has something to do. `None` if it is alone.
fn yield_at(vms: &[Instance], at: usize) -> Option<u64> {
    let now = tsc();
    let slice = vms.get(at).map_or(0, |vm| vm.vcpu.vm.slice);
    let wanted = |vm: &Instance| {
        if !vm.halted {
            return now.saturating_add(slice);
        }
        let timer = vm.vcpu.timer_due(now).unwrap_or(u64::MAX);
        timer.min(vm.vcpu.vm.time_limit).min(vm.vcpu.send_at)
    };
    vms.iter().enumerate().filter(|&(i, _)| i != at).map(|(_, vm)| wanted(vm)).min()
}

fn remove(machine: &Machine, vms: &mut Vec<Instance>, at: usize) {
    if at < vms.len() {
        vms.remove(at).release(machine);
    }
}

/// Whether a halted VM has something to do, its time limit included.
fn wakes(vm: &mut Instance) -> bool {
    let delivers = vm.state.controls.features.contains(Features::VIRTUAL_INTERRUPTS);
    let now = tsc();
    // What a halted VM has written is sent in time, whoever runs.
    if now >= vm.vcpu.send_at {
        vm.vcpu.send_output(&mut output::Host { vm: vm.vcpu.vm.number });
    }
    vm.vcpu.wakes(now, delivers) || now >= vm.vcpu.vm.time_limit
}

/// Halts this CPU until the first timer of its VMs, and sends what they have written meanwhile.
fn idle(machine: &Machine, vms: &mut [Instance]) {
    let mut until = tsc().saturating_add(machine.tsc_hz / 10);
    for vm in vms {
        vm.vcpu.send_output(&mut output::Host { vm: vm.vcpu.vm.number });
        until = until.min(vm.vcpu.vm.time_limit);
        if let Some(due) = vm.vcpu.timer_due(tsc()) {
            until = until.min(due);
        }
    }
    if until > tsc() {
        local_apic::halt_until(until, machine.tsc_deadline);
    }
}

/// Runs a VM until it leaves.
fn run_once(
    cpu: &mut Cpu,
    machine: &'static Machine,
    vm: &mut Instance,
    yield_at: Option<u64>,
) -> Leave {
    if cpu.last.replace(vm.vcpu.vm.number) != Some(vm.vcpu.vm.number) {
        machine.speculation.at_switch();
    }
    if let Some(since) = vm.preempted_at.take() {
        let steal = &mut vm.vcpu.info.steal;
        steal.stolen = steal.stolen.wrapping_add(tsc().saturating_sub(since));
    }
    with_guest(cpu, machine, vm, |vcpu, guest| {
        vcpu.attend();
        vcpu.contended = yield_at.is_some();
        vcpu.slice_end = yield_at.unwrap_or(u64::MAX);
        vcpu.info.steal.preempted = 0;
        let leave = run(vcpu, guest);
        vcpu.info.steal.preempted = 1;
        leave
    })
    .unwrap_or(Leave::ended(Cause::EntryFailure, 0, "the CPU refused the VMCS"))
}

/// Makes a VM current on this CPU, with all of its state, for the time of `f`.
fn with_guest<T>(
    cpu: &mut Cpu,
    machine: &'static Machine,
    vm: &mut Instance,
    f: impl FnOnce(&mut Vcpu, &mut Guest<'_>) -> T,
) -> Option<T> {
    let rdtscp = vm.state.controls.features.contains(Features::RDTSCP);
    let active = vm.vmcs.take()?.activate(&mut cpu.on).ok()?;
    vm.state.switch.reset();
    let mut guest = Guest {
        vmcs: active,
        state: &mut vm.state,
        caps: &machine.caps,
        timer_shift: machine.caps.preemption_timer_shift,
    };
    setup::host(&mut guest, &cpu.segments);
    if !vm.written {
        vm.written = true;
        setup::controls(&mut guest, &vm.pages);
        setup::guest(&mut guest, vm.start, vm.vcpu.tsc_offset);
    }
    // What setting up costs is no exit's.
    guest.set_counts((vm.vcpu.info.vmreads, vm.vcpu.info.vmwrites));
    vm.live.load(vm.vcpu.xcr0, vm.vcpu.xcr0_may, rdtscp);
    let result = f(&mut vm.vcpu, &mut guest);
    vm.live.save(vm.vcpu.xcr0_may, rdtscp);
    vm.vmcs = Some(guest.vmcs.deactivate());
    Some(result)
}

/// Reports the end of a VM.
fn finish(cpu: &mut Cpu, machine: &'static Machine, vm: &mut Instance, leave: Leave) {
    let Leave::Ended { cause, code, address, message } = leave else { return };
    let mut text = Text::<1024>::new();
    text.push(message.as_bytes());
    let report = with_guest(cpu, machine, vm, |vcpu, guest| {
        if cause == Cause::EntryFailure {
            explain(guest, &mut text);
        }
        let (vendor_reason, qualification) = guest.vendor_detail();
        End {
            cause: cause as u32,
            reason: vcpu.reason as u32,
            vendor_reason,
            code: if cause == Cause::EntryFailure { qualification } else { code },
            address,
            exits: vcpu.exits(),
            registers: registers(vcpu, guest),
        }
    });
    vm.vcpu.send_output(&mut output::Host { vm: vm.vcpu.vm.number });
    let Some(report) = report else { return };
    let mut payload = Text::<{ size_of::<End>() + 1024 }>::new();
    payload.push(report.as_bytes());
    payload.push(text.as_bytes());
    output::send(vm.vcpu.vm.number, Channel::End, payload.as_bytes());
}

/// Names the rules that the VMCS breaks.
fn explain(guest: &mut Guest<'_>, text: &mut Text<1024>) {
    let mut any = false;
    if let Some(violation) = guest.state.violation {
        any = true;
        let _ = write!(text, "{violation}");
    } else {
        guest.broken_rules(|violation| {
            let separator = if any { "\n" } else { "" };
            any = true;
            let _ = write!(text, "{separator}{violation}");
        });
    }
    if !any {
        let _ = write!(
            text,
            "the CPU refused to enter the guest, and the checker knows no rule that it breaks"
        );
    }
}

fn registers(vcpu: &Vcpu, guest: &mut Guest<'_>) -> Registers {
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
