//! The rules by name, with the manual's section and what each asks for.

macro_rules! rules {
    ($($section:literal { $($name:ident $text:literal;)* })*) => {
        /// A rule on VM entries.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Rule {
            $($(#[doc = concat!($text, ".")] $name,)*)*
        }

        impl Rule {
            /// Every rule.
            pub const ALL: &'static [Rule] = &[$($(Rule::$name),*),*];

            /// A short name.
            pub const fn name(self) -> &'static str {
                match self { $($(Rule::$name => stringify!($name),)*)* }
            }

            /// The title of the section of the SDM, volume 3, that has the rule.
            pub const fn section(self) -> &'static str {
                match self { $($(Rule::$name)|* => $section,)* }
            }

            /// What the rule asks for.
            pub const fn text(self) -> &'static str {
                match self { $($(Rule::$name => $text,)*)* }
            }
        }
    };
}

rules! {
    "VM-Execution Control Fields" {
        PinBasedReserved "pin-based controls must be as IA32_VMX_TRUE_PINBASED_CTLS allows";
        PrimaryReserved "primary controls must be as IA32_VMX_TRUE_PROCBASED_CTLS allows";
        SecondaryReserved "secondary controls must be as IA32_VMX_PROCBASED_CTLS2 allows";
        Cr3TargetCount "the CR3-target count must not exceed what IA32_VMX_MISC reports";
        StructureAlignment "the low bits of a structure's physical address must be 0";
        StructureWidth "a structure's address must be within the physical-address width";
        TprThresholdReserved "bits 31:4 of the TPR threshold must be 0 without virtual-interrupt delivery";
        VirtualNmisNeedNmiExiting "virtual NMIs need NMI exiting";
        NmiWindowNeedsVirtualNmis "NMI-window exiting needs virtual NMIs";
        X2apicModeNeedsTprShadow "x2APIC virtualization needs the TPR shadow";
        ApicRegistersNeedTprShadow "APIC-register virtualization needs the TPR shadow";
        InterruptDeliveryNeedsTprShadow "virtual-interrupt delivery needs the TPR shadow";
        X2apicModeExcludesApicAccesses "x2APIC mode and APIC accesses cannot both be virtualized";
        InterruptDeliveryNeedsExiting "virtual-interrupt delivery needs external-interrupt exiting";
        PostedNeedsInterruptDelivery "posted interrupts need virtual-interrupt delivery";
        PostedNeedsAcknowledge "posted interrupts need acknowledge interrupt on exit";
        PostedVector "bits 15:8 of the posted-interrupt notification vector must be 0";
        VpidZero "VPID 0 is the host's own";
        EptMemoryType "the EPT memory type must be one that IA32_VMX_EPT_VPID_CAP reports";
        EptWalkLength "the EPT page-walk length must be one that IA32_VMX_EPT_VPID_CAP reports";
        EptAccessedDirty "EPT accessed and dirty flags must be supported";
        EptReserved "reserved bits of the EPT pointer must be 0";
        UnrestrictedNeedsEpt "unrestricted guest needs EPT";
        PmlNeedsEpt "page-modification logging needs EPT";
        ModeBasedNeedsEpt "mode-based execute control needs EPT";
        SubPageNeedsEpt "sub-page write permissions need EPT";
        VmFunctionsReserved "VM functions must be ones that IA32_VMX_VMFUNC reports";
        EptpSwitchingNeedsEpt "EPTP switching needs EPT";
        TraceAddressesNeedEpt "guest-physical addresses for processor trace need EPT";
        TraceAddressesNeedLoad "guest-physical addresses for processor trace need load IA32_RTIT_CTL";
        TraceAddressesNeedClear "guest-physical addresses for processor trace need clear IA32_RTIT_CTL";
        TscMultiplierZero "the TSC multiplier must not be 0";
    }
    "VM-Exit Control Fields" {
        ExitReserved "exit controls must be as IA32_VMX_TRUE_EXIT_CTLS allows";
        SaveTimerNeedsTimer "saving the VMX-preemption timer needs the timer";
        ExitMsrListAlignment "bits 3:0 of an MSR list's address must be 0";
        ExitMsrListWidth "an MSR list must end within the physical-address width";
    }
    "VM-Entry Control Fields" {
        EntryReserved "entry controls must be as IA32_VMX_TRUE_ENTRY_CTLS allows";
        EventType "the event's type must not be reserved; type 7 needs the monitor trap flag";
        EventVector "the vector must fit the event's type: NMI 2, exceptions below 32, type 7 only 0";
        EventErrorCode "an error code comes with the exceptions that have one, in protected mode, and with nothing else";
        EventReserved "bits 30:12 of the interruption information must be 0";
        EventErrorCodeReserved "bits 31:16 of the error code must be 0";
        EventInstructionLength "the instruction that raises an event is 1 to 15 bytes long, 0 if IA32_VMX_MISC allows";
        EntryOutsideSmm "entry to SMM and the end of dual-monitor treatment are for SMM only";
        EntryMsrListAlignment "bits 3:0 of an MSR list's address must be 0";
        EntryMsrListWidth "an MSR list must end within the physical-address width";
    }
    "Checks on Host Control Registers, MSRs, and SSP" {
        HostCr0Fixed "CR0 must be as IA32_VMX_CR0_FIXED0 and FIXED1 allow";
        HostCr4Fixed "CR4 must be as IA32_VMX_CR4_FIXED0 and FIXED1 allow";
        HostCr3Width "CR3 must be within the physical-address width";
        HostSysenterCanonical "SYSENTER addresses must be canonical";
        HostPat "each byte of IA32_PAT must be a memory type";
        HostEferReserved "reserved bits of IA32_EFER must be 0";
        HostEferLongMode "IA32_EFER.LMA and LME must equal host address-space size";
    }
    "Checks on Host Segment and Descriptor-Table Registers" {
        HostSelectorFlags "TI and RPL of the selector must be 0";
        HostSelectorNull "CS and TR must not be null";
        HostBaseCanonical "the base must be canonical";
    }
    "Checks Related to Address-Space Size" {
        HostNot64Bit "the host is in IA-32e mode, so host address-space size must be 1";
        HostPae "a 64-bit host needs CR4.PAE";
        HostRipCanonical "RIP must be canonical";
    }
    "Checks on Guest Control Registers, Debug Registers, and MSRs" {
        GuestCr0Fixed "CR0 must be as IA32_VMX_CR0_FIXED0 and FIXED1 allow, PE and PG aside for an unrestricted guest";
        GuestPagingUnprotected "CR0.PG needs CR0.PE";
        GuestCr4Fixed "CR4 must be as IA32_VMX_CR4_FIXED0 and FIXED1 allow";
        GuestDebugctlReserved "reserved bits of IA32_DEBUGCTL must be 0";
        GuestIa32ePaging "an IA-32e mode guest needs CR0.PG";
        GuestIa32ePae "an IA-32e mode guest needs CR4.PAE";
        GuestPcide "CR4.PCIDE is for IA-32e mode guests";
        GuestCr3Width "CR3 must be within the physical-address width";
        GuestDr7Upper "bits 63:32 of DR7 must be 0";
        GuestSysenterCanonical "SYSENTER addresses must be canonical";
        GuestPat "each byte of IA32_PAT must be a memory type";
        GuestEferReserved "reserved bits of IA32_EFER must be 0";
        GuestEferLma "IA32_EFER.LMA must equal IA-32e mode guest";
        GuestEferLme "IA32_EFER.LME must equal LMA while CR0.PG is 1";
        GuestBndcfgsReserved "bits 11:2 of IA32_BNDCFGS must be 0";
        GuestBndcfgsCanonical "the base in IA32_BNDCFGS must be canonical";
    }
    "Checks on Guest Segment Registers" {
        TableIndicator "the selectors of TR and LDTR must refer to the GDT";
        StackRpl "the RPLs of SS and CS must be equal";
        Virtual8086Base "in virtual-8086 mode the base must be 16 times the selector";
        Virtual8086Limit "in virtual-8086 mode the limit must be 0xffff";
        Virtual8086Rights "in virtual-8086 mode the access rights must be 0xf3";
        SegmentBaseCanonical "the base must be canonical";
        SegmentBaseUpper "bits 63:32 of the base must be 0";
        CodeType "CS must be accessed code, or accessed writable data in an unrestricted guest";
        StackType "SS must be accessed writable data";
        DataAccessed "the segment must be accessed";
        DataReadable "a code segment in a data register must be readable";
        SegmentNotSystem "S must be 1";
        CodeDplData "a data segment in CS must have DPL 0";
        CodeDplNonconforming "the DPL of nonconforming CS must be that of SS";
        CodeDplConforming "the DPL of conforming CS must not exceed that of SS";
        StackDpl "the DPL of SS must be its RPL";
        StackDplZero "the DPL of SS must be 0 in real mode and with a data segment in CS";
        DataDpl "the DPL must not be less than the RPL";
        SegmentPresent "P must be 1";
        SegmentReserved "bits 11:8 and 31:17 of the access rights must be 0";
        CodeLongAndBig "D must be 0 in 64-bit code";
        LimitNeedsBytes "G must be 0 if one of bits 11:0 of the limit is 0";
        LimitNeedsPages "G must be 1 if one of bits 31:20 of the limit is 1";
        TaskType "TR must be a busy TSS, in IA-32e mode a 64-bit one";
        TaskUnusable "TR must be usable";
        LdtType "LDTR must be an LDT";
        SystemSegment "S must be 0";
    }
    "Checks on Guest Descriptor-Table Registers" {
        TableBaseCanonical "the base must be canonical";
        TableLimitUpper "bits 31:16 of the limit must be 0";
    }
    "Checks on Guest RIP, RFLAGS, and SSP" {
        RipUpper "bits 63:32 of RIP must be 0 outside 64-bit code";
        RipCanonical "RIP must be canonical";
        RflagsReserved "reserved bits of RFLAGS must be 0 and bit 1 must be 1";
        RflagsVirtual8086 "RFLAGS.VM must be 0 in IA-32e mode and without CR0.PE";
        RflagsInterrupt "RFLAGS.IF must be 1 to inject an external interrupt";
    }
    "Checks on Guest Non-Register State" {
        ActivityUnsupported "the activity state must be one that IA32_VMX_MISC reports";
        HaltedUnprivileged "the guest cannot be halted while the DPL of SS is not 0";
        InactiveInShadow "the guest must be active while STI or MOV SS blocks";
        EventWakes "the event must be one that the activity state takes";
        InterruptibilityReserved "bits 31:5 of the interruptibility state must be 0";
        TwoShadows "STI and MOV SS cannot both block";
        StiWithoutIf "STI cannot block while RFLAGS.IF is 0";
        InterruptInShadow "no external interrupt while STI or MOV SS blocks";
        NmiInShadow "no NMI while MOV SS blocks, nor, since a CPU may refuse that too, while STI does";
        SmiBlocked "SMIs are blocked in SMM only";
        NmiBlocked "no NMI while virtual NMIs are blocked";
        EnclaveInShadow "MOV SS cannot block in an enclave";
        PendingDebugReserved "reserved bits of the pending debug exceptions must be 0";
        SingleStepMissing "BS must be 1 if RFLAGS.TF is 1 and IA32_DEBUGCTL.BTF is 0, in a shadow or halted";
        SingleStepPending "BS must be 0 if RFLAGS.TF is 0 or IA32_DEBUGCTL.BTF is 1, in a shadow or halted";
        TransactionalDebug "a pending debug exception in a transaction has bits 12 and 16 and no other, and no shadow of MOV SS";
        LinkPointerAlignment "bits 11:0 of the VMCS link pointer must be 0, or all must be 1";
        LinkPointerWidth "the VMCS link pointer must be within the physical-address width";
    }
    "Checks on Guest Page-Directory-Pointer-Table Entries" {
        PdpteReserved "reserved bits of a present PDPTE must be 0";
    }
}
