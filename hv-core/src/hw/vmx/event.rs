//! Events as the interruption-information fields have them.

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
}
