//! The writes that a busy guest makes, each as far as it has no effect but on this APIC. Where one is not
//! that simple nothing is done, and the general way is taken.

use core::ops::Deref;

use super::page::offset::LVT_TIMER;
use super::registers::MASKED;
use super::source::FIRST_VECTOR;
use super::{ApicPage, Mode, Trigger, Vectors, VirtualApic};

/// The MSR of the EOI register.
const MSR_EOI: u32 = 0x80b;
/// The MSR of the self-IPI register.
const MSR_SELF_IPI: u32 = 0x83f;

impl<P: Deref<Target = ApicPage>> VirtualApic<P> {
    /// WRMSR that ends an edge-triggered interrupt, or sends a vector to this APIC, in x2APIC mode.
    /// `true` if it was done: [`VirtualApic::deliverable`] may have changed. Not for an APIC whose
    /// interrupts the CPU delivers.
    #[inline(always)]
    pub fn write_frequent(&mut self, msr: u32, value: u64) -> bool {
        if self.mode() != Mode::X2Apic {
            return false;
        }
        match msr {
            MSR_EOI if value == 0 => {
                let Some(vector) = self.in_service() else { return true };
                let edge = !self.page.has(Vectors::Tmr, vector);
                if edge {
                    self.page.remove(Vectors::Isr, vector);
                }
                edge
            }
            MSR_SELF_IPI if self.enabled && (FIRST_VECTOR.into()..=0xff).contains(&value) => {
                self.request(value as u8, Trigger::Edge);
                true
            }
            _ => false,
        }
    }

    /// IA32_TSC_DEADLINE moves from one time to come to another, or is set. `true` if it was done:
    /// [`VirtualApic::timer_due`] is `tsc`.
    #[inline(always)]
    pub fn move_armed_deadline(&mut self, tsc: u64, now: u64) -> bool {
        let moved =
            tsc > now && self.page.get(LVT_TIMER) & MASKED == 0 && self.timer.move_ahead(tsc, now);
        if moved {
            self.timer_writes = self.timer_writes.wrapping_add(1);
        }
        moved
    }
}
