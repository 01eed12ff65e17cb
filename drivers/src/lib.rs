//! Paravirtual front ends for guest kernels, over `guest-shim`.
#![no_std]
#![warn(missing_docs)]

#[cfg(test)]
extern crate std;

pub mod console;
