//! A virtual machine and what it is made of.

pub mod desc;
pub mod feature;
pub mod policy;
