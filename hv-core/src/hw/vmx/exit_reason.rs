//! Exit reasons: SDM vol. 3, appendix "VMX Basic Exit Reasons".

use crate::hw::exit_codes::exit_codes;

exit_codes! {
    basic;
    0 EXCEPTION_OR_NMI Exception "Exception or non-maskable interrupt (NMI)";
    1 EXTERNAL_INTERRUPT ExternalInterrupt "External interrupt";
    2 TRIPLE_FAULT TripleFault "Triple fault";
    3 INIT_SIGNAL Reset "INIT signal";
    4 STARTUP_IPI Reset "Start-up IPI (SIPI)";
    5 IO_SMI Reset "I/O system-management interrupt (SMI)";
    6 OTHER_SMI Reset "Other SMI";
    7 INTERRUPT_WINDOW InterruptWindow "Interrupt window";
    8 NMI_WINDOW NmiWindow "NMI window";
    9 TASK_SWITCH TaskSwitch "Task switch";
    10 CPUID Cpuid;
    11 GETSEC VirtInstruction;
    12 HLT Hlt;
    13 INVD Wbinvd;
    14 INVLPG Invlpg;
    15 RDPMC Rdpmc;
    16 RDTSC Rdtsc;
    17 RSM Reset;
    18 VMCALL Hypercall;
    19 VMCLEAR VirtInstruction;
    20 VMLAUNCH VirtInstruction;
    21 VMPTRLD VirtInstruction;
    22 VMPTRST VirtInstruction;
    23 VMREAD VirtInstruction;
    24 VMRESUME VirtInstruction;
    25 VMWRITE VirtInstruction;
    26 VMXOFF VirtInstruction;
    27 VMXON VirtInstruction;
    28 CONTROL_REGISTER CrWrite "Control-register accesses";
    29 MOV_DR DrAccess "MOV DR";
    30 IO PortOut "I/O instruction";
    31 RDMSR MsrRead;
    32 WRMSR MsrWrite;
    33 INVALID_GUEST_STATE EntryFailure "VM-entry failure due to invalid guest state";
    34 MSR_LOADING EntryFailure "VM-entry failure due to MSR loading";
    36 MWAIT Mwait;
    37 MONITOR_TRAP_FLAG SingleStep "Monitor trap flag";
    39 MONITOR Mwait;
    40 PAUSE Pause;
    41 ENTRY_MACHINE_CHECK EntryFailure "VM-entry failure due to machine-check event";
    43 TPR_BELOW_THRESHOLD TprThreshold "TPR below threshold";
    44 APIC_ACCESS ApicAccess "APIC access";
    45 VIRTUALIZED_EOI EoiInduced "Virtualized EOI";
    46 GDTR_OR_IDTR DescriptorTable "Access to GDTR or IDTR";
    47 LDTR_OR_TR DescriptorTable "Access to LDTR or TR";
    48 EPT_VIOLATION NestedPageFault "EPT violation";
    49 EPT_MISCONFIGURATION NestedMisconfig "EPT misconfiguration";
    50 INVEPT VirtInstruction;
    51 RDTSCP Rdtsc;
    52 PREEMPTION_TIMER TimeSlice "VMX-preemption timer expired";
    53 INVVPID VirtInstruction;
    54 WBINVD Wbinvd "WBINVD or WBNOINVD";
    55 XSETBV Xsetbv;
    56 APIC_WRITE ApicWrite "APIC write";
    57 RDRAND Random;
    58 INVPCID Invpcid;
    59 VMFUNC VirtInstruction;
    60 ENCLS Other;
    61 RDSEED Random;
    62 PAGE_MODIFICATION_LOG_FULL Other "Page-modification log full";
    63 XSAVES Other;
    64 XRSTORS Other;
    65 PCONFIG Other;
    66 SUB_PAGE NestedPageFault "SPP-related event";
    67 UMWAIT Mwait;
    68 TPAUSE Mwait;
    69 LOADIWKEY Other;
    70 ENCLV Other;
    72 ENQCMD_TRANSLATION Other "ENQCMD PASID translation failure";
    73 ENQCMDS_TRANSLATION Other "ENQCMDS PASID translation failure";
    74 BUS_LOCK Other "Bus lock";
    75 INSTRUCTION_TIMEOUT TimeSlice "Instruction timeout";
    76 SEAMCALL VirtInstruction;
    77 TDCALL VirtInstruction;
    78 RDMSRLIST MsrRead;
    79 WRMSRLIST MsrWrite;
}

/// The basic exit reason: bits 15:0 of the field.
pub const fn basic(field: u64) -> u64 {
    field & 0xffff
}

#[cfg(test)]
mod tests {
    use pv_abi::exit::Reason;

    use super::*;

    #[test]
    fn every_number_is_known_or_one_that_the_manual_skips() {
        const SKIPPED: [u64; 4] = [35, 38, 42, 71];
        for number in 0..80 {
            assert_eq!(name(number).is_none(), SKIPPED.contains(&number), "{number}");
        }
        let names: std::collections::BTreeSet<_> = ALL.iter().map(|row| row.2).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn the_field_has_flags_above_the_number() {
        assert_eq!(basic(0x8000_0021), code::INVALID_GUEST_STATE);
        assert_eq!((name(0x0800_001e), name(0x0800_0023)), (Some("I/O instruction"), None));
        assert_eq!([neutral(0x0800_001e), neutral(35)], [Reason::PortOut, Reason::Other]);
    }
}
