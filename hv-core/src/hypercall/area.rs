//! *area*: what is shared instead of asked for.

use core::mem::offset_of;
use core::sync::atomic::{Ordering, fence};

use pv_abi::Status;
use pv_abi::area::{Clock, VcpuShared};
use pv_abi::call::{Number, area};

use super::{Arguments, Reply, UNKNOWN, page};
use crate::vm::{Hardware, Vcpu};

pub(super) fn call(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    &Arguments(gpa, ..): &Arguments,
) -> Reply {
    match number {
        area::REGISTER => register(vcpu, hardware, gpa).into(),
        area::UNREGISTER => {
            if vcpu.registered.area.is_none() {
                return Reply::Error(Status::NotReady);
            }
            vcpu.take_back_eoi();
            vcpu.stop_following();
            vcpu.registered.area = None;
            if let Some(owed) = hardware.show_info(false) {
                vcpu.vm.generation.publish(owed);
                vcpu.attend();
            }
            Reply::Value(0)
        }
        _ => UNKNOWN,
    }
}

fn register(vcpu: &mut Vcpu, hardware: &mut impl Hardware, gpa: u64) -> Result<u64, Status> {
    let gpa = page(vcpu, gpa)?;
    if vcpu.registered.area.is_some() {
        return Err(Status::AlreadyDone);
    }
    vcpu.tell_clock(hardware);
    vcpu.info.vcpu = vcpu.number;
    let _none_owed = hardware.show_info(true);
    vcpu.registered.area = Some(gpa);
    vcpu.expect_events();
    Ok(vcpu.info_gpa)
}

/// The clock's tuple for a TSC of `now`, `since` ticks after the VM's start: it stays true as long as the TSC runs at
/// its frequency.
///
/// Whoever registers, and whenever, gets a tuple of the same line, to the nanosecond: it is 2 to the power of `SHIFT`
/// ticks from base to base, of which each is a whole number of nanoseconds by the multiplier. A base has to be a TSC
/// that was; after a reset, or when the guest has set its TSC back, there may be none yet, and it is the TSC's start.
fn clock(tsc_hz: u64, now: u64, since: u64) -> Clock {
    const SHIFT: u32 = 32;
    let multiplier =
        (1_000_000_000u128 << SHIFT).checked_div(u128::from(tsc_hz)).unwrap_or(0) as u64;
    let ago = now.min(since & ((1 << SHIFT) - 1));
    let base = u128::from(since.wrapping_sub(ago));
    let ns_base = (base.wrapping_mul(multiplier.into()) >> SHIFT) as u64;
    let tsc_base = now.wrapping_sub(ago);
    Clock { tsc_base, ns_base, multiplier, shift: SHIFT, ..Clock::default() }
}

impl Vcpu {
    /// Writes the clock's tuple for what the TSC is now. Other vCPUs may read it meanwhile.
    pub fn tell_clock(&mut self, hardware: &impl Hardware) {
        let host = hardware.tsc();
        let (now, since) =
            (host.wrapping_add(self.tsc_offset), host.saturating_sub(self.vm.started));
        let odd = self.info.clock.sequence.wrapping_add(1);
        self.info.clock.sequence = odd;
        fence(Ordering::SeqCst);
        self.info.clock = Clock { sequence: odd, ..clock(self.vm.tsc_hz, now, since) };
        fence(Ordering::SeqCst);
        self.info.clock.sequence = odd.wrapping_add(1);
    }

    fn shared(&self, offset: usize) -> Option<u64> {
        self.registered.area?.checked_add(offset as u64)
    }

    /// Tells the guest when its deadline is looked at next; 0 for never.
    pub fn set_armed(&mut self, armed: u64) {
        self.registered.armed = armed;
        if let Some(gpa) = self.shared(offset_of!(VcpuShared, armed)) {
            // The page was RAM when it was registered, and RAM does not go away.
            let _ = self.vm.memory.write_u64(gpa, armed);
        }
    }

    /// The timer is armed otherwise, or not at all: the shared deadline counts no longer.
    pub fn stop_following(&mut self) {
        if self.registered.armed != 0 {
            self.set_armed(0);
        }
    }

