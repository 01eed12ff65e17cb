//! A VM and its vCPU: everything about them that no vendor decides.

extern crate alloc;

use alloc::boxed::Box;
use alloc::string::String;
use core::sync::atomic::AtomicU64;

use pv_abi::area::{CALL_SLOTS, Clock, Counter, Steal, VcpuInfo};
use pv_abi::exit::{Reason, SLOTS};
use spin::{Mutex, Once};

use super::desc;
use super::exit::Ending;
use super::hardware::{Kept, Link};
use super::outbox::Outbox;
use super::port::Ports;
use super::post::{Mail, Post, Startup, Stop};
use super::profile::Profile;
use super::share::Share;
use super::{
    Event, Features, Gpr, Hardware, Leave, MachineType, Options, Outcome, Policy, Registers,
};
use crate::device::apic::{ApicPage, Effect, Mode, VirtualApic};
use crate::device::board::Board;
use crate::device::scratch::Scratch;
use crate::device::uart::Uart;
use crate::emulate::cpuid::CpuidModel;
use crate::emulate::msr::MsrState;
use crate::emulate::recent::Recent;
use crate::host::report::Cause;
use crate::host::stat::{Moment, Stat};
use crate::mem::guest::GuestMemory;
use crate::mem::tlb::Generation;

/// How long a frame may wait in the outbox, in microseconds.
pub const OUTPUT_DELAY_US: u64 = 20_000;

/// [`Vcpu::due`]: everything is to be looked at.
pub const ATTEND: u64 = 0;
/// [`Vcpu::due`]: an interrupt may have become deliverable, and nothing else is to be looked at.
pub const EVENTS: u64 = 1;

/// The longest that a guest runs without a look at it, in microseconds. It bounds the value of the
/// time-slice timer.
const HORIZON_US: u64 = 500_000;

/// What the vCPUs of a VM share.
pub struct Vm {
    /// Its number on the link.
    pub number: u8,
    /// Its name.
    pub name: String,
    /// How it is run.
    pub policy: Policy,
    /// Its options.
    pub options: Options,
    /// What the CPU has, less what the description takes away.
    pub features: Features,
    /// The VMs that it may reach, a bit for each by its number.
    pub links: u64,
    /// All VMs, by their numbers, as far as they are made.
    pub peers: &'static [Once<&'static Vm>],
    /// Its RAM.
    pub memory: GuestMemory,
    /// Translations of its nested page table.
    pub generation: Generation,
    /// What it shares, if it may.
    pub share: Option<Share>,
    /// COM1, if it has one.
    pub uart: Option<Mutex<Uart>>,
    /// The page whose every access is emulated, if it has one.
    pub scratch: Option<Box<Scratch>>,
    /// The devices that it has.
    pub machine: MachineType,
    /// Its other devices.
    pub board: Mutex<Board>,
    /// The interrupts of its devices are wired to interrupt controllers.
    pub wired: bool,
    /// Frames for the host.
    pub outbox: Mutex<Outbox>,
    /// What its vCPUs tell each other, by their numbers.
    pub posts: &'static [&'static Post],
    /// There is somebody who may leave a notice: another vCPU, or a VM that is linked.
    pub is_told: bool,
    /// Whether all of them are to stop.
    pub stop: Stop,
    /// Where its events come and go.
    pub ports: Ports,
    /// The host's TSC at which the first vCPU looks at the board.
    pub board_due: AtomicU64,
    /// The host's TSC in Hz.
    pub tsc_hz: u64,
    /// The host's TSC at which the VM started.
    pub started: u64,
    /// Host TSC ticks of one time slice.
    pub slice: u64,
    /// Its share of a CPU beside others.
    pub weight: u32,
    /// Host TSC at which the VM ends, `u64::MAX` for never.
    pub time_limit: u64,
}

/// What a guest has registered; all of it goes with a reset.
#[derive(Debug, Default)]
pub struct Registered {
    /// The shared half of the area.
    pub area: Option<u64>,
    /// The console ring.
    pub ring: Option<u64>,
    /// Bytes taken from the ring so far, modulo 2^32.
    pub ring_tail: u32,
    /// The guest TSC that was last written as `armed`; 0 if the guest's deadline is not followed.
    pub armed: u64,
    /// The vector whose end the guest may signal by the flag.
    pub eoi: Option<u8>,
    /// The vector by which it is told of events; 0 for none.
    pub event_vector: u8,
}

