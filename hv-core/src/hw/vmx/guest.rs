//! A vCPU in VT-x: the neutral interface over the current VMCS.

use core::arch::asm;
use core::ops::ControlFlow;

use super::capability::Capabilities;
use super::check::{self, Violation};
use super::controls::{
    AccessRights, Entry, Event, Interruptibility, PendingDebug, Primary, Secondary,
};
use super::enter::{Switch, enter};
use super::ept::Ept;
use super::exit_reason::{Basic, ExitReason};
use super::field::{self, Segment, VmcsWrite};
use super::policy::Controls;
use super::qualification::{ApicAccess, CrAccess, DrAccess, EptViolation, IoAccess};
use super::reinject::{interrupted, interruptibility_for};
use super::vmcs::ActiveVmcs;
use crate::emulate::cpuid;
use crate::hw::instructions::{rdmsr, tsc, wrmsr};
use crate::hw::physical::FixedTables;
use crate::hw::speculation::Speculation;
use crate::hw::{local_apic, output};
use crate::hypercall;
use crate::mem::frames::PAGE;
use crate::mem::nested::{Access, NestedTable};
use crate::mem::tlb::{Generation, MustFlush, Seen};
use crate::vm::exit::{self, Exit, NestedFault, PortAccess};
use crate::vm::hardware::{Backend, Kept, Link, LiveMsr, Mode};
use crate::vm::run::{Frame, Left, answer, finish};
use crate::vm::{EventKind, Features, Hardware, Vcpu};
use pv_abi::area::INFO_SIZE;
use pv_abi::exit::Reason;

const CR4_MCE: u64 = 1 << 6;
const CR4_VMXE: u64 = 1 << 13;
const RFLAGS_TF: u64 = 1 << 8;
const RFLAGS_IF: u64 = 1 << 9;
const RFLAGS_VM: u64 = 1 << 17;
const DEBUGCTL_BTF: u64 = 1 << 1;
const CR0_PE: u64 = 1 << 0;
const EFER_LMA: u64 = 1 << 10;

/// What belongs to a vCPU and stays when it leaves the CPU.
#[derive(Debug)]
pub struct State {
    /// The controls as the policy has them.
    pub controls: Controls,
    /// The primary controls as they stand in the VMCS.
    pub primary: Primary,
    /// The entry controls as they stand in the VMCS.
    pub entry: Entry,
    /// The world switch's own.
    pub switch: Switch,
    /// What this CPU has flushed for.
    pub seen: Seen,
    /// The nested page table.
    pub nested: NestedTable<Ept>,
    /// Where the read-only half of the area is for the guest, and where it is.
    pub info: (u64, u64),
    /// The EPT pointer.
    pub eptp: u64,
    /// The VPID; not 0.
    pub vpid: u16,
    /// The page of MSR bitmaps, if they are used.
    pub msr_bitmaps: Option<u64>,
    /// The last entry was refused, by the CPU (VMfail) or by the checker: there was no exit.
    pub refused: bool,
    /// The rule that the last refused entry broke.
    pub violation: Option<Violation>,
}

impl State {
    /// Maps the read-only half of the area, or takes it away, for which a flush is owed.
    pub fn show_info(&mut self, show: bool) -> Option<MustFlush> {
        // Its tables were made with the VM, so none is allocated, and mapping cannot fail.
        let (gpa, hpa) = self.info;
        let nested = &mut self.nested;
        if show {
            let _ = nested.map(&mut FixedTables, gpa, hpa, INFO_SIZE as u64, Access::ReadOnly);
            return None;
        }
        let second = gpa.wrapping_add(PAGE);
        let first = nested.unmap_page(&mut FixedTables, gpa).ok()?;
        nested.unmap_page(&mut FixedTables, second).ok().map(|owed| owed.and(first))
    }
}

