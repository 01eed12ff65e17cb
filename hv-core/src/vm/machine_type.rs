//! The machines that a VM can be, by name.

/// What devices a VM has beside its RAM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum MachineType {
    /// A 16550 UART, a local APIC and hardware-reduced ACPI, and nothing else.
    Minimal = 0,
    /// The same and what kernels have found on every PC: two PICs, a PIT, an I/O APIC, an RTC, a PM
    /// timer, an i8042, and the ports 92h, CF9h and F4h.
    Pc = 1,
}

impl MachineType {
    /// Every machine, in the order of their numbers.
    pub const ALL: [MachineType; 2] = [MachineType::Minimal, MachineType::Pc];

    /// The name that users type.
    pub const fn name(self) -> &'static str {
        match self {
            MachineType::Minimal => "minimal",
            MachineType::Pc => "pc",
        }
    }

    /// The machine with this number in a packed description.
    pub const fn from_number(number: u32) -> Option<MachineType> {
        Some(match number {
            0 => MachineType::Minimal,
            1 => MachineType::Pc,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_machine_comes_back_from_its_number() {
        for (number, machine) in (0u32..).zip(MachineType::ALL) {
            assert_eq!((machine as u32, MachineType::from_number(number)), (number, Some(machine)));
        }
        assert_eq!(MachineType::from_number(MachineType::ALL.len() as u32), None);
    }
}
