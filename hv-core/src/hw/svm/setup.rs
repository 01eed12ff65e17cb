//! From a zeroed VMCB to one that can be entered: what its policy asks for, and the guest's state.

use super::guest::State;
use super::intercept::Clean;
use super::policy::Controls;
use super::vmcb::{Control, Save, Segment, V_INTR_MASKING};
use crate::vm::image::Start;

const PAT_RESET: u64 = 0x0007_0406_0007_0406;
const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_RESET: u64 = 0x400;
const CR0_PE: u64 = 1 << 0;
const CR0_ET: u64 = 1 << 4;
const EFER_SVME: u64 = 1 << 12;
const RFLAGS_FIXED: u64 = 1 << 1;

/// Present, 32-bit, in pages; code, readable and accessed.
const FLAT_CODE_32: u16 = 0xc9b;
/// Present, 32-bit, in pages; data, writable and accessed.
const FLAT_DATA: u16 = 0xc93;
/// Present; a busy 32-bit TSS.
const BUSY_TSS: u16 = 0x8b;

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
    control.virtual_interrupts = V_INTR_MASKING;
    control.nested_paging = 1;
}

/// Writes the guest's state at the PVH entry: 32-bit protected mode with flat segments, paging off,
/// interrupts off.
pub fn guest(state: &mut State, start: Start, tsc_offset: u64) {
    state.hidden_cr0 = 0;
    state.nmi_blocked = false;
    state.stepping = None;
    state.hurry = None;
    let control = &mut state.vmcb.control;
    controls(control, &state.controls);
    control.changed(Clean::all());
    control.tsc_offset = tsc_offset;
    control.event_injection = 0;
    control.exit_interrupt_info = 0;
    control.interrupt_shadow = 0;
    let save: &mut Save = &mut state.vmcb.save;
    zerocopy::FromZeros::zero(save);
    let segment = |attributes, limit| Segment { selector: 0, attributes, limit, base: 0 };
    let data = segment(FLAT_DATA, u32::MAX);
    for register in [&mut save.ds, &mut save.es, &mut save.ss, &mut save.fs, &mut save.gs] {
        *register = data.clone();
    }
    save.cs = segment(FLAT_CODE_32, u32::MAX);
    save.tr = segment(BUSY_TSS, 0x67);
    save.cr0 = CR0_PE | CR0_ET;
    save.efer = EFER_SVME;
    save.rip = start.entry.into();
    save.rflags = RFLAGS_FIXED;
    save.dr6 = DR6_RESET;
    save.dr7 = DR7_RESET;
    save.pat = PAT_RESET;
}