/// A vCPU that runs on this CPU.
pub struct Guest<'a> {
    /// Its VMCS.
    pub vmcs: ActiveVmcs<'a>,
    /// What stays when it leaves.
    pub state: &'a mut State,
    /// What the CPU can do.
    pub caps: &'a Capabilities,
    /// The VMX-preemption timer counts when this bit of the TSC changes.
    pub timer_shift: u8,
}

impl Guest<'_> {
    fn rights(&self, segment: Segment) -> AccessRights {
        AccessRights::from_bits_retain(self.vmcs.get(segment.access_rights()))
    }

    fn interruptibility(&self) -> Interruptibility {
        let bits = self.vmcs.get(field::GUEST_INTERRUPTIBILITY_STATE);
        Interruptibility::from_bits_retain(bits)
    }

    fn set_interruptibility(&mut self, state: Interruptibility) {
        self.vmcs.write(field::GUEST_INTERRUPTIBILITY_STATE, state.bits());
    }

    fn qualification(&self) -> u64 {
        self.vmcs.get(field::EXIT_QUALIFICATION)
    }

    /// Exits that can come while an event is being delivered: the event is injected again, unless
    /// what is done about the exit takes its place (SDM vol. 3, Information for VM Exits During
    /// Event Delivery).
    fn reinject(&mut self) {
        let information = self.vmcs.get(field::IDT_VECTORING_INFORMATION);
        let event = interrupted(
            information,
            || self.vmcs.get(field::IDT_VECTORING_ERROR_CODE),
            || self.vmcs.get(field::EXIT_INSTRUCTION_LENGTH),
        );
        if let Some(event) = event {
            let state = self.interruptibility();
            self.set_interruptibility(interruptibility_for(event, state));
            self.inject(event);
        }
    }

    fn exception_or_nmi(&mut self) -> Exit {
        let information = self.vmcs.get(field::EXIT_INTERRUPTION_INFORMATION);
        let event = Event::decode(
            information,
            || self.vmcs.get(field::EXIT_INTERRUPTION_ERROR_CODE),
            || self.vmcs.get(field::EXIT_INSTRUCTION_LENGTH),
        );
        match event {
            Some(Event { kind: EventKind::Nmi, .. }) => Exit::Nmi,
            Some(Event { vector: 18, .. }) => {
                // SAFETY: the handler of vector 18 reports the machine check and stops.
                unsafe { asm!("int 18") };
                Exit::Other
            }
            Some(event) => {
                if event.vector == 1 {
                    self.step_in_shadow();
                }
                self.restore_nmi_blocking(information);
                self.reinject();
                Exit::Exception { event, detail: self.qualification() }
            }
            None => Exit::Other,
        }
    }

    /// An entry with TF in the shadow of STI or MOV SS needs the pending single step, which a #DB exit
    /// does not leave set (SDM vol. 3, Checks on Guest Non-Register State).
    fn step_in_shadow(&mut self) {
        let shadow = Interruptibility::BLOCKING_BY_STI | Interruptibility::BLOCKING_BY_MOV_SS;
        let stepping = self.vmcs.get(field::GUEST_RFLAGS) & RFLAGS_TF != 0;
        if stepping && self.interruptibility().intersects(shadow) {
            self.single_step();
        }
    }

    /// An IRET that faulted had ended NMI blocking already: bit 12 says so (SDM vol. 3, Information
    /// for VM Exits Due to Vectored Events).
    fn restore_nmi_blocking(&mut self, information: u32) {
        if information & 1 << 12 != 0 {
            let state = self.interruptibility() | Interruptibility::BLOCKING_BY_NMI;
            self.set_interruptibility(state);
        }
    }

    fn ept_violation(&mut self) -> Exit {
        let violation = EptViolation::decode(self.qualification());
        if violation.nmi_unblocked {
            self.restore_nmi_blocking(1 << 12);
        }
        self.reinject();
        let linear = self.vmcs.get(field::GUEST_LINEAR_ADDRESS);
        Exit::NestedFault(NestedFault {
            gpa: self.vmcs.get(field::GUEST_PHYSICAL_ADDRESS),
            access: u8::from(violation.read)
                | u8::from(violation.write) << 1
                | u8::from(violation.fetch) << 2,
            linear: violation.linear.then_some(linear),
        })
    }

    fn cr_access(&mut self) -> Exit {
        Exit::Cr(match CrAccess::decode(self.qualification()) {
            CrAccess::MoveTo { cr, register } => exit::CrAccess::Write { cr, gpr: register },
            CrAccess::MoveFrom { cr, register } => exit::CrAccess::Read { cr, gpr: register },
            CrAccess::Clts => exit::CrAccess::Clts,
            CrAccess::Lmsw { value, .. } => exit::CrAccess::Lmsw(value),
        })
    }

    fn port(&mut self) -> Exit {
        match IoAccess::decode(self.qualification()) {
            Some(IoAccess { port, size, input, string, repeated }) => {
                Exit::Port(PortAccess { port, size, input, string, repeated })
            }
            None => Exit::Other,
        }
    }

    fn rare_exit(&mut self, basic: Basic) -> Exit {
        match basic {
            Basic::ExceptionOrNmi => self.exception_or_nmi(),
            Basic::ExternalInterrupt => Exit::ExternalInterrupt,
            Basic::TripleFault => Exit::TripleFault,
            Basic::InitSignal | Basic::StartupIpi | Basic::IoSmi | Basic::OtherSmi | Basic::Rsm => {
                Exit::Reset
            }
            Basic::InterruptWindow => Exit::InterruptWindow,
            Basic::NmiWindow => Exit::NmiWindow,
            Basic::TaskSwitch => Exit::TaskSwitch,
            Basic::Hlt => Exit::Hlt,
            Basic::Invd | Basic::Wbinvd => Exit::Wbinvd,
            Basic::Invlpg => Exit::Invlpg { linear: self.qualification() },
            Basic::Rdpmc => Exit::Rdpmc,
            Basic::Rdtsc => Exit::Rdtsc { with_aux: false },
            Basic::Rdtscp => Exit::Rdtsc { with_aux: true },
            Basic::ControlRegister => self.cr_access(),
            Basic::MovDr => {
                let DrAccess { dr, register, read } = DrAccess::decode(self.qualification());
                Exit::Dr { number: dr, gpr: register, read }
            }
            Basic::InvalidGuestState | Basic::MsrLoading | Basic::EntryMachineCheck => {
                Exit::EntryFailure
            }
            Basic::Mwait | Basic::Monitor | Basic::Umwait | Basic::Tpause => Exit::Mwait,
            Basic::MonitorTrapFlag => Exit::SingleStep,
            Basic::Pause => Exit::Pause,
            Basic::TprBelowThreshold => Exit::TprThreshold,
            Basic::ApicAccess => {
                self.reinject();
                match ApicAccess::decode(self.qualification()) {
                    Some(access) => Exit::ApicAccess { offset: access.offset },
                    None => Exit::Other,
                }
            }
            Basic::ApicWrite => Exit::ApicWrite { offset: self.qualification() as u16 },
            Basic::VirtualizedEoi => Exit::EoiInduced { vector: self.qualification() as u8 },
            Basic::GdtrOrIdtr | Basic::LdtrOrTr => Exit::DescriptorTable,
            Basic::EptViolation => self.ept_violation(),
            Basic::EptMisconfiguration => {
                Exit::NestedMisconfig { gpa: self.vmcs.get(field::GUEST_PHYSICAL_ADDRESS) }
            }
            Basic::PreemptionTimer => Exit::TimeSlice,
            Basic::Xsetbv => Exit::Xsetbv,
            Basic::Rdrand | Basic::Rdseed => Exit::Random,
            Basic::Invpcid => Exit::Invpcid,
            _ if basic.neutral() == pv_abi::exit::Reason::VirtInstruction => Exit::VirtInstruction,
            _ => Exit::Other,
        }
    }

    /// The rule that the VMCS breaks, if the checker knows one.
    pub fn broken_rule(&self) -> Option<Violation> {
        check::first(&self.vmcs, self.caps)
    }

    /// Calls `f` with every rule that the VMCS breaks.
    pub fn broken_rules(&self, mut f: impl FnMut(Violation)) {
        check::each(&self.vmcs, self.caps, |violation| {
            f(violation);
            ControlFlow::<()>::Continue(())
        });
    }

    fn set_primary(&mut self, primary: Primary) {
        if primary != self.state.primary {
            self.state.primary = primary;
            self.vmcs.write(field::PRIMARY_CONTROLS, primary.bits());
        }
    }

    fn has(&self, feature: Features) -> bool {
        self.state.controls.features.contains(feature)
    }

    fn invept(&self) {
        let descriptor = [self.state.eptp, 0u64];
        // SAFETY: invalidates translations only; single-context is there, or the CPU was refused.
        unsafe {
            asm!("invept {}, [{}]", in(reg) 1u64, in(reg) &raw const descriptor, options(nostack, readonly));
        }
    }

    fn invvpid(&self, kind: u64, linear: u64) {
        let descriptor = [u64::from(self.state.vpid), linear];
        // SAFETY: invalidates translations only; the types used are there where VPIDs are.
        unsafe {
            asm!("invvpid {}, [{}]", in(reg) kind, in(reg) &raw const descriptor, options(nostack, readonly));
        }
    }
}

