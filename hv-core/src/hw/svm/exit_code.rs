//! Exit codes (APM vol. 2, appendix "SVM Intercept Exit Codes"), by their names without `VMEXIT_`.

use crate::hw::exit_codes::exit_codes;

exit_codes! {
    canonical;
    0x00..=0x0f CR_READ CrRead;
    0x10..=0x1f CR_WRITE CrWrite;
    0x20..=0x2f DR_READ DrAccess;
    0x30..=0x3f DR_WRITE DrAccess;
    0x40..=0x5f EXCEPTION Exception;
    0x60 INTR ExternalInterrupt;
    0x61 NMI Nmi;
    0x62 SMI Reset;
    0x63 INIT Reset;
    0x64 VINTR InterruptWindow;
    0x65 CR0_SEL_WRITE CrWrite;
    0x66 IDTR_READ DescriptorTable;
    0x67 GDTR_READ DescriptorTable;
    0x68 LDTR_READ DescriptorTable;
    0x69 TR_READ DescriptorTable;
    0x6a IDTR_WRITE DescriptorTable;
    0x6b GDTR_WRITE DescriptorTable;
    0x6c LDTR_WRITE DescriptorTable;
    0x6d TR_WRITE DescriptorTable;
    0x6e RDTSC Rdtsc;
    0x6f RDPMC Rdpmc;
    0x70 PUSHF Other;
    0x71 POPF Other;
    0x72 CPUID Cpuid;
    0x73 RSM Reset;
    0x74 IRET NmiWindow;
    0x75 SWINT Other;
    0x76 INVD Wbinvd;
    0x77 PAUSE Pause;
    0x78 HLT Hlt;
    0x79 INVLPG Invlpg;
    0x7a INVLPGA VirtInstruction;
    0x7b IOIO PortOut;
    0x7c MSR MsrRead;
    0x7d TASK_SWITCH TaskSwitch;
    0x7e FERR_FREEZE Other;
    0x7f SHUTDOWN TripleFault;
    0x80 VMRUN VirtInstruction;
    0x81 VMMCALL Hypercall;
    0x82 VMLOAD VirtInstruction;
    0x83 VMSAVE VirtInstruction;
    0x84 STGI VirtInstruction;
    0x85 CLGI VirtInstruction;
    0x86 SKINIT VirtInstruction;
    0x87 RDTSCP Rdtsc;
    0x88 ICEBP Exception;
    0x89 WBINVD Wbinvd;
    0x8a MONITOR Mwait;
    0x8b MWAIT Mwait;
    0x8c MWAIT_CONDITIONAL Mwait;
    0x8d XSETBV Xsetbv;
    0x8e RDPRU VirtInstruction;
    0x8f EFER_WRITE_TRAP MsrWrite;
    0x90..=0x9f CR_WRITE_TRAP CrWrite;
    0xa0 INVLPGB Invlpg;
    0xa1 INVLPGB_ILLEGAL Invlpg;
    0xa2 INVPCID Invpcid;
    0xa3 MCOMMIT VirtInstruction;
    0xa4 TLBSYNC Other;
    0xa5 BUSLOCK Other;
    0x400 NPF NestedPageFault;
    0x401 AVIC_INCOMPLETE_IPI ApicWrite;
    0x402 AVIC_NOACCEL ApicAccess;
    0x403 VMGEXIT Other;
    0xffff_ffff_ffff_fffe BUSY EntryFailure;
    0xffff_ffff_ffff_ffff INVALID EntryFailure;
}

/// The exit code in a VMCB. Some CPUs write only the low half of those that are negative.
pub const fn canonical(exit_code: u64) -> u64 {
    let low = exit_code as i32;
    if low < 0 { low as i64 as u64 } else { exit_code }
}

#[cfg(test)]
mod tests {
    use pv_abi::exit::Reason;

    use super::*;

    #[test]
    fn every_code_is_known_or_one_that_the_manual_skips() {
        for code in 0..=0xa5 {
            assert!(name(code).is_some(), "{code:#x}");
        }
        for code in [0xa7, 0x3ff, 0x404, 0x7fff_ffff, 0x1_0000_0072] {
            assert_eq!((name(code), neutral(code)), (None, Reason::Other), "{code:#x}");
        }
    }

    #[test]
    fn names_and_reasons_are_the_manuals() {
        let cases = [
            (0x03, "CR_READ", Reason::CrRead),
            (0x18, "CR_WRITE", Reason::CrWrite),
            (0x37, "DR_WRITE", Reason::DrAccess),
            (0x4e, "EXCEPTION", Reason::Exception),
            (0x6a, "IDTR_WRITE", Reason::DescriptorTable),
            (0x81, "VMMCALL", Reason::Hypercall),
            (0xa2, "INVPCID", Reason::Invpcid),
            (0x400, "NPF", Reason::NestedPageFault),
            (0xffff_fffe, "BUSY", Reason::EntryFailure),
            (0xffff_ffff, "INVALID", Reason::EntryFailure),
            (u64::MAX, "INVALID", Reason::EntryFailure),
        ];
        for (code, text, reason) in cases {
            assert_eq!((name(code), neutral(code)), (Some(text), reason), "{code:#x}");
        }
        assert_eq!(canonical(0xffff_ffff), code::INVALID);
    }
}
