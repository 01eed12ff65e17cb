//! The vCPUs of this CPU: the next that has something to do runs until it leaves, and what it then wants is
//! seen to.

extern crate alloc;

use alloc::vec::Vec;
use core::fmt::Write;
use core::mem::size_of;

use zerocopy::IntoBytes;

use super::machine::{Instance, Machine};
use crate::host::link::Channel;
use crate::host::report::{Cause, End, Registers};
use crate::host::stat::Moment;
use crate::hw::instructions::tsc;
use crate::hw::output;
use crate::hw::output::Text;
use crate::hw::vendor::Vendor;
use crate::sched::Queue;
use crate::vm::exit::Leave;
use crate::vm::hardware::{Backend, Hardware, Kept};
use crate::vm::run::run;
use crate::vm::{Features, Gpr, Options, Vcpu};

/// One CPU's own.
pub struct Cpu<V: Vendor> {
    /// The virtualization extension, turned on.
    pub on: V::Cpu,
    /// The VM that ran last.
    pub last: Option<u8>,
}

/// Runs VMs until the last of this CPU has ended.
pub fn schedule<V: Vendor>(
    cpu: &mut Cpu<V>,
    machine: &'static Machine<V>,
    mut vms: Vec<Instance<V>>,
) {
    let mut queue = Queue::new(vms.iter().map(|vm| (vm.vcpu.vm.weight, vm.vcpu.vm.slice)));
    for (slot, vm) in vms.iter_mut().enumerate() {
        (vm.slot, vm.halted) = (slot, false);
        queue.join(slot);
    }
    while !vms.is_empty() {
        for vm in vms.iter_mut().filter(|vm| vm.halted) {
            if wakes(&mut vm.vcpu) {
                vm.halted = false;
                queue.join(vm.slot);
            }
        }
        let Some((slot, left)) = queue.pick() else {
            idle(machine, vms.iter_mut().map(|vm| &mut vm.vcpu));
            continue;
        };
        let Some(at) = vms.iter().position(|vm| vm.slot == slot) else {
            // It has ended.
            queue.leave(slot, 0);
            continue;
        };
        let began = tsc();
        let slice_end = began.saturating_add(left);
        let yield_at = yield_at(&vms, at, (!queue.is_empty()).then_some(slice_end));
        let alone = vms.len() == 1;
        let Some(vm) = vms.get_mut(at) else { continue };
        if let Some(since) = vm.halted_at.take() {
            let waited = began.saturating_sub(since);
            vm.vcpu.halted_ticks = vm.vcpu.halted_ticks.saturating_add(waited);
        }
        let may_reset = vm.vcpu.vm.options.contains(Options::MAY_RESET);
        let leave = run_once(cpu, machine, vm, yield_at, alone);
        let ran = tsc().saturating_sub(began);
        match leave {
            Leave::Halted => queue.leave(slot, ran),
            Leave::Yielded => queue.give_way(slot, ran),
            _ => queue.put_back(slot, ran),
        }
        match leave {
            // The board of a PC answers the shutdown of its CPU by a reset.
            Leave::Ended { cause: Cause::TripleFault, .. } if may_reset => {
                reset(cpu, machine, &mut vms, at);
            }
            Leave::Halted => {
                vm.halted = true;
                vm.halted_at = Some(tsc());
                if !wakes(&mut vm.vcpu) && next(&vm.vcpu, 0) == u64::MAX {
                    // Nothing is left that could end the halt.
                    let message = "the guest waits for an interrupt that nothing can raise";
                    finish(cpu, machine, vm, Leave::ended(Cause::HaltedForEver, 0, message));
                    remove(machine, &mut vms, at);
                }
            }
            Leave::Preempted | Leave::Yielded => vm.preempted_at = Some(tsc()),
            Leave::Reset => reset(cpu, machine, &mut vms, at),
            leave => {
                finish(cpu, machine, vm, leave);
                remove(machine, &mut vms, at);
            }
        }
    }
}

fn reset<V: Vendor>(
    cpu: &mut Cpu<V>,
    machine: &'static Machine<V>,
    vms: &mut Vec<Instance<V>>,
    at: usize,
) {
    if let Some(vm) = vms.get_mut(at)
        && vm.reset(&machine.vendor).is_err()
    {
        let message = "the image could not be loaded again";
        finish(cpu, machine, vm, Leave::ended(Cause::Refused, 0, message));
        remove(machine, vms, at);
    }
}

/// The TSC at which the VM at `at` makes room: at the end of its slice if others wait, or when the first of
/// those that are halted has something to do. `None` if it is alone.
fn yield_at<V: Vendor>(vms: &[Instance<V>], at: usize, slice_end: Option<u64>) -> Option<u64> {
    let now = tsc();
    let halted = vms.iter().enumerate().filter(|&(i, vm)| i != at && vm.halted);
    let wakes = halted.map(|(_, vm)| next(&vm.vcpu, now).min(vm.vcpu.send_at));
    wakes.chain(slice_end).min()
}

fn remove<V: Vendor>(machine: &Machine<V>, vms: &mut Vec<Instance<V>>, at: usize) {
    if at < vms.len() {
        vms.remove(at).release(machine);
    }
}

/// When something is due for a halted vCPU, by the host's TSC, which is `now`.
fn next(vcpu: &Vcpu, now: u64) -> u64 {
    vcpu.timer_due(now).unwrap_or(u64::MAX).min(vcpu.vm.time_limit).min(vcpu.board_due)
}