/// What ends the halt of a vCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// An interrupt or an NMI.
    Interrupt,
    /// An NMI: it halted with interrupts disabled.
    Nmi,
    /// An event, an interrupt or an NMI.
    Event,
}

/// A virtual CPU.
pub struct Vcpu {
    /// The general registers.
    pub registers: Registers,
    /// The host's TSC at which something must be done before the next entry: [`ATTEND`] or
    /// [`EVENTS`] for at once. An entry compares it with the TSC and does nothing else, so whatever
    /// makes work sets it.
    pub due: u64,
    /// The host's TSC at which the guest must exit, if it does not before.
    pub slice_due: u64,
    /// The same, the local APIC's timer left out.
    pub horizon: u64,
    /// The same, the end of the slice left out as well.
    pub far: u64,
    /// The read-only half of the area; the accounting is kept in it.
    pub info: &'static mut VcpuInfo,
    /// Where it is mapped once the guest has registered its own half, as a guest-physical address.
    pub info_gpa: u64,
    /// Its number in the VM.
    pub number: u32,
    /// What others tell it.
    pub post: &'static Post,
    /// Why its VM is at its end, if it has left for that.
    pub ending: Option<Ending>,
    /// The number of the CPU that it is on.
    pub cpu: u16,
    /// Where the CPUs are told which vCPUs are woken, by their numbers.
    pub mails: &'static [Mail],
    /// How it starts, if it waits for that and has been told.
    pub startup: Option<Startup>,
    /// It waits for a startup IPI, or a call that has it start.
    pub waits_for_startup: bool,
    /// The local APIC.
    pub apic: VirtualApic<&'static ApicPage>,
    /// What CPUID answers.
    pub cpuid: CpuidModel,
    /// MSRs that exist only here.
    pub msrs: MsrState,
    /// XCR0.
    pub xcr0: u64,
    /// Bits that may be set in XCR0, as the CPU has them.
    pub xcr0_may: u64,
    /// Bits that may be set in CR4.
    pub cr4_may: u64,
    /// Bits of physical addresses.
    pub physical_bits: u8,
    /// Whether EFER.NXE exists.
    pub no_execute: bool,
    /// EFER.LMA: the guest changes it only by instructions that exit.
    pub long_mode: bool,
    /// Hypercalls are possible: the VM has the ABI, and the vCPU is in long mode.
    pub may_call: bool,
    /// The guest is told to end interrupts by the flag in its area, where that needs no exit.
    pub offers_eoi: bool,
    /// An NMI waits.
    pub nmi: bool,
    /// An interrupt controller of the board asks for the CPU.
    pub extint: bool,
    /// The host's TSC at which the board must be looked at; `u64::MAX` for never.
    pub board_due: u64,
    /// The set of vectors that are triggered by a level may have changed.
    pub levels_changed: bool,
    /// What ends its halt, if it has halted.
    pub halt: Halt,
    /// An interrupt whose delivery raised an exception, which goes first.
    pub delayed: Option<Event>,
    /// The call slot that this exit is counted in beside its reason, plus one; 0 for none.
    pub call: u32,
    /// The reason that the exit is counted under.
    pub reason: Reason,
    /// An exit has been handled and not been counted: it is, at the next entry.
    pub open: bool,
    /// What the guest has registered.
    pub registered: Registered,
    /// The host's TSC at which the outbox is sent; `u64::MAX` if it is empty.
    pub send_at: u64,
    /// The host's TSC at the last exit.
    pub exited: u64,
    /// Added to the host's TSC, modulo 2^64, gives the guest's.
    pub tsc_offset: u64,
    /// The host's TSC at which it came to its CPU.
    pub began: u64,
    /// The host's TSC at which its CPU decides anew who runs; `u64::MAX` if it need not while the vCPU runs.
    pub slice_end: u64,
    /// Host TSC ticks in which it has waited for an interrupt.
    pub halted_ticks: u64,
    /// Moves to and from devices, decoded.
    pub recent: Recent,
    /// Exits by place, if they are wanted.
    pub profile: Option<Profile>,
    /// What the vCPU belongs to.
    pub vm: &'static Vm,
}

impl Vcpu {
    /// The VM ends for this cause, with this code or detail.
    #[cold]
    pub fn ends(&mut self, cause: Cause, code: u64, message: &'static str) -> Leave {
        self.ends_at(Ending { cause, code, address: 0, message })
    }

    /// The VM ends like this.
    #[cold]
    pub fn ends_at(&mut self, ending: Ending) -> Leave {
        self.ending = Some(ending);
        Leave::Ended
    }

