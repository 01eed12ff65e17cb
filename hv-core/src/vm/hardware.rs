//! What exit handling may ask of the backend about the vCPU that has just exited.
//!
//! The backend keeps this state in its own control block; nothing is read before it is needed. The
//! tests implement the trait by plain fields.

use core::fmt;

use super::run::Left;
use super::{Event, Exit, Vcpu};
use crate::host::report::Vendor;
use crate::mem::tlb::{Generation, MustFlush};
use crate::mem::walk::Fetched;

/// A control register, EFER, or another register that the backend keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Kept {
    Rip,
    Rsp,
    Rflags,
    /// As the guest sees it.
    Cr0,
    Cr3,
    /// As the guest sees it.
    Cr4,
    Efer,
    Dr7,
    FsBase,
    GsBase,
    Pat,
    SysenterCs,
    SysenterEsp,
    SysenterEip,
    Debugctl,
}

/// MSRs that are switched with the vCPU, not at every entry and exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
#[allow(missing_docs)]
pub enum LiveMsr {
    Star = 0xc000_0081,
    Lstar = 0xc000_0082,
    Cstar = 0xc000_0083,
    Fmask = 0xc000_0084,
    KernelGsBase = 0xc000_0102,
    TscAux = 0xc000_0103,
}

/// The mode that decides how instruction bytes and addresses are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// 16-bit code: real mode, virtual-8086 mode or a 16-bit code segment.
    Code16,
    /// 32-bit code.
    Code32,
    /// 64-bit code.
    Code64,
}

/// A segment register as the CPU caches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The selector.
    pub selector: u16,
    /// The access rights: bits 55:52 and 47:40 of a descriptor as bits 15:12 and 7:0, and bit 16 for a
    /// register that holds no segment.
    pub rights: u32,
    /// The limit in bytes.
    pub limit: u32,
    /// The base.
    pub base: u64,
}

/// The way to the host, and to the other CPUs.
pub trait Link {
    /// The host's TSC now.
    fn tsc(&self) -> u64;

    /// Interrupts the CPU with this APIC ID: it leaves its guest, or wakes up.
    fn interrupt(&mut self, apic_id: u32);

    /// Sends frames.
    fn send(&mut self, frames: &[u8]);

    /// The next console byte, if one has arrived.
    fn receive(&mut self) -> Option<u8>;
}

/// The vCPU that exited, as the backend holds it.
pub trait Hardware: Link {
    /// Reads a register that the backend keeps.
    fn kept(&mut self, register: Kept) -> u64;

    /// Writes one. CR0, CR4 and EFER are what the guest is to see; the backend adds what the
    /// hardware needs. The value must be legal.
    fn keep(&mut self, register: Kept, value: u64);

    /// Reads an MSR that is switched with the vCPU.
    fn live_msr(&mut self, msr: LiveMsr) -> u64;

    /// Writes one; addresses must be canonical.
    fn set_live_msr(&mut self, msr: LiveMsr, value: u64);

    /// The current privilege level.
    fn cpl(&mut self) -> u8;

    /// Whether the code segment is a 64-bit one; it counts only under EFER.LMA.
    fn code_is_long(&mut self) -> bool;

    /// Whether the code segment is a 64-bit one and the privilege level 0.
    fn is_long_kernel(&mut self) -> bool;

    /// How instructions are read.
    fn mode(&mut self) -> Mode;

    /// The bytes of the instruction that accessed memory, where the CPU hands them out.
    fn fetched(&mut self) -> Option<Fetched> {
        None
    }

    /// A segment register by its number: ES, CS, SS, DS, FS, GS, LDTR.
    fn segment(&mut self, number: u8) -> Segment;

    /// Sets one of the first six.
    fn set_segment(&mut self, number: u8, segment: &Segment);

    /// Base and limit of the GDT.
    fn gdt(&mut self) -> (u64, u32);

    /// Where the delivery of an event could not go on for want of a translation. Where the CPU does not
    /// say, it is taken to be the event's gate.
    fn delivery_address(&mut self) -> Option<u64>;

    /// Holds off interrupts and debug traps until the next instruction is complete.
    fn shadow(&mut self);

    /// Selector and access rights (VMX format) of CS and SS, and the base of CS: for reports.
    fn code_and_stack(&mut self) -> ([u64; 2], u64);

    /// Ends the instruction that exited: the instruction pointer moves behind it, the interrupt
    /// shadow ends, a single step traps (SDM vol. 3, Event Blocking; Debug Exceptions). Its length is
    /// known: where the CPU does not say it, it was found before [`Backend::exit`] returned.
    fn advance(&mut self);

    /// As [`Hardware::advance`], if moving the instruction pointer is all there is to it; otherwise
    /// `false`, and nothing has changed.
    fn advance_plainly(&mut self) -> bool;

    /// As [`Hardware::advance`], for an instruction whose length the CPU does not say.
    fn advance_by(&mut self, length: u32);

    /// Delivers an event at the next entry.
    fn inject(&mut self, event: Event);

    /// The event that waits for the next entry, or was being delivered when the exit came.
    fn pending_event(&mut self) -> Option<Event>;

    /// Whether a maskable interrupt can be taken now: RFLAGS.IF, and no shadow.
    fn interruptible(&mut self) -> bool;