/// Whether a halted vCPU has something to do, its time limit included.
fn wakes(vcpu: &mut Vcpu) -> bool {
    let delivers = vcpu.vm.features.contains(Features::VIRTUAL_INTERRUPTS);
    let now = tsc();
    let link = &mut output::Host { vm: vcpu.vm.number };
    // What a halted VM has written is sent in time, whoever runs.
    if now >= vcpu.send_at {
        vcpu.send_output(link);
    }
    vcpu.wakes(link, now, delivers) || now >= vcpu.vm.time_limit
}

/// Halts this CPU until something is due for one of its vCPUs, and sends what they have written before.
fn idle<'a, V: Vendor>(machine: &Machine<V>, vcpus: impl Iterator<Item = &'a mut Vcpu>) {
    let now = tsc();
    let mut until = now.saturating_add(machine.tsc_hz / 10);
    for vcpu in vcpus {
        vcpu.send_output(&mut output::Host { vm: vcpu.vm.number });
        until = until.min(next(vcpu, now));
    }
    if until > tsc() {
        machine.timer.halt_until(until);
    }
}

/// Waits with a halted vCPU that has its CPU for itself: what is in the CPU of it stays there. `false` if
/// nothing is left that could end the halt.
fn waits<V: Vendor>(machine: &Machine<V>, vcpu: &mut Vcpu) -> bool {
    let since = tsc();
    while !wakes(vcpu) {
        if next(vcpu, 0) == u64::MAX {
            return false;
        }
        idle(machine, core::iter::once(&mut *vcpu));
    }
    vcpu.halted_ticks = vcpu.halted_ticks.saturating_add(tsc().saturating_sub(since));
    true
}

/// Runs a VM until it leaves.
fn run_once<V: Vendor>(
    cpu: &mut Cpu<V>,
    machine: &'static Machine<V>,
    vm: &mut Instance<V>,
    yield_at: Option<u64>,
    alone: bool,
) -> Leave {
    if cpu.last.replace(vm.vcpu.vm.number) != Some(vm.vcpu.vm.number) {
        machine.speculation.at_switch();
    }
    if let Some(since) = vm.preempted_at.take() {
        let steal = &mut vm.vcpu.info.steal;
        steal.stolen = steal.stolen.wrapping_add(tsc().saturating_sub(since));
    }
    with_guest(cpu, machine, vm, |vcpu, guest| {
        vcpu.contended = yield_at.is_some();
        vcpu.slice_end = yield_at.unwrap_or(u64::MAX);
        loop {
            vcpu.attend();
            vcpu.info.steal.preempted = 0;
            let leave = run(vcpu, guest);
            vcpu.info.steal.preempted = 1;
            if leave != Leave::Halted || !alone || !waits(machine, vcpu) {
                break leave;
            }
            // The halt has used the timer of the CPU.
            guest.serve_host();
        }
    })
    .unwrap_or(Leave::ended(Cause::EntryFailure, 0, "the CPU refused the control block"))
}

/// Puts a VM on this CPU, with all of its state, for the time of `f`.
fn with_guest<V: Vendor, T>(
    cpu: &mut Cpu<V>,
    machine: &'static Machine<V>,
    vm: &mut Instance<V>,
    f: impl FnOnce(&mut Vcpu, &mut V::Guest<'_>) -> T,
) -> Option<T> {
    let Instance { vcpu, state, live, .. } = vm;
    machine.vendor.with_guest(&mut cpu.on, state, |guest| {
        // What setting up costs is no exit's.
        guest.set_counts((vcpu.info.vmreads, vcpu.info.vmwrites));
        live.load(vcpu.xcr0, vcpu.xcr0_may, machine.rdtscp);
        let result = f(vcpu, guest);
        vcpu.xcr0 = live.save(vcpu.xcr0_may, machine.rdtscp);
        result
    })
}

/// Reports the end of a VM.
fn finish<V: Vendor>(
    cpu: &mut Cpu<V>,
    machine: &'static Machine<V>,
    vm: &mut Instance<V>,
    leave: Leave,
) {
    let Leave::Ended { cause, code, address, message } = leave else { return };
    let mut text = Text::<1024>::new();
    text.push(message.as_bytes());
    let report = with_guest(cpu, machine, vm, |vcpu, guest| {
        if cause == Cause::EntryFailure {
            explain(guest, &mut text);
        }
        let exit = guest.vendor_exit();
        End {
            cause: cause as u32,
            reason: vcpu.reason as u32,
            vendor: exit.vendor as u64,
            vendor_code: exit.code,
            vendor_detail: exit.detail,
            code,
            address,
            exits: vcpu.exits(),
            registers: registers(vcpu, guest),
        }
    });
    vm.vcpu.send_output(&mut output::Host { vm: vm.vcpu.vm.number });
    let Some(report) = report else { return };
    let stat = vm.vcpu.stat(Moment::End, 0, tsc());
    output::send(vm.vcpu.vm.number, Channel::Stat, stat.as_bytes());
    if let Some(profile) = &vm.vcpu.profile {
        output::send(vm.vcpu.vm.number, Channel::Top, profile.top().as_bytes());
    }
    let mut payload = Text::<{ size_of::<End>() + 1024 }>::new();
    payload.push(report.as_bytes());
    payload.push(text.as_bytes());
    output::send(vm.vcpu.vm.number, Channel::End, payload.as_bytes());
}

/// Names the rules that the guest's state breaks.
fn explain(guest: &mut impl Backend, text: &mut Text<1024>) {
    let before = text.as_bytes().len();
    let _ = guest.explain(text);
    if text.as_bytes().len() == before {
        let _ = write!(
            text,
            "the CPU refused to enter the guest, and the checker knows no rule that it breaks"
        );
    }
}

fn registers(vcpu: &Vcpu, guest: &mut impl Backend) -> Registers {
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
