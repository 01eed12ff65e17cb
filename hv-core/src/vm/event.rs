//! Events: what is delivered through the IDT, in the numbers that VT-x and AMD-V share, and how two of
//! them combine.

/// The interruption type: what an event is to the CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum EventKind {
    /// An interrupt from outside.
    ExternalInterrupt = 0,
    /// A non-maskable interrupt.
    Nmi = 2,
    /// An exception of the hardware: a fault, a trap, an abort.
    HardwareException = 3,
    /// INT n.
    SoftwareInterrupt = 4,
    /// INT1.
    PrivilegedSoftwareException = 5,
    /// INT3, INTO.
    SoftwareException = 6,
    /// Not an event of the IDT; vector 0 is a pending monitor trap.
    Other = 7,
}

impl EventKind {
    /// The kind with this number; 1 is reserved.
    pub const fn from_number(number: u32) -> Option<EventKind> {
        Some(match number {
            0 => EventKind::ExternalInterrupt,
            2 => EventKind::Nmi,
            3 => EventKind::HardwareException,
            4 => EventKind::SoftwareInterrupt,
            5 => EventKind::PrivilegedSoftwareException,
            6 => EventKind::SoftwareException,
            7 => EventKind::Other,
            _ => return None,
        })
    }

    /// Whether an instruction raises it, so that delivery saves the address behind it.
    pub const fn by_instruction(self) -> bool {
        matches!(
            self,
            EventKind::SoftwareInterrupt
                | EventKind::PrivilegedSoftwareException
                | EventKind::SoftwareException
        )
    }
}

/// Bit 31 of the interruption-information fields.
pub const INFORMATION_VALID: u32 = 1 << 31;
/// Bit 11 of the interruption-information fields.
pub const INFORMATION_ERROR_CODE: u32 = 1 << 11;

/// An event that is delivered through the IDT, or was being delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The vector.
    pub vector: u8,
    /// What it is.
    pub kind: EventKind,
    /// The error code that delivery pushes.
    pub error_code: Option<u32>,
    /// Bytes of the instruction that raises it; 0 unless [`EventKind::by_instruction`].
    pub instruction_length: u8,
}

impl Event {
    /// An interrupt from outside.
    pub const fn interrupt(vector: u8) -> Event {
        Event {
            vector,
            kind: EventKind::ExternalInterrupt,
            error_code: None,
            instruction_length: 0,
        }
    }

    /// Whether it is an exception that is delivered before its instruction has done anything.
    pub const fn is_fault(&self) -> bool {
        /// #DB, #BP and #OF are not always, and #DF and #MC never.
        const OTHERS: u32 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 8 | 1 << 18;
        matches!(self.kind, EventKind::HardwareException)
            && 1u32.wrapping_shl(self.vector as u32) & OTHERS == 0
    }

    /// A non-maskable interrupt.
    pub const fn nmi() -> Event {
        Event { vector: 2, kind: EventKind::Nmi, error_code: None, instruction_length: 0 }
    }

    /// An exception of the hardware; the error code is kept only where the vector has one.
    pub const fn exception(vector: u8, error_code: u32) -> Event {
        let error_code = if has_error_code(vector) { Some(error_code) } else { None };
        Event { vector, kind: EventKind::HardwareException, error_code, instruction_length: 0 }
    }

    /// An exception of the hardware as it must be injected into a guest whose CR0.PE is clear:
    /// real mode pushes no error codes, and the entry is refused if one is asked for.
    pub const fn in_real_mode(self) -> Event {
        Event { error_code: None, ..self }
    }

    /// The interruption-information field that stands for it, valid bit set.
    pub const fn information(self) -> u32 {
        let code = if self.error_code.is_some() { INFORMATION_ERROR_CODE } else { 0 };
        INFORMATION_VALID | code | (self.kind as u32) << 8 | self.vector as u32
    }

