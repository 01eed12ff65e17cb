//! Memory: who owns which physical range, what a guest sees of it, and the only door to it.

pub mod frames;
pub mod guest;
pub mod nested;
pub mod paging;
pub mod tlb;
pub mod walk;
