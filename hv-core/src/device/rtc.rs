//! stub
#![allow(missing_docs)]
#[derive(Debug)]
pub struct Rtc;
impl Rtc {
    pub fn new(_: u64, _: u64) -> Rtc { Rtc }
    pub fn reset(&mut self) {}
    pub fn read_index(&self) -> u8 { 0 }
    pub fn write_index(&mut self, _: u8) {}
    pub fn read_data(&mut self, _: u64) -> u8 { 0 }
    pub fn write_data(&mut self, _: u8, _: u64) {}
    pub fn interrupt(&mut self, _: u64) -> bool { false }
    pub fn due(&self, _: u64) -> Option<u64> { None }
}
