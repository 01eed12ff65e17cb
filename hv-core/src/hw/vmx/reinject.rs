//! Events that an exit interrupted, and what becomes of them when a new exception comes in.

use super::controls::{Event, EventKind, Interruptibility};

const DOUBLE_FAULT: u8 = 8;

/// The event whose delivery the exit interrupted, to be injected again at the next entry if
/// nothing else is. `error_code` and `instruction_length` read the IDT-vectoring error code and
/// the VM-exit instruction length, and are called only where they count.
///
/// An NMI comes with NMI blocking that its delivery has set already: see [`interruptibility_for`].
pub fn interrupted(
    idt_vectoring_information: u32,
    error_code: impl FnOnce() -> u32,
    instruction_length: impl FnOnce() -> u32,
) -> Option<Event> {
    Event::decode(idt_vectoring_information, error_code, instruction_length)
}

/// The interruptibility state to enter the guest with when the event is injected: an NMI sets NMI
/// blocking by itself, and under virtual NMIs is refused while that is set.
pub fn interruptibility_for(event: Event, state: Interruptibility) -> Interruptibility {
    match event.kind {
        EventKind::Nmi => state.difference(Interruptibility::BLOCKING_BY_NMI),
        _ => state,
    }
}

/// What to do about an exception that comes in while another event is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Deliver this event. Unless it is a double fault, the pending one comes after it: one that
    /// an instruction raises comes by itself when that runs again; an interrupt or an NMI must be
    /// kept by the caller, since nothing else will raise it again.
    Deliver(Event),
    /// The CPU shuts down.
    TripleFault,
}

/// The classes of SDM vol. 3, "Interrupt 8 -- Double Fault Exception (#DF)".
#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Benign,
    Contributory,
    PageFault,
    DoubleFault,
}

fn class(event: Event) -> Class {
    if event.kind != EventKind::HardwareException {
        return Class::Benign;
    }
    match event.vector {
        0 | 10..=13 | 21 => Class::Contributory,
        14 | 20 => Class::PageFault,
        DOUBLE_FAULT => Class::DoubleFault,
        _ => Class::Benign,
    }
}

/// Combines the event that was being delivered with a new exception, as the SDM's table
/// "Conditions for Generating a Double Fault" does.
pub fn combine(pending: Option<Event>, new: Event) -> Outcome {
    let first = pending.map_or(Class::Benign, class);
    match (first, class(new)) {
        (Class::DoubleFault, Class::Contributory | Class::PageFault | Class::DoubleFault) => {
            Outcome::TripleFault
        }
        (Class::Contributory, Class::Contributory)
        | (Class::PageFault, Class::Contributory | Class::PageFault) => {
            Outcome::Deliver(Event::exception(DOUBLE_FAULT, 0))
        }
        _ => Outcome::Deliver(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DF: Event = Event::exception(8, 0);
    const GP: Event = Event::exception(13, 8);
    const NP: Event = Event::exception(11, 16);
    const PF: Event = Event::exception(14, 2);
    const UD: Event = Event::exception(6, 0);
    const INT_13: Event = Event {
        vector: 13,
        kind: EventKind::SoftwareInterrupt,
        error_code: None,
        instruction_length: 2,
    };

    #[test]
    fn exceptions_combine_as_in_the_manuals_table() {
        let deliver = Outcome::Deliver;
        let table = [
            (None, PF, deliver(PF)),
            // First benign.
            (Some(UD), UD, deliver(UD)),
            (Some(UD), GP, deliver(GP)),
            (Some(UD), PF, deliver(PF)),
            (Some(Event::interrupt(0x20)), GP, deliver(GP)),
            (Some(Event::nmi()), PF, deliver(PF)),
            (Some(INT_13), GP, deliver(GP)),
            // First contributory.
            (Some(NP), UD, deliver(UD)),
            (Some(NP), GP, deliver(DF)),
            (Some(NP), PF, deliver(PF)),
            // First a page fault.
            (Some(PF), UD, deliver(UD)),
            (Some(PF), GP, deliver(DF)),
            (Some(PF), PF, deliver(DF)),
            // First a double fault.
            (Some(DF), UD, deliver(UD)),
            (Some(DF), GP, Outcome::TripleFault),
            (Some(DF), PF, Outcome::TripleFault),
        ];
        for (first, second, outcome) in table {
            assert_eq!(combine(first, second), outcome, "{first:?}, then {second:?}");
        }
        let divide = Event::exception(0, 0);
        let virtualization = Event::exception(20, 0);
        assert_eq!(combine(Some(divide), GP), deliver(DF), "#DE is contributory");
        assert_eq!(combine(Some(virtualization), PF), deliver(DF), "#VE is like a page fault");
    }

    #[test]
    fn what_was_interrupted_is_injected_again_whole() {
        assert_eq!(interrupted(0x0000_0b0e, || 7, || 3), None);
        let fault = interrupted(0x8000_0b0e, || 7, || panic!("no instruction raised it"));
        assert_eq!(fault, Some(Event::exception(14, 7)));
        let soft = interrupted(0x8000_0480, || panic!("it has no error code"), || 2).unwrap();
        assert_eq!((soft.vector, soft.instruction_length), (0x80, 2));
        assert_eq!(soft.information(), 0x8000_0480);
    }

    #[test]
    fn an_nmi_is_not_blocked_by_itself() {
        let state = Interruptibility::BLOCKING_BY_NMI | Interruptibility::BLOCKING_BY_STI;
        let after = interruptibility_for(Event::nmi(), state);
        assert_eq!(after, Interruptibility::BLOCKING_BY_STI);
        assert_eq!(interruptibility_for(GP, state), state);
    }
}