impl Hardware for Guest<'_> {
    #[inline(always)]
    fn kept(&mut self, register: Kept) -> u64 {
        let shadowed = |real: u64, shadow: u64, mask: u64| real & !mask | shadow & mask;
        let v = &self.vmcs;
        match register {
            Kept::Rip => v.get(field::GUEST_RIP),
            Kept::Rsp => v.get(field::GUEST_RSP),
            Kept::Rflags => v.get(field::GUEST_RFLAGS),
            Kept::Cr0 => shadowed(
                v.get(field::GUEST_CR0),
                v.get(field::CR0_READ_SHADOW),
                self.state.controls.cr0_mask,
            ),
            Kept::Cr3 => v.get(field::GUEST_CR3),
            Kept::Cr4 => shadowed(
                v.get(field::GUEST_CR4),
                v.get(field::CR4_READ_SHADOW),
                self.state.controls.cr4_mask,
            ),
            Kept::Efer => v.get(field::GUEST_IA32_EFER),
            Kept::Dr7 => v.get(field::GUEST_DR7),
            Kept::FsBase => v.get(Segment::Fs.base()),
            Kept::GsBase => v.get(Segment::Gs.base()),
            Kept::Pat => v.get(field::GUEST_IA32_PAT),
            Kept::SysenterCs => v.get(field::GUEST_IA32_SYSENTER_CS).into(),
            Kept::SysenterEsp => v.get(field::GUEST_IA32_SYSENTER_ESP),
            Kept::SysenterEip => v.get(field::GUEST_IA32_SYSENTER_EIP),
            Kept::Debugctl => v.get(field::GUEST_IA32_DEBUGCTL),
        }
    }

    #[inline(always)]
    fn keep(&mut self, register: Kept, value: u64) {
        /// NE: VMX holds it at 1. CD and NW: the guest has no say in the host's caches.
        const CR0_NE: u64 = 1 << 5;
        const CR0_CACHE: u64 = 3 << 29;
        let v = &mut self.vmcs;
        match register {
            Kept::Rip => v.write(field::GUEST_RIP, value),
            Kept::Rsp => v.write(field::GUEST_RSP, value),
            Kept::Rflags => v.write(field::GUEST_RFLAGS, value),
            Kept::Cr0 => {
                v.write(field::CR0_READ_SHADOW, value);
                v.write(field::GUEST_CR0, value & !CR0_CACHE | CR0_NE);
            }
            Kept::Cr3 => v.write(field::GUEST_CR3, value),
            Kept::Cr4 => {
                v.write(field::CR4_READ_SHADOW, value);
                v.write(field::GUEST_CR4, value | CR4_VMXE | CR4_MCE);
            }
            Kept::Efer => {
                v.write(field::GUEST_IA32_EFER, value);
                let mut entry = self.state.entry;
                entry.set(Entry::IA32E_MODE_GUEST, value & EFER_LMA != 0);
                if entry != self.state.entry {
                    self.state.entry = entry;
                    v.write(field::ENTRY_CONTROLS, entry.bits());
                }
            }
            Kept::Dr7 => v.write(field::GUEST_DR7, value),
            Kept::FsBase => v.write(Segment::Fs.base(), value),
            Kept::GsBase => v.write(Segment::Gs.base(), value),
            Kept::Pat => v.write(field::GUEST_IA32_PAT, value),
            Kept::SysenterCs => v.write(field::GUEST_IA32_SYSENTER_CS, value as u32),
            Kept::SysenterEsp => v.write(field::GUEST_IA32_SYSENTER_ESP, value),
            Kept::SysenterEip => v.write(field::GUEST_IA32_SYSENTER_EIP, value),
            Kept::Debugctl => v.write(field::GUEST_IA32_DEBUGCTL, value),
        }
    }

    fn live_msr(&mut self, msr: LiveMsr) -> u64 {
        // SAFETY: these MSRs come with long mode, or, TSC_AUX, with RDTSCP, without which it is not
        // asked for.
        unsafe { rdmsr(msr as u32) }
    }

    fn set_live_msr(&mut self, msr: LiveMsr, value: u64) {
        // SAFETY: as above; the hypervisor itself uses none of them, and the caller has checked the
        // value.
        unsafe { wrmsr(msr as u32, value) };
    }

    fn cpl(&mut self) -> u8 {
        // The DPL of SS is the CPL on every exit (SDM vol. 3, Saving Segment Registers).
        self.rights(Segment::Ss).dpl() as u8
    }

    fn code_is_long(&mut self) -> bool {
        self.rights(Segment::Cs).contains(AccessRights::LONG)
    }

    #[inline(always)]
    fn is_long_kernel(&mut self) -> bool {
        let batch = self.vmcs.batch();
        let stack = batch.get(Segment::Ss.access_rights());
        let code = batch.get(Segment::Cs.access_rights());
        stack & AccessRights::DPL.bits() == 0 && code & AccessRights::LONG.bits() != 0
    }

    fn mode(&mut self) -> Mode {
        let rights = self.rights(Segment::Cs);
        let long = self.vmcs.get(field::GUEST_IA32_EFER) & EFER_LMA != 0;
        let protected = self.vmcs.get(field::GUEST_CR0) & CR0_PE != 0
            && self.vmcs.get(field::GUEST_RFLAGS) & RFLAGS_VM == 0;
        if long && rights.contains(AccessRights::LONG) {
            Mode::Code64
        } else if protected && rights.contains(AccessRights::DEFAULT_BIG) {
            Mode::Code32
        } else {
            Mode::Code16
        }
    }

    fn segment_bases(&mut self) -> [u64; 6] {
        use Segment::{Cs, Ds, Es, Fs, Gs, Ss};
        [Es, Cs, Ss, Ds, Fs, Gs].map(|segment| self.vmcs.get(segment.base()))
    }

    fn code_and_stack(&mut self) -> ([u64; 2], u64) {
        let describe = |segment: Segment| {
            let rights = u64::from(self.vmcs.get(segment.access_rights()));
            rights << 32 | u64::from(self.vmcs.get(segment.selector()))
        };
        ([describe(Segment::Cs), describe(Segment::Ss)], self.vmcs.get(Segment::Cs.base()))
    }

    #[inline(always)]
    fn advance_plainly(&mut self) -> bool {
        let shadow = Interruptibility::BLOCKING_BY_STI | Interruptibility::BLOCKING_BY_MOV_SS;
        let batch = self.vmcs.batch();
        let length = batch.get(field::EXIT_INSTRUCTION_LENGTH);
        let old = batch.get(field::GUEST_RIP);
        let state = batch.get(field::GUEST_INTERRUPTIBILITY_STATE);
        let rflags = batch.get(field::GUEST_RFLAGS);
        drop(batch);
        let rip = old.wrapping_add(u64::from(length));
        let wraps = (rip as u32) < old as u32;
        if wraps || state & shadow.bits() != 0 || rflags & RFLAGS_TF != 0 {
            return false;
        }
        self.vmcs.write(field::GUEST_RIP, rip);
        true
    }

    fn advance(&mut self) {
        let length = self.vmcs.get(field::EXIT_INSTRUCTION_LENGTH);
        self.advance_by(length);
    }

    fn advance_by(&mut self, length: u32) {
        let mut rip = self.vmcs.get(field::GUEST_RIP).wrapping_add(u64::from(length));
        if !self.code_is_long() {
            // EIP wraps at 4 GiB.
            rip &= 0xffff_ffff;
        }
        self.vmcs.write(field::GUEST_RIP, rip);
        let state = self.interruptibility();
        let shadow = Interruptibility::BLOCKING_BY_STI | Interruptibility::BLOCKING_BY_MOV_SS;
        if state.intersects(shadow) {
            self.set_interruptibility(state.difference(shadow));
        }
        if self.vmcs.get(field::GUEST_RFLAGS) & RFLAGS_TF != 0 {
            self.single_step();
        }
    }

    fn inject(&mut self, event: Event) {
        self.vmcs.write(field::ENTRY_INTERRUPTION_INFORMATION, event.information());
        if let Some(code) = event.error_code {
            self.vmcs.write(field::ENTRY_EXCEPTION_ERROR_CODE, code);
        }
        if event.instruction_length != 0 {
            self.vmcs.write(field::ENTRY_INSTRUCTION_LENGTH, event.instruction_length.into());
        }
    }

    fn pending_event(&mut self) -> Option<Event> {
        Event::decode(
            self.vmcs.get(field::ENTRY_INTERRUPTION_INFORMATION),
            || self.vmcs.get(field::ENTRY_EXCEPTION_ERROR_CODE),
            || self.vmcs.get(field::ENTRY_INSTRUCTION_LENGTH),
        )
    }

    fn interruptible(&mut self) -> bool {
        let shadow = Interruptibility::BLOCKING_BY_STI | Interruptibility::BLOCKING_BY_MOV_SS;
        self.vmcs.get(field::GUEST_RFLAGS) & RFLAGS_IF != 0
            && !self.interruptibility().intersects(shadow)
    }

    fn nmi_allowed(&mut self) -> bool {
        // Some CPUs refuse an NMI in the shadow of STI as well.
        self.interruptibility().is_empty()
    }

    fn request_window(&mut self, interrupt: bool, nmi: bool) {
        let mut primary = self.state.primary;
        primary.set(Primary::INTERRUPT_WINDOW_EXITING, interrupt);
        primary.set(Primary::NMI_WINDOW_EXITING, nmi);
        self.set_primary(primary);
    }

    fn apic_changed(&mut self, x2apic: bool) {
        let mut secondary = self.state.controls.secondary;
        if self.has(Features::APIC_REGISTERS) {
            secondary.insert(if x2apic {
                Secondary::VIRTUALIZE_X2APIC_MODE
            } else {
                Secondary::VIRTUALIZE_APIC_ACCESSES
            });
        }
        self.vmcs.write(field::SECONDARY_CONTROLS, secondary.bits());
        if let Some(page) = self.state.msr_bitmaps {
            super::setup::pass_x2apic(page, x2apic, &self.state.controls.features);
        }
    }

    fn set_interrupt_status(&mut self, requesting: u8, servicing: u8) {
        let status = u16::from(servicing) << 8 | u16::from(requesting);
        self.vmcs.write(field::GUEST_INTERRUPT_STATUS, status);
    }

    fn delivers_interrupts(&self) -> bool {
        self.has(Features::VIRTUAL_INTERRUPTS)
    }

    fn set_pdptes(&mut self, pdptes: [u64; 4]) {
        for (value, index) in pdptes.into_iter().zip(0..) {
            self.vmcs.write(field::guest_pdpte(index), value);
        }
    }

    #[inline(always)]
    fn tsc(&self) -> u64 {
        tsc()
    }

    fn set_tsc_offset(&mut self, offset: u64) {
        self.vmcs.write(field::TSC_OFFSET, offset);
    }

    fn set_xcr0(&mut self, value: u64) {
        // SAFETY: the caller has checked the value against what the CPU has, and CR4.OSXSAVE is
        // set wherever XSAVE exists.
        unsafe {
            asm!("xsetbv", in("ecx") 0, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack, nomem));
        }
    }

    fn debug_register(&mut self, number: u8) -> u64 {
        super::setup::debug_register(number)
    }

    fn set_debug_register(&mut self, number: u8, value: u64) {
        super::setup::set_debug_register(number, value);
    }

    fn set_cr2(&mut self, value: u64) {
        // SAFETY: CR2 has no effect; the hypervisor reads it only when it reports its own fault.
        unsafe { asm!("mov cr2, {}", in(reg) value, options(nostack, nomem, preserves_flags)) };
    }

    fn cr2(&mut self) -> u64 {
        x86_64::registers::control::Cr2::read_raw()
    }

    fn flush_guest(&mut self, linear: Option<u64>) {
        // Without a VPID every exit and entry flushes.
        if self.has(Features::VPID) {
            match linear {
                Some(address)
                    if self.caps.ept_vpid.contains(super::capability::EptVpid::INVVPID_ADDRESS) =>
                {
                    self.invvpid(0, address);
                }
                _ => self.invvpid(1, 0),
            }
        }
    }

    fn show_info(&mut self, show: bool) -> Option<MustFlush> {
        self.state.show_info(show)
    }

    fn serve_host(&mut self) {
        if self.vmcs.get(field::EXIT_REASON) == Basic::ExceptionOrNmi as u32 {
            // The exit took the NMI and left NMIs blocked; the handler's IRET opens them.
            // SAFETY: vector 2 has a handler that returns.
            unsafe { asm!("int 2") };
        } else {
            local_apic::take_interrupts();
        }
    }

    fn sync_translations(&mut self, generation: &Generation) {
        if self.state.seen.behind(generation) {
            self.invept();
            self.flush_guest(None);
        }
    }
}

