//! Events: bits that one vCPU sets for another, in the same VM or in one that is linked to it.

/// Ports of a VM, numbered from 0.
pub const PORTS: u16 = 1024;
/// Words of 64 bits that have a bit for each port.
pub const WORDS: usize = PORTS as usize / 64;

/// `flags` of `event.send`: when the event is on its way, wait as `event.wait` does.
pub const WAIT: u64 = 1 << 0;
