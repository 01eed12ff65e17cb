//! Ports that a guest cannot write without ending its machine.

use core::ops::RangeInclusive;

/// Ports that end the machine or reset it, or that QEMU's or Bochs's debugging devices have: the
/// keyboard controller's commands, the fast A20 gate, the APM's, the debug exit, PCI reset, power
/// management of chipsets.
const ENDS: &[RangeInclusive<u16>] = &[
    0x64..=0x64,
    0x92..=0x92,
    0xb2..=0xb3,
    0xf4..=0xf7,
    0xcf9..=0xcf9,
    0x600..=0x67f,
    0x8900..=0x8900,
    0xb000..=0xb03f,
];

/// Whether an access of up to four bytes at this port reaches one of them.
pub fn ends(port: u16) -> bool {
    (port..=port.saturating_add(3)).any(|port| ENDS.iter().any(|range| range.contains(&port)))
}