    /// Makes the next entry look at everything first.
    #[inline(always)]
    pub fn attend(&mut self) {
        self.due = ATTEND;
    }

    /// Makes the next entry look whether an interrupt can be delivered.
    #[inline(always)]
    pub fn look_at_events(&mut self) {
        self.due = self.due.min(EVENTS);
    }

    /// Nothing is due now: when the guest must exit, seen from the host's TSC `now`, leaving its timer out.
    pub fn renew_horizon(&mut self, now: u64) {
        let vm = self.vm;
        let far = now.saturating_add(vm.ticks(HORIZON_US));
        self.far = far.min(vm.time_limit).min(self.send_at).min(self.board_due);
        self.go_on(now);
        self.horizon = self.horizon.min(self.makes_way_at());
    }

    /// The vCPU has a CPU from the host's TSC `now` on, which it leaves at `slice_end` at the latest.
    #[inline]
    pub fn begin_slice(&mut self, slice_end: u64, now: u64) {
        self.slice_end = slice_end;
        self.began = now;
        self.go_on(now);
        self.follow_timer(now);
    }

    /// It goes on with the same slice, and its timer is looked at before the next entry.
    #[inline]
    pub fn go_on(&mut self, now: u64) {
        self.horizon = self.far.min(self.slice_end);
        // Bochs does not leave a guest with IF=0 for an interrupt, so what another vCPU has to say may
        // have to wait for this.
        if self.vm.is_told {
            self.horizon = self.horizon.min(now.saturating_add(self.vm.slice));
        }
    }

    /// Whether its CPU has somebody else to look for.
    #[inline]
    pub fn contended(&self) -> bool {
        self.slice_end != u64::MAX
    }

    /// As [`Vcpu::follow_timer`], where the timer is due at the guest's TSC `deadline`, which is ahead.
    #[inline(always)]
    pub fn follow_deadline(&mut self, deadline: u64) {
        self.slice_due = self.horizon.min(deadline.wrapping_sub(self.tsc_offset));
        if self.due > EVENTS {
            self.due = self.slice_due;
        }
    }

    /// The local APIC's timer may be due at another time than it was.
    #[inline(always)]
    pub fn follow_timer(&mut self, now: u64) {
        self.slice_due = self.horizon.min(self.timer_due(now).unwrap_or(u64::MAX));
        if self.due > EVENTS {
            self.due = self.slice_due;
        }
    }

    /// EFER.LMA has changed.
    pub fn set_long_mode(&mut self, on: bool) {
        self.long_mode = on;
        self.may_call = on && self.vm.options.contains(Options::ABI);
    }

    /// Whether it waits to be started.
    pub fn set_waits_for_startup(&mut self, waits: bool) {
        self.waits_for_startup = waits;
        self.post.may_start(waits);
    }

    /// What has happened until the host's TSC `now`.
    pub fn stat(&self, moment: Moment, id: u64, now: u64) -> Stat {
        Stat {
            moment: moment as u32,
            phase: 0,
            id,
            ticks: now.saturating_sub(self.vm.started),
            halted: self.halted_ticks,
            timer_writes: self.apic.timer_writes(),
            exits: self.info.exits,
        }
    }

    /// Exits so far, marks left out.
    pub fn exits(&self) -> u64 {
        self.info
            .exits
            .iter()
            .zip(0u8..)
            .filter(|&(_, index)| index != Reason::Mark as u8)
            .fold(0, |sum, (counter, _)| sum.wrapping_add(counter.count))
    }

    /// Forgets what the guest registered. Nothing in guest memory is touched after this.
    pub fn unregister(&mut self) {
        self.registered = Registered::default();
    }

    /// Brings the vCPU to its start, at the host's TSC `now`, but for what the backend keeps. Nothing of
    /// the guest's registrations survives.
    pub fn reset(&mut self, now: u64) {
        self.unregister();
        self.ending = None;
        self.apic.power_up();
        self.post.set_mode(self.apic.mode());
        let _ = self.post.take();
        self.post.forget();
        self.set_waits_for_startup(self.number != 0);
        self.startup = None;
        self.tsc_offset = now.wrapping_neg();
        self.msrs = MsrState::start(self.msrs.cpu);
        self.xcr0 = 1;
        self.set_long_mode(false);
        self.nmi = false;
        self.halt = Halt::Interrupt;
        self.extint = false;
        self.board_due = if self.vm.wired && self.number == 0 { 0 } else { u64::MAX };
        self.levels_changed = true;
        self.delayed = None;
        self.open = false;
        self.call = 0;
        let info = &mut *self.info;
        info.exits = [Counter::default(); SLOTS];
        info.calls = [Counter::default(); CALL_SLOTS];
        info.clock = Clock::default();
        info.steal = Steal::default();
        info.vmreads = 0;
        info.vmwrites = 0;
        self.attend();
    }

