//! *event*: events between vCPUs, and between VMs that are linked.

use core::mem::offset_of;

use pv_abi::Status;
use pv_abi::area::VcpuShared;
use pv_abi::call::{Number, event};
use pv_abi::event::{PORTS, WAIT};

use super::smp::FIRST_VECTOR;
use super::{Arguments, Reply, timer};
use crate::device::apic::Trigger;
use crate::vm::port::End;
use crate::vm::post::Notice;
use crate::vm::vcpu::Halt;
use crate::vm::{Hardware, Leave, Vcpu};

pub(super) fn call(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    arguments: &Arguments,
) -> Reply {
    let result = perform(vcpu, hardware, number, arguments);
    if vcpu.halt == Halt::Event { Reply::Leave(0, Leave::Halted) } else { result.into() }
}

/// Does the call but for the halt, and says in the vCPU whether that follows. Its result fits into registers,
/// which that of [`call`] does not.
#[inline(never)]
fn perform(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    arguments: &Arguments,
) -> Result<u64, Status> {
    vcpu.halt = Halt::Interrupt;
    if number == event::WAIT && arguments.0 != 0 {
        timer::arm(vcpu, hardware, arguments.0);
    }
    let (value, end) = decide(vcpu, number, arguments)?;
    if let Some(end) = end {
        vcpu.raise(&end, hardware);
    }
    let waits = number == event::WAIT || number == event::SEND && arguments.1 == WAIT;
    // What is still on its way is seen when the vCPU is about to sleep.
    if waits && !vcpu.has_event() {
        vcpu.halt = Halt::Event;
    }
    Ok(value)
}

/// Does what reaches no CPU; a port may be left to be raised.
#[inline(never)]
fn decide(
    vcpu: &mut Vcpu,
    number: Number,
    &Arguments(first, second, third, _): &Arguments,
) -> Result<(u64, Option<End>), Status> {
    let vm = vcpu.vm;
    let mut value = 0;
    let end = match number {
        event::NUMBER => {
            value = vm.number.into();
            None
        }
        event::LINKS => {
            value = vm.links;
            None
        }
        event::OPEN => {
            open(vcpu, first, second, third)?;
            None
        }
        event::CONNECT => vm.connect_port(port(first)?, port(second)?)?,
        event::CLOSE => vm.close_port(port(first)?)?,
        event::SEND if second & !WAIT != 0 => return Err(Status::Reserved),
        event::SEND => Some(vm.peer_of(port(first)?)?),
        event::VECTOR => {
            vcpu.registered.event_vector = vector(first)?;
            None
        }
        event::WAIT => None,
        _ => return Err(Status::UnknownFunction),
    };
    Ok((value, end))
}

fn port(number: u64) -> Result<u16, Status> {
    let port = u16::try_from(number).ok().filter(|&port| port < PORTS);
    port.ok_or(Status::InvalidArgument)
}

fn open(vcpu: &Vcpu, number: u64, target: u64, vm: u64) -> Result<(), Status> {
    let port = port(number)?;
    let target = u8::try_from(target).map_err(|_| Status::InvalidArgument)?;
    if usize::from(target) >= vcpu.vm.posts.len() {
        return Err(Status::InvalidArgument);
    }
    vcpu.vm.open_port(port, target, vm)
}

fn vector(number: u64) -> Result<u8, Status> {
    let vector = u8::try_from(number).ok().filter(|&vector| vector == 0 || vector >= FIRST_VECTOR);
    vector.ok_or(Status::InvalidArgument)
}

impl Vcpu {
    /// Where the guest looks for events: a word in the shared half of its area.
    fn event_word(&self, field: usize, word: u16) -> Option<u64> {
        let offset = field.wrapping_add(usize::from(word).wrapping_mul(8));
        self.registered.area?.checked_add(offset as u64)
    }

    /// Whether an event is pending that is not masked; without an area, whether there is any.
    #[inline(never)]
    pub fn has_event(&self) -> bool {
        match self.event_word(offset_of!(VcpuShared, selector), 0) {
            Some(selector) => self.vm.memory.read_u64(selector).unwrap_or(0) != 0,
            None => self.post.has_events(),
        }
    }

    /// Moves events to where the guest looks for them, and interrupts it if it looks at none. Without an area
    /// they stay where they are.
    #[inline(never)]
    pub fn deliver_events(&mut self) {
        let (Some(selector), post) =
            (self.event_word(offset_of!(VcpuShared, selector), 0), self.post)
        else {
            return;
        };
        let memory = &self.vm.memory;
        let mut words = 0;
        // First the bits, then what leads to them, and what is masked is looked at in between: the guest, which
        // does each in the other order, misses none. The page was RAM when it was registered.
        post.take_events(|word, bits| {
            let place = |field| self.event_word(field, word).unwrap_or(0);
            let before = memory.set_bits(place(offset_of!(VcpuShared, pending)), bits);
            let masked = memory.read_u64(place(offset_of!(VcpuShared, masked)));
            if bits & !(before.unwrap_or(0) | masked.unwrap_or(0)) != 0 {
                words |= 1 << word;
            }
        });
        let vector = self.registered.event_vector;
        if words != 0 && memory.set_bits(selector, words) == Ok(0) && vector != 0 {
            // It is looked for before the next entry.
            let _ = self.apic.post(vector, Trigger::Edge);
        }
    }

    /// The area is registered: what came before is delivered before the next entry.
    #[inline(never)]
    pub fn expect_events(&mut self) {
        if self.post.has_events() {
            let _here = self.post.leave(Notice::Event);
            self.attend();
        }
    }
}
