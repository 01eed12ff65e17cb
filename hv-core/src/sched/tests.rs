use std::boxed::Box;
use std::cell::Cell;
use std::vec;
use std::vec::Vec;

use super::*;

use simulation::SLICE;

mod balance;
mod cost;
mod fairness;
mod one;
mod simulation;

std::thread_local! {
    /// How often entries were compared.
    pub(super) static COMPARISONS: Cell<u64> = const { Cell::new(0) };
}
