//! *timer*: the one-shot timer with a deadline that the guest may move by itself.

use pv_abi::call::{Number, timer};

use super::{Arguments, Reply, UNKNOWN};
use crate::emulate::msr;
use crate::vm::{Hardware, Vcpu};

pub(super) fn call(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    number: Number,
    &Arguments(deadline, ..): &Arguments,
) -> Reply {
    match number {
        timer::ARM => {
            arm(vcpu, hardware, deadline);
            Reply::Value(0)
        }
        _ => UNKNOWN,
    }
}

/// Arms the APIC timer and, if the guest has an area, follows its shared deadline from then on.
pub fn arm(vcpu: &mut Vcpu, hardware: &mut impl Hardware, deadline: u64) {
    let _ = msr::write_deadline(vcpu, hardware, deadline);
    // Not armed: the timer is in another mode, or the deadline is 0.
    let armed = if vcpu.apic.timer_due() == Some(deadline) { deadline } else { 0 };
    if vcpu.registered.area.is_some() {
        vcpu.set_armed(armed);
    }
}

/// The timer is due. If the guest has stored a later deadline meanwhile, the timer moves there;
/// otherwise it fires.
#[inline]
pub fn expire(vcpu: &mut Vcpu, now: u64) {
    if vcpu.registered.armed != 0 {
        // First cleared, then read: a guest that sees 0 arms by call, one that stored before sees
        // its deadline followed.
        vcpu.set_armed(0);
        let deadline = vcpu.shared_deadline().unwrap_or(0);
        if deadline == 0 || deadline > now {
            vcpu.apic.move_deadline(deadline);
            vcpu.set_armed(deadline);
            return;
        }
    }
    // A posted vector is looked for right after this.
    let _ = vcpu.apic.advance_at_once(now);
}
