//! A virtual machine and what it is made of.

pub mod acpi;
pub mod bits;
pub mod desc;
pub mod event;
pub mod exit;
pub mod feature;
pub mod handle;
pub mod hardware;
pub mod image;
pub mod ipi;
pub mod kind;
pub mod machine_type;
pub mod outbox;
pub mod policy;
pub mod port;
pub mod post;
pub mod profile;
pub mod registers;
pub mod run;
pub mod share;
#[cfg(test)]
pub mod testing;
pub mod vcpu;
mod wires;

pub use desc::Options;
pub use event::{Combined, Event, EventKind};
pub use exit::{Exit, Leave, Outcome};
pub use feature::Features;
pub use hardware::Hardware;
pub use kind::ImageKind;
pub use machine_type::MachineType;
pub use policy::Policy;
pub use registers::{Gpr, Registers};
pub use vcpu::{Vcpu, Vm};