    /// Whether the handler of an NMI holds others off.
    fn nmi_blocked(&mut self) -> bool;

    /// Whether an NMI can be taken now.
    fn nmi_allowed(&mut self) -> bool;

    /// Asks for an exit as soon as an interrupt (or an NMI) can be taken.
    fn request_window(&mut self, interrupt: bool, nmi: bool);

    /// The virtual APIC's mode has changed: what the CPU virtualizes follows.
    fn apic_changed(&mut self, _x2apic: bool) {}

    /// Tells the CPU which vectors wait and are in service, where it delivers interrupts itself.
    fn set_interrupt_status(&mut self, _requesting: u8, _servicing: u8) {}

    /// Asks for an exit at the end of interrupts with these vectors, a bit for each, where the CPU ends
    /// them itself.
    fn set_eoi_exits(&mut self, _vectors: [u64; 4]) {}

    /// Whether the CPU delivers interrupts itself.
    fn delivers_interrupts(&self) -> bool {
        false
    }

    /// Loads the page-directory pointers of PAE paging, where they are kept in the CPU.
    fn set_pdptes(&mut self, _pdptes: [u64; 4]) {}

    /// Those pointers, where they are kept in the CPU.
    fn pdptes(&mut self) -> Option<[u64; 4]> {
        None
    }

    /// PKRU; asked for only if CR4.PKE is set.
    fn protection_keys(&mut self) -> u32;

    /// Sets what is added to the host's TSC to give the guest's.
    fn set_tsc_offset(&mut self, offset: u64);

    /// XCR0 as it is in the CPU, where a guest can have changed it without an exit; only for vCPUs that
    /// have XSAVE.
    fn changed_xcr0(&mut self) -> Option<u64> {
        None
    }

    /// Sets XCR0, whose value must be legal.
    fn set_xcr0(&mut self, value: u64);

    /// DR0 to DR3, or DR6.
    fn debug_register(&mut self, number: u8) -> u64;

    /// Sets one.
    fn set_debug_register(&mut self, number: u8, value: u64);

    /// Sets CR2.
    fn set_cr2(&mut self, value: u64);

    /// CR2.
    fn cr2(&mut self) -> u64;

    /// Drops the vCPU's own translations (INVLPG, MOV to CR3): those of one linear address, or all.
    fn flush_guest(&mut self, linear: Option<u64>);

    /// Maps the read-only half of the area, or takes it away, for which a flush is owed.
    fn show_info(&mut self, show: bool) -> Option<MustFlush>;

    /// Serves whatever interrupt of the host ended guest mode.
    fn serve_host(&mut self);

    /// Makes the next entry flush if the VM's nested mappings have narrowed since the last.
    fn sync_translations(&mut self, generation: &Generation);
}

/// An exit, or a refused entry, in the vendor's own numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VendorExit {
    /// Whose numbers.
    pub vendor: Vendor,
    /// The exit reason, or EXITCODE; `u64::MAX` if the CPU did not even exit.
    pub code: u64,
    /// What the vendor says beside it.
    pub detail: [u64; 2],
}

/// A backend: a vCPU in the hardware of one vendor.
pub trait Backend: Hardware + Sized {
    /// The last thing before every entry: has the guest exit at the host's TSC `due` at the latest,
    /// which is `now` or later, and applies the speculation policy. The exit is then a time slice, or
    /// an interrupt of the host where the vendor has no timer of its own for this. `false` if interrupts
    /// of the host were taken for that: one may have been for what others have left meanwhile, which is
    /// to be looked at before the entry.
    fn set_slice(&mut self, due: u64, now: u64) -> bool;

    /// The CPU has halted since the last exit: the timer that ends time slices is not armed.
    #[inline(always)]
    fn has_halted(&mut self) {}

    /// Runs the guest, answers frequent exits by way of [`Frame`](super::run::Frame), and returns at
    /// the first exit that leaves more to be done, which it then says in `left` unless it is
    /// [`Left::All`], as `left` is when it is called. `false` if the CPU refused to enter it.
    fn enter(&mut self, vcpu: &mut Vcpu, left: &mut Left) -> bool;

    /// Why it exited, where [`Left::All`] was left. What the CPU does not say is found in the
    /// instruction; if that cannot be fetched, the exit is [`Exit::Undecoded`], and nothing has been
    /// done.
    fn exit(&mut self, vcpu: &Vcpu) -> Exit;

    /// The port of the last exit, which was an access to one.
    fn port(&mut self) -> u16;

    /// Reads and writes of the control block so far, where they are instructions.
    #[inline(always)]
    fn counts(&self) -> (u64, u64) {
        (0, 0)
    }

    /// Sets what [`Backend::counts`] goes on from.
    fn set_counts(&mut self, _counts: (u64, u64)) {}

    /// The last exit in the vendor's numbers, for reports.
    fn vendor_exit(&mut self) -> VendorExit;

    /// Holds the control block against the manual's rules; `false` if it breaks one.
    fn check(&mut self) -> bool;

    /// Names the rules that the control block of a refused entry breaks.
    fn explain(&mut self, to: &mut dyn fmt::Write) -> fmt::Result;
}
