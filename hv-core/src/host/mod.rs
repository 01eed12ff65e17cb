//! The host side of the machine: what comes in at boot ([`bundle`]) and what goes out while it
//! runs ([`link`]).

pub mod acpi;
pub mod bundle;
pub mod link;
pub mod report;
pub mod stat;