    /// The deadline that the guest has stored.
    pub fn shared_deadline(&self) -> Option<u64> {
        let gpa = self.shared(offset_of!(VcpuShared, deadline))?;
        self.vm.memory.read_u64(gpa).ok()
    }

    /// Lets the guest signal the end of `vector` by the flag.
    pub fn offer_eoi(&mut self, vector: u8) {
        if let Some(gpa) = self.shared(offset_of!(VcpuShared, eoi)) {
            let _ = self.vm.memory.write_u32(gpa, 1);
            self.registered.eoi = Some(vector);
        }
    }

    /// Does an end of interrupt that the flag has signalled, and takes the flag back if its end
    /// would no longer be without effect: then the guest finds 0 there and uses the register.
    /// Called before priorities are looked at.
    #[inline]
    pub fn settle_eoi(&mut self) {
        if let Some(vector) = self.registered.eoi
            && (self.flag() == 0 || !self.apic.eoi_may_wait(vector))
        {
            self.take_back_eoi();
        }
    }

    /// As [`Vcpu::settle_eoi`], and takes the flag back in any case: the guest uses the registers.
    #[inline(always)]
    pub fn take_back_eoi(&mut self) {
        if self.registered.eoi.take().is_some() {
            self.take_back_offer();
        }
    }

    #[inline(never)]
    fn take_back_offer(&mut self) {
        if self.flag() == 0 {
            // Edge-triggered by the offer's own rule: nobody waits for the effect.
            let _ = self.apic.eoi();
        }
        if let Some(gpa) = self.shared(offset_of!(VcpuShared, eoi)) {
            let _ = self.vm.memory.write_u32(gpa, 0);
        }
    }

    fn flag(&self) -> u32 {
        let gpa = self.shared(offset_of!(VcpuShared, eoi));
        gpa.and_then(|gpa| self.vm.memory.read_u32(gpa).ok()).unwrap_or(1)
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;
    use crate::vm::testing::{Fake, Setup};

    #[test]
    fn each_vcpu_finds_its_number_and_the_same_clock() {
        let (mut vcpus, mut hardware) = (Setup::default().vcpus(3), Fake::new());
        let found = vcpus.iter_mut().map(|vcpu| {
            hardware.pass(1234);
            register(vcpu, &mut hardware, 0x5000).unwrap();
            let Clock { tsc_base, ns_base, .. } = vcpu.info.clock;
            (vcpu.info.vcpu, tsc_base, ns_base)
        });
        assert_eq!(found.collect::<Vec<_>>(), [(0, 0, 0), (1, 0, 0), (2, 0, 0)]);
    }

    fn read(clock: &Clock, tsc: u64) -> u64 {
        let product = u128::from(tsc - clock.tsc_base) * u128::from(clock.multiplier);
        clock.ns_base + (product >> clock.shift) as u64
    }

    #[test]
    fn clocks_that_are_registered_at_any_time_say_the_same() {
        // A frequency that no multiplier hits.
        let hz = 2_994_373_000;
        let since_start = [0, 7, (1 << 32) - 1, 1 << 32, 123 << 33, hz * 86_400];
        let clocks = since_start.map(|since| clock(hz, since, since));
        for tsc in [hz * 86_400, hz * 86_401 + 12_345] {
            let first = read(&clocks[0], tsc);
            assert!(first.abs_diff(tsc / 299_437_300 * 100_000_000) < 200_000_000, "the time");
            assert!(clocks.iter().all(|clock| read(clock, tsc) == first), "{clocks:?}");
        }
    }

    #[test]
    fn a_clock_goes_on_where_the_tsc_began_anew() {
        let clocks = [5, 1000].map(|now| clock(1_000_000_000, now, 777_000_000_000 + now));
        for (clock, now) in clocks.iter().zip([5, 1000]) {
            assert_eq!((clock.tsc_base, clock.ns_base), (0, 777_000_000_000));
            assert_eq!(read(clock, now), 777_000_000_000 + now);
        }
    }
}