impl Link for Guest<'_> {
    fn send(&mut self, frames: &[u8]) {
        output::Host.send(frames);
    }

    fn receive(&mut self) -> Option<u8> {
        output::Host.receive()
    }
}

impl Guest<'_> {
    /// A single step over an instruction that exited traps behind it, as if it had not (SDM vol. 3,
    /// Debug Exceptions). With BTF only branches trap, and none of them exits.
    #[cold]
    fn single_step(&mut self) {
        if self.vmcs.get(field::GUEST_IA32_DEBUGCTL) & DEBUGCTL_BTF == 0 {
            let pending = self.vmcs.get(field::GUEST_PENDING_DEBUG_EXCEPTIONS);
            self.vmcs
                .write(field::GUEST_PENDING_DEBUG_EXCEPTIONS, pending | PendingDebug::BS.bits());
        }
    }
}

/// Called by the world switch at every exit, with the guest's RBP and R12 to R15 still in the CPU;
/// `true` to enter again.
///
/// What is answered here needs no call and so no register beyond those already saved. The rest goes
/// on in a function of its own.
///
/// # Safety
///
/// `frame` is the one that [`Backend::enter`] passed to the switch, which nobody else uses now.
pub(super) unsafe extern "C" fn quick_exit(frame: *mut Frame<'_, Guest<'_>>) -> bool {
    const VMCALL: u32 = Basic::Vmcall as u32;
    const CPUID: u32 = Basic::Cpuid as u32;
    const RDMSR: u32 = Basic::Rdmsr as u32;
    const WRMSR: u32 = Basic::Wrmsr as u32;
    const IO: u32 = Basic::Io as u32;
    // SAFETY: as the caller vouches.
    let frame = unsafe { &mut *frame };
    let Frame { vcpu, hardware, .. } = &mut *frame;
    let (vcpu, hardware) = (&mut **vcpu, &mut **hardware);
    vcpu.exited = tsc();
    match hardware.vmcs.get(field::EXIT_REASON) {
        VMCALL => match hypercall::null(vcpu, hardware) {
            Some(slot) => finish(frame, Reason::Hypercall, slot),
            None => answer_hypercall(frame),
        },
        CPUID if cpuid::simple(vcpu) => finish(frame, Reason::Cpuid, 0),
        CPUID => answer_cpuid(frame),
        RDMSR => answer_rdmsr(frame),
        WRMSR => answer_wrmsr(frame),
        IO => answer_port(frame),
        _ => false,
    }
}

