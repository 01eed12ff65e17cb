//! *event*: events between vCPUs, and between VMs that are linked.

use core::mem::offset_of;

use pv_abi::Status;
use pv_abi::area::VcpuShared;
use pv_abi::call::{Number, event};
use pv_abi::event::{PORTS, WAIT};

use super::smp::FIRST_VECTOR;
use super::{Arguments, Reply, UNKNOWN, timer};
use crate::device::apic::Trigger;
use crate::vm::post::Notice;
use crate::vm::vcpu::Halt;
use crate::vm::{Hardware, Leave, Vcpu};

#[inline(never)]
pub(super) fn call(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    &Arguments(first, second, third, _): &Arguments,
) -> Reply {
    let vm = vcpu.vm;
    let raised = match number {
        event::NUMBER => return Reply::Value(vm.number.into()),
        event::LINKS => return Reply::Value(vm.links),
        event::OPEN => open(vcpu, first, second, third).map(|()| None),
        event::CONNECT => port(first).and_then(|first| vm.connect_port(first, port(second)?)),
        event::CLOSE => port(first).and_then(|port| vm.close_port(port)),
        event::SEND if second & !WAIT != 0 => Err(Status::Reserved),
        event::SEND => port(first).and_then(|port| vm.peer_of(port)).map(Some),
        event::VECTOR => return vector(vcpu, first).into(),
        event::WAIT => {
            if first != 0 {
                timer::arm(vcpu, hardware, first);
            }
            return wait(vcpu);
        }
        _ => return UNKNOWN,
    };
    match raised {
        Err(status) => return Reply::Error(status),
        Ok(Some(end)) => vcpu.raise(&end, hardware),
        Ok(None) => {}
    }
    if number == event::SEND && second & WAIT != 0 { wait(vcpu) } else { Reply::Value(0) }
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

fn vector(vcpu: &mut Vcpu, vector: u64) -> Result<u64, Status> {
    let vector = u8::try_from(vector).map_err(|_| Status::InvalidArgument)?;
    if vector != 0 && vector < FIRST_VECTOR {
        return Err(Status::InvalidArgument);
    }
    vcpu.registered.event_vector = vector;
    Ok(0)
}

/// What is still on its way is seen when the vCPU is about to sleep.
fn wait(vcpu: &mut Vcpu) -> Reply {
    if vcpu.has_event() {
        return Reply::Value(0);
    }
    vcpu.halt = Halt::Event;
    Reply::Leave(0, Leave::Halted)
}

impl Vcpu {
    /// Where the guest looks for events: a word in the shared half of its area.
    fn event_word(&self, field: usize, word: u16) -> Option<u64> {
        let offset = field.wrapping_add(usize::from(word).wrapping_mul(8));
        self.registered.area?.checked_add(offset as u64)
    }

    /// Whether an event is pending that is not masked; without an area, whether there is any.
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
    pub fn expect_events(&mut self) {
        if self.post.has_events() {
            let _here = self.post.leave(Notice::Event);
            self.attend();
        }
    }
}
