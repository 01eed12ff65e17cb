//! Why a guest left guest mode, in words that hold for VT-x and AMD-V alike.

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident = $n:literal, $word:literal;)*) => {
        /// A neutral exit reason: the index of its counter in the read-only half.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Reason {
            $($(#[doc = $doc])* $name = $n,)*
        }

        impl Reason {
            /// Every reason, in order of number.
            pub const ALL: &'static [Reason] = &[$(Reason::$name),*];

            /// The reason with this number.
            pub const fn from_index(index: u8) -> Option<Reason> {
                match index { $($n => Some(Reason::$name),)* _ => None }
            }

            /// The name used in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$name => $word,)* }
            }

            /// What happened.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$name => concat!($($doc),*),)* }
            }
        }
    };
}

reasons! {
    /// CPUID.
    Cpuid = 0, "cpuid";
    /// A hypercall.
    Hypercall = 1, "hypercall";
    /// RDMSR.
    MsrRead = 2, "rdmsr";
    /// WRMSR.
    MsrWrite = 3, "wrmsr";
    /// IN, INS.
    PortIn = 4, "port-in";
    /// OUT, OUTS.
    PortOut = 5, "port-out";
    /// A move to a control register, CLTS, LMSW.
    CrWrite = 6, "cr-write";
    /// A move from a control register.
    CrRead = 7, "cr-read";
    /// An access that the nested page table does not allow.
    NestedPageFault = 8, "nested-page-fault";
    /// HLT.
    Hlt = 9, "hlt";
    /// An interrupt of the host.
    ExternalInterrupt = 10, "external-interrupt";
    /// An NMI of the host.
    Nmi = 11, "nmi";
    /// The guest can now take the interrupt that waits for it.
    InterruptWindow = 12, "interrupt-window";
    /// The guest can now take the NMI that waits for it.
    NmiWindow = 13, "nmi-window";
    /// The time slice or the next timer deadline is over.
    TimeSlice = 14, "time-slice";
    /// An exception in the guest that is intercepted.
    Exception = 15, "exception";
    /// INVLPG.
    Invlpg = 16, "invlpg";
    /// RDTSC, RDTSCP.
    Rdtsc = 17, "rdtsc";
    /// PAUSE.
    Pause = 18, "pause";
    /// MONITOR, MWAIT.
    Mwait = 19, "mwait";
    /// A move to or from a debug register.
    DrAccess = 20, "dr-access";
    /// LGDT, LIDT, LLDT, LTR and their stores.
    DescriptorTable = 21, "descriptor-table";
    /// XSETBV.
    Xsetbv = 22, "xsetbv";
    /// WBINVD, INVD.
    Wbinvd = 23, "wbinvd";
    /// An access to the xAPIC page that the CPU does not virtualize.
    ApicAccess = 24, "apic-access";
    /// A write to the virtual APIC page, done by the CPU, that software must complete.
    ApicWrite = 25, "apic-write";
    /// An end of interrupt that software asked to see.
    EoiInduced = 26, "eoi-induced";
    /// A hardware task switch.
    TaskSwitch = 27, "task-switch";
    /// A triple fault, or the shutdown state.
    TripleFault = 28, "triple-fault";
    /// An instruction of the virtualization extensions themselves.
    VirtInstruction = 29, "virt-instruction";
    /// RDPMC.
    Rdpmc = 30, "rdpmc";
    /// RDRAND, RDSEED.
    Random = 31, "random";
    /// SMI, RSM, INIT or SIPI.
    Reset = 32, "init-sipi-smi";
    /// INVPCID.
    Invpcid = 33, "invpcid";
    /// Single-stepping by the hypervisor.
    SingleStep = 34, "single-step";
    /// A nested page table entry that the hardware rejects.
    NestedMisconfig = 35, "nested-misconfig";
    /// The task priority fell below the threshold.
    TprThreshold = 36, "tpr-threshold";
    /// The guest could not be entered.
    EntryFailure = 37, "entry-failure";
    /// A `stat.mark`: kept apart and left out of every total.
    Mark = 38, "mark";
    /// A reason that the hypervisor does not know.
    Other = 39, "other";
}

/// The number of counters that the read-only half has room for.
pub const SLOTS: usize = 64;

const _: () = assert!(Reason::ALL.len() <= SLOTS);