/// One function for each frequent reason, so that [`quick_exit`] itself needs no stack.
macro_rules! answers {
    ($($name:ident = $exit:expr;)*) => {$(
        #[inline(never)]
        fn $name(frame: &mut Frame<'_, Guest<'_>>) -> bool {
            answer(frame, $exit)
        }
    )*};
}

answers! {
    answer_hypercall = Exit::Hypercall;
    answer_cpuid = Exit::Cpuid;
    answer_rdmsr = Exit::Rdmsr;
    answer_wrmsr = Exit::Wrmsr;
}

#[inline(never)]
fn answer_port(frame: &mut Frame<'_, Guest<'_>>) -> bool {
    match frame.hardware.port() {
        Exit::Port(access) => answer(frame, Exit::Port(access)),
        _ => false,
    }
}

impl Backend for Guest<'_> {
    #[inline(always)]
    fn set_slice(&mut self, ticks: u64) {
        // The value is as wide as 32 bits allow: what is due is never further away.
        let value = ticks >> self.timer_shift;
        self.vmcs.write(field::PREEMPTION_TIMER_VALUE, value as u32);
        Speculation::before_entry();
    }

    fn enter(&mut self, vcpu: &mut Vcpu) -> Option<Left> {
        let mut frame = Frame { vcpu, hardware: self, left: Left::All };
        let registers = &raw mut frame.vcpu.registers;
        let switch = &raw mut frame.hardware.state.switch;
        // SAFETY: the VMCS is current, and was set up for this vCPU and this CPU when it was
        // activated. The frame, with all that it borrows, outlives the call.
        let entered = unsafe { enter(registers, switch, (&raw mut frame).cast()) };
        let left = frame.left;
        if !entered {
            self.state.refused = true;
            return None;
        }
        Some(left)
    }

    fn exit(&mut self) -> Exit {
        let reason = ExitReason(self.vmcs.get(field::EXIT_REASON));
        match reason.basic() {
            Ok(Basic::Vmcall) => Exit::Hypercall,
            Ok(Basic::Cpuid) => Exit::Cpuid,
            Ok(Basic::Rdmsr) => Exit::Rdmsr,
            Ok(Basic::Wrmsr) => Exit::Wrmsr,
            Ok(Basic::Io) => self.port(),
            Ok(basic) => self.rare_exit(basic),
            Err(_) => Exit::Other,
        }
    }

    #[inline(always)]
    fn counts(&self) -> (u64, u64) {
        self.vmcs.counts()
    }

    fn set_counts(&mut self, counts: (u64, u64)) {
        self.vmcs.set_counts(counts);
    }

    fn vendor_detail(&mut self) -> (u64, u64) {
        if self.state.refused {
            let error = self.vmcs.get(field::VM_INSTRUCTION_ERROR);
            return (u64::MAX, error.into());
        }
        (self.vmcs.get(field::EXIT_REASON).into(), self.qualification())
    }

    fn check(&mut self) -> bool {
        self.state.violation = self.broken_rule();
        self.state.refused = self.state.violation.is_some();
        !self.state.refused
    }
}
