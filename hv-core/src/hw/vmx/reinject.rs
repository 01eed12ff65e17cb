//! Events that an exit interrupted.

use super::controls::Interruptibility;
use crate::vm::{Event, EventKind};

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

#[cfg(test)]
mod tests {
    use super::*;

    const GP: Event = Event::exception(13, 8);
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
