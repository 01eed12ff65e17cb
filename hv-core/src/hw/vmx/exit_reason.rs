//! Exit reasons: SDM vol. 3, appendix "VMX Basic Exit Reasons".

use pv_abi::exit::Reason;

macro_rules! reasons {
    ($($number:literal $name:ident $neutral:ident $label:literal;)*) => {
        /// A basic exit reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u16)]
        pub enum Basic {
            $(#[doc = concat!($label, ".")] $name = $number,)*
        }

        impl Basic {
            /// Every basic exit reason that has a name.
            pub const ALL: &'static [Basic] = &[$(Basic::$name),*];

            /// The reason with this number.
            pub const fn from_number(number: u16) -> Option<Basic> {
                match number { $($number => Some(Basic::$name),)* _ => None }
            }

            /// The manual's name.
            pub const fn name(self) -> &'static str {
                match self { $(Basic::$name => $label,)* }
            }

            /// The neutral reason. Where the qualification decides (`Exception` or NMI, port in or
            /// out, control register read or write), this is the commoner one and the decoded
            /// qualification says more.
            pub const fn neutral(self) -> Reason {
                match self { $(Basic::$name => Reason::$neutral,)* }
            }
        }
    };
}

reasons! {
    0 ExceptionOrNmi Exception "Exception or non-maskable interrupt (NMI)";
    1 ExternalInterrupt ExternalInterrupt "External interrupt";
    2 TripleFault TripleFault "Triple fault";
    3 InitSignal Reset "INIT signal";
    4 StartupIpi Reset "Start-up IPI (SIPI)";
    5 IoSmi Reset "I/O system-management interrupt (SMI)";
    6 OtherSmi Reset "Other SMI";
    7 InterruptWindow InterruptWindow "Interrupt window";
    8 NmiWindow NmiWindow "NMI window";
    9 TaskSwitch TaskSwitch "Task switch";
    10 Cpuid Cpuid "CPUID";
    11 Getsec VirtInstruction "GETSEC";
    12 Hlt Hlt "HLT";
    13 Invd Wbinvd "INVD";
    14 Invlpg Invlpg "INVLPG";
    15 Rdpmc Rdpmc "RDPMC";
    16 Rdtsc Rdtsc "RDTSC";
    17 Rsm Reset "RSM";
    18 Vmcall Hypercall "VMCALL";
    19 Vmclear VirtInstruction "VMCLEAR";
    20 Vmlaunch VirtInstruction "VMLAUNCH";
    21 Vmptrld VirtInstruction "VMPTRLD";
    22 Vmptrst VirtInstruction "VMPTRST";
    23 Vmread VirtInstruction "VMREAD";
    24 Vmresume VirtInstruction "VMRESUME";
    25 Vmwrite VirtInstruction "VMWRITE";
    26 Vmxoff VirtInstruction "VMXOFF";
    27 Vmxon VirtInstruction "VMXON";
    28 ControlRegister CrWrite "Control-register accesses";
    29 MovDr DrAccess "MOV DR";
    30 Io PortOut "I/O instruction";
    31 Rdmsr MsrRead "RDMSR";
    32 Wrmsr MsrWrite "WRMSR";
    33 InvalidGuestState EntryFailure "VM-entry failure due to invalid guest state";
    34 MsrLoading EntryFailure "VM-entry failure due to MSR loading";
    36 Mwait Mwait "MWAIT";
    37 MonitorTrapFlag SingleStep "Monitor trap flag";
    39 Monitor Mwait "MONITOR";
    40 Pause Pause "PAUSE";
    41 EntryMachineCheck EntryFailure "VM-entry failure due to machine-check event";
    43 TprBelowThreshold TprThreshold "TPR below threshold";
    44 ApicAccess ApicAccess "APIC access";
    45 VirtualizedEoi EoiInduced "Virtualized EOI";
    46 GdtrOrIdtr DescriptorTable "Access to GDTR or IDTR";
    47 LdtrOrTr DescriptorTable "Access to LDTR or TR";
    48 EptViolation NestedPageFault "EPT violation";
    49 EptMisconfiguration NestedMisconfig "EPT misconfiguration";
    50 Invept VirtInstruction "INVEPT";
    51 Rdtscp Rdtsc "RDTSCP";
    52 PreemptionTimer TimeSlice "VMX-preemption timer expired";
    53 Invvpid VirtInstruction "INVVPID";
    54 Wbinvd Wbinvd "WBINVD or WBNOINVD";
    55 Xsetbv Xsetbv "XSETBV";
    56 ApicWrite ApicWrite "APIC write";
    57 Rdrand Random "RDRAND";
    58 Invpcid Invpcid "INVPCID";
    59 Vmfunc VirtInstruction "VMFUNC";
    60 Encls Other "ENCLS";
    61 Rdseed Random "RDSEED";
    62 PageModificationLogFull Other "Page-modification log full";
    63 Xsaves Other "XSAVES";
    64 Xrstors Other "XRSTORS";
    65 Pconfig Other "PCONFIG";
    66 SubPage NestedPageFault "SPP-related event";
    67 Umwait Mwait "UMWAIT";
    68 Tpause Mwait "TPAUSE";
    69 Loadiwkey Other "LOADIWKEY";
    70 Enclv Other "ENCLV";
    72 EnqcmdTranslation Other "ENQCMD PASID translation failure";
    73 EnqcmdsTranslation Other "ENQCMDS PASID translation failure";
    74 BusLock Other "Bus lock";
    75 InstructionTimeout TimeSlice "Instruction timeout";
    76 Seamcall VirtInstruction "SEAMCALL";
    77 Tdcall VirtInstruction "TDCALL";
    78 Rdmsrlist MsrRead "RDMSRLIST";
    79 Wrmsrlist MsrWrite "WRMSRLIST";
}

/// The exit-reason field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitReason(pub u32);

impl ExitReason {
    /// Bits 15:0 by name, or as a number that no name is known for.
    pub fn basic(self) -> Result<Basic, u16> {
        let number = self.0 as u16;
        Basic::from_number(number).ok_or(number)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_number_is_known_or_one_that_the_manual_skips() {
        const SKIPPED: [u16; 4] = [35, 38, 42, 71];
        for number in 0..80 {
            let known = Basic::from_number(number);
            assert_eq!(known.is_none(), SKIPPED.contains(&number), "{number}");
            assert!(known.is_none_or(|basic| basic as u16 == number));
        }
        let names: BTreeSet<&str> = Basic::ALL.iter().map(|basic| basic.name()).collect();
        assert_eq!(names.len(), Basic::ALL.len());
    }

    #[test]
    fn the_field_has_flags_above_the_number() {
        assert_eq!(ExitReason(0x8000_0021).basic(), Ok(Basic::InvalidGuestState));
        assert_eq!(ExitReason(0x0800_0023).basic(), Err(35));
    }
}