    /// The event that an interruption-information or IDT-vectoring information field stands for;
    /// `None` if the field is not valid. `error_code` and `instruction_length` are asked for only
    /// where they count, so that a VMREAD is spent only then.
    pub fn decode(
        information: u32,
        error_code: impl FnOnce() -> u32,
        instruction_length: impl FnOnce() -> u32,
    ) -> Option<Event> {
        if information & INFORMATION_VALID == 0 {
            return None;
        }
        let kind = EventKind::from_number(information >> 8 & 7)?;
        Some(Event {
            vector: information as u8,
            kind,
            error_code: (information & INFORMATION_ERROR_CODE != 0).then(error_code),
            instruction_length: if kind.by_instruction() { instruction_length() as u8 } else { 0 },
        })
    }
}

/// Whether the exception with this vector pushes an error code in protected mode: #DF, #TS, #NP,
/// #SS, #GP, #PF, #AC.
pub const fn has_error_code(vector: u8) -> bool {
    matches!(vector, 8 | 10..=14 | 17)
}

const DOUBLE_FAULT: u8 = 8;

/// What to do about an exception that comes in while another event is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Combined {
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
pub fn combine(pending: Option<Event>, new: Event) -> Combined {
    let first = pending.map_or(Class::Benign, class);
    match (first, class(new)) {
        (Class::DoubleFault, Class::Contributory | Class::PageFault | Class::DoubleFault) => {
            Combined::TripleFault
        }
        (Class::Contributory, Class::Contributory)
        | (Class::PageFault, Class::Contributory | Class::PageFault) => {
            Combined::Deliver(Event::exception(DOUBLE_FAULT, 0))
        }
        _ => Combined::Deliver(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_the_way_through_the_fields() {
        for event in [
            Event::interrupt(0xff),
            Event::nmi(),
            Event::exception(14, 7),
            Event::exception(6, 7),
            Event {
                vector: 0x80,
                kind: EventKind::SoftwareInterrupt,
                error_code: None,
                instruction_length: 2,
            },
        ] {
            let back = Event::decode(
                event.information(),
                || event.error_code.unwrap(),
                || event.instruction_length.into(),
            );
            assert_eq!(back, Some(event));
        }
    }

    #[test]
    fn exceptions_with_an_error_code_are_the_manuals() {
        let with: std::vec::Vec<u8> = (0..=u8::MAX).filter(|&v| has_error_code(v)).collect();
        assert_eq!(with, [8, 10, 11, 12, 13, 14, 17]);
    }

    #[test]
    fn the_field_is_laid_out_as_the_manual_says() {
        assert_eq!(Event::exception(13, 0).information(), 0x8000_0b0d);
        assert_eq!(Event::exception(6, 0).information(), 0x8000_0306);
        assert_eq!(Event::nmi().information(), 0x8000_0202);
        assert_eq!(Event::interrupt(0x20).information(), 0x8000_0020);
        assert_eq!(Event::exception(13, 0).in_real_mode().information(), 0x8000_030d);
    }

    #[test]
    fn fields_that_do_not_count_are_not_read() {
        let unread = || panic!("read");
        assert_eq!(Event::decode(0x0000_0b0d, unread, unread), None, "not valid");
        assert_eq!(Event::decode(0x8000_0106, unread, unread), None, "reserved kind");
        assert_eq!(Event::decode(0x8000_0020, unread, unread), Some(Event::interrupt(0x20)));
    }

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
        let deliver = Combined::Deliver;
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
            (Some(DF), GP, Combined::TripleFault),
            (Some(DF), PF, Combined::TripleFault),
        ];
        for (first, second, outcome) in table {
            assert_eq!(combine(first, second), outcome, "{first:?}, then {second:?}");
        }
        let divide = Event::exception(0, 0);
        let virtualization = Event::exception(20, 0);
        assert_eq!(combine(Some(divide), GP), deliver(DF), "#DE is contributory");
        assert_eq!(combine(Some(virtualization), PF), deliver(DF), "#VE is like a page fault");
    }
}