    /// The guest's TSC now.
    #[inline(always)]
    pub fn now(&self, hardware: &impl Hardware) -> u64 {
        hardware.tsc().wrapping_add(self.tsc_offset)
    }

    /// A general register by number, RSP included.
    pub fn gpr(&self, hardware: &mut impl Hardware, number: u8) -> u64 {
        if number == Gpr::Rsp as u8 {
            hardware.kept(Kept::Rsp)
        } else {
            self.registers.by_number(number)
        }
    }

    /// Sets a general register by number, RSP included.
    pub fn set_gpr(&mut self, hardware: &mut impl Hardware, number: u8, value: u64) {
        if number == Gpr::Rsp as u8 {
            hardware.keep(Kept::Rsp, value);
        } else {
            self.registers.set_by_number(number, value);
        }
    }

    /// Software is about to touch the local APIC, which the CPU or the guest's flag may have changed
    /// behind its back.
    pub fn software_acts(&mut self, hardware: &mut impl Hardware) {
        self.take_back_eoi();
        if hardware.delivers_interrupts() {
            self.apic.resume_software();
        }
    }

    /// Frames wait in the outbox: they are sent within [`OUTPUT_DELAY_US`], even if the guest never
    /// exits again.
    pub fn output_waits(&mut self, link: &dyn Link) {
        if self.send_at == u64::MAX {
            self.send_at = link.tsc().saturating_add(self.vm.ticks(OUTPUT_DELAY_US));
            self.far = self.far.min(self.send_at);
            self.horizon = self.horizon.min(self.send_at);
            self.slice_due = self.slice_due.min(self.send_at);
            self.due = self.due.min(self.send_at);
        }
    }

    /// Does what is left to do after the local APIC has changed, and says how the instruction that
    /// changed it ends.
    #[inline]
    pub fn apply(&mut self, effect: Effect, hardware: &mut impl Hardware) -> Outcome {
        match effect {
            Effect::None => {}
            // A guest whose stored deadline is followed is to hear whether it still is.
            Effect::Timer | Effect::Posted(_) if self.registered.armed != 0 => self.attend(),
            Effect::Timer => self.follow_timer(hardware.tsc()),
            Effect::Eoi { vector, broadcast: true } => self.end_on_board(vector, hardware),
            // Where nothing waits, nothing becomes deliverable.
            Effect::Priority | Effect::Eoi { .. } => {
                if hardware.delivers_interrupts() || self.apic.deliverable().is_some() {
                    self.look_at_events();
                }
            }
            Effect::Posted(_) => self.look_at_events(),
            Effect::Nmi => {
                self.nmi = true;
                self.attend();
            }
            Effect::Ipi(ipi) => {
                let effect = self.send(&ipi, hardware);
                return self.apply(effect, hardware);
            }
            Effect::Mode => {
                self.post.set_mode(self.apic.mode());
                hardware.apic_changed(self.apic.mode() == Mode::X2Apic);
                self.attend();
            }
            Effect::Init => return Outcome::AdvanceAndLeave(self.init()),
            // It waits for no startup IPI, and there is no controller behind ExtINT.
            Effect::Startup(_) | Effect::ExtInt => {}
        }
        Outcome::Advance
    }
}

impl Vm {
    /// The VM with this number, if this one may reach it: it may have ended, but is never gone.
    pub fn peer(&self, number: u64) -> Option<&'static Vm> {
        let number = u8::try_from(number).ok()?;
        if self.links & desc::link(number) == 0 {
            return None;
        }
        self.peers.get(usize::from(number))?.get().copied()
    }

    /// Brings the devices to their state after a reset, `time` nanoseconds after the VM was made.
    pub fn reset_devices(&self, time: u64) {
        self.board.lock().reset(time);
        if let Some(uart) = &self.uart {
            *uart.lock() = Uart::new();
        }
        if let Some(scratch) = &self.scratch {
            scratch.reset();
        }
    }

    /// Host TSC ticks of so many microseconds.
    pub fn ticks(&self, us: u64) -> u64 {
        us.saturating_mul(self.tsc_hz / 1_000_000)
    }
}
