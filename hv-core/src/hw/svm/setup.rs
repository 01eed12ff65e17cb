//! From a zeroed VMCB to one that can be entered: what its policy asks for, and the guest's state.

use zerocopy::FromZeros;

use super::guest::State;
use super::hardware::place;
use super::intercept::Clean;
use super::policy::{Controls, PAUSE_FILTER_THRESHOLD};
use super::vmcb::{Control, Segment, V_INTR_MASKING, Vmcb};
use crate::hw::check::{cr0, efer};
use crate::hw::start;
use crate::vm::image::Start;

/// Writes what a policy asks for.
pub fn controls(control: &mut Control, controls: &Controls) {
    control.cr_reads = controls.cr_reads;
    control.cr_writes = controls.cr_writes;
    control.dr_reads = controls.drs;
    control.dr_writes = controls.drs;
    control.exceptions = controls.exceptions;
    control.misc1 = controls.misc1.bits();
    control.misc2 = controls.misc2.bits();
    control.misc3 = controls.misc3.bits();
    control.pause_filter_count = controls.pause_filter;
    control.pause_filter_threshold =
        if controls.pause_filter == 0 { 0 } else { PAUSE_FILTER_THRESHOLD };
    control.virtual_interrupts = V_INTR_MASKING;
    control.nested_paging = 1;
}

/// Writes the state that the guest starts in.
pub fn guest(state: &mut State, start: Start, tsc_offset: u64) {
    state.nmi_blocked = false;
    state.stepping = None;
    state.hurry = None;
    let Vmcb { control, save } = &mut *state.vmcb;
    controls(control, &state.controls);
    control.changed(Clean::all());
    control.tsc_offset = tsc_offset;
    control.event_injection = 0;
    control.exit_interrupt_info = 0;
    control.interrupt_shadow = 0;
    save.zero();
    for (register, value) in start::registers(start) {
        *place(save, register).0 = value;
    }
    save.efer |= efer::SVME;
    state.hidden_cr0 = save.cr0 & cr0::CACHE;
    save.cr0 &= !cr0::CACHE;
    let hides = u16::from(state.hidden_cr0 != 0);
    control.cr_reads |= hides;
    control.cr_writes |= hides;
    save.dr6 = start::DR6;
    let [es, cs, ss, ds] = [&mut save.es, &mut save.cs, &mut save.ss, &mut save.ds];
    let [fs, gs, ldtr, tr] = [&mut save.fs, &mut save.gs, &mut save.ldtr, &mut save.tr];
    let from = start::state(start.mode);
    for (to, &segment) in
        [es, cs, ss, ds, fs, gs, ldtr, tr].into_iter().zip(&start::segments_of(start.mode))
    {
        let start::Segment { selector, base, limit, rights } = segment;
        *to = Segment { selector, attributes: rights.attributes(), limit, base };
    }
    for (to, (base, limit)) in [(&mut save.gdtr, from.gdt), (&mut save.idtr, from.idt)] {
        *to = Segment { selector: 0, attributes: 0, limit, base };
    }
}
