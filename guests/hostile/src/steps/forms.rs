//! Instructions that mean something to the CPU or to a hypervisor, as patterns of bytes.

/// Any ModR/M byte; what follows it is random.
const M: u16 = 0x100;
/// A ModR/M byte for registers.
const R: u16 = 0x101;
/// Any byte.
const B: u16 = 0x102;
/// A ModR/M byte for memory with this extension of the opcode.
const G0: u16 = 0x110;

/// Where a form can do no lasting harm at CPL 0. At CPL 3 every form may be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Harm {
    /// In every mode.
    None,
    /// Where exceptions have a stack of their own.
    Stack,
    /// It can take away what brings control back.
    Control,
    /// The same, and exceptions may be delivered by way of any memory.
    Tables,
}

/// What an instruction needs in its registers to mean something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Nothing.
    Nothing,
    /// The number of an MSR in ECX.
    Msr,
    /// The same, and a value.
    MsrToWrite,
    /// A port in DX.
    Port,
    /// That something ends it.
    End,
    /// A selector in EAX.
    Selector,
}

/// A form.
pub struct Form {
    /// Its pattern.
    pub bytes: &'static [u16],
    /// What it can do.
    pub harm: Harm,
    /// What it needs.
    pub needs: Needs,
}

const fn form(bytes: &'static [u16]) -> Form {
    Form { bytes, harm: Harm::None, needs: Needs::Nothing }
}
const fn stack(bytes: &'static [u16]) -> Form {
    Form { harm: Harm::Stack, ..form(bytes) }
}
const fn control(bytes: &'static [u16]) -> Form {
    Form { harm: Harm::Control, ..form(bytes) }
}
const fn needs(needs: Needs, bytes: &'static [u16]) -> Form {
    Form { needs, ..form(bytes) }
}

/// All of them.
pub const FORMS: &[Form] = &[
    // CPUID, RDTSC, RDTSCP, RDPMC, XGETBV, XSETBV, RDMSR, WRMSR.
    form(&[0x0f, 0xa2]),
    form(&[0x0f, 0x31]),
    form(&[0x0f, 0x01, 0xf9]),
    form(&[0x0f, 0x33]),
    form(&[0x0f, 0x01, 0xd0]),
    form(&[0x0f, 0x01, 0xd1]),
    needs(Needs::Msr, &[0x0f, 0x32]),
    needs(Needs::MsrToWrite, &[0x0f, 0x30]),
    // MOV from and to CR and DR, SMSW, LMSW, CLTS.
    form(&[0x0f, 0x20, R]),
    control(&[0x0f, 0x22, R]),
    form(&[0x0f, 0x21, R]),
    form(&[0x0f, 0x23, R]),
    form(&[0x0f, 0x01, 0xe0]),
    form(&[0x0f, 0x01, G0 + 4]),
    control(&[0x0f, 0x01, 0xf0]),
    form(&[0x0f, 0x06]),
    // SGDT, SIDT, LGDT, LIDT, INVLPG, SLDT, STR, LLDT, LTR, VERR, VERW, LAR, LSL.
    form(&[0x0f, 0x01, G0]),
    form(&[0x0f, 0x01, G0 + 1]),
    Form { harm: Harm::Tables, ..form(&[0x0f, 0x01, G0 + 2]) },
    Form { harm: Harm::Tables, ..form(&[0x0f, 0x01, G0 + 3]) },
    form(&[0x0f, 0x01, G0 + 7]),
    form(&[0x0f, 0x00, G0]),
    form(&[0x0f, 0x00, G0 + 1]),
    control(&[0x0f, 0x00, R]),
    form(&[0x0f, 0x00, G0 + 4]),
    form(&[0x0f, 0x00, G0 + 5]),
    needs(Needs::Selector, &[0x0f, 0x02, 0xd8]),
    needs(Needs::Selector, &[0x0f, 0x03, 0xd8]),
    // INVD, WBINVD, INVPCID, PAUSE, HLT, MONITOR, MWAIT.
    control(&[0x0f, 0x08]),
    form(&[0x0f, 0x09]),
    form(&[0x66, 0x0f, 0x38, 0x82, G0]),
    form(&[0xf3, 0x90]),
    needs(Needs::End, &[0xf4]),
    form(&[0x0f, 0x01, 0xc8]),
    needs(Needs::End, &[0x0f, 0x01, 0xc9]),
    // IN and OUT, INS and OUTS.
    needs(Needs::Port, &[0xec]),
    needs(Needs::Port, &[0xed]),
    needs(Needs::Port, &[0xee]),
    needs(Needs::Port, &[0xef]),
    Form { harm: Harm::Control, ..needs(Needs::Port, &[0x6c]) },
    Form { harm: Harm::Control, ..needs(Needs::Port, &[0x6f]) },
    Form { harm: Harm::Control, ..needs(Needs::Port, &[0xf3, 0x6d]) },
    Form { harm: Harm::Control, ..needs(Needs::Port, &[0xf3, 0x6e]) },
    // What raises exceptions and interrupts.
    form(&[0xcc]),
    form(&[0xcd, B]),
    form(&[0xce]),
    form(&[0xf1]),
    form(&[0x0f, 0x0b]),
    form(&[0x0f, 0xff, M]),
    form(&[0x62, M]),
    form(&[0xf7, 0xf0]),
    // Flags.
    form(&[0x9c]),
    stack(&[0x9d]),
    form(&[0xfa]),
    form(&[0xfb]),
    form(&[0x0f, 0x01, 0xca]),
    form(&[0x0f, 0x01, 0xcb]),
    // Segments: MOV, PUSH and POP, LES, LDS, LSS.
    Form { harm: Harm::Stack, ..needs(Needs::Selector, &[0x8e, 0xd0]) },
    needs(Needs::Selector, &[0x8e, 0xd8]),
    needs(Needs::Selector, &[0x8e, 0xe0]),
    stack(&[0x17]),
    stack(&[0x1f]),
    stack(&[0x0f, 0xa9]),
    form(&[0xc4, M]),
    form(&[0xc5, M]),
    stack(&[0x0f, 0xb2, M]),
    form(&[0x0f, 0x01, 0xf8]),
    // Far jumps, calls and returns.
    stack(&[0xea, B, B, B, B, B, B]),
    stack(&[0x9a, B, B, B, B, B, B]),
    stack(&[0xff, G0 + 3]),
    stack(&[0xff, G0 + 5]),
    stack(&[0xcb]),
    stack(&[0xca, B, 0]),
    stack(&[0xcf]),
    stack(&[0x48, 0xcf]),
    // SYSCALL, SYSRET, SYSENTER, SYSEXIT.
    stack(&[0x0f, 0x05]),
    stack(&[0x0f, 0x07]),
    stack(&[0x48, 0x0f, 0x07]),
    stack(&[0x0f, 0x34]),
    stack(&[0x0f, 0x35]),
    // VMX, SMX and SVM.
    form(&[0x0f, 0x01, 0xc1]),
    form(&[0x0f, 0x01, 0xc2]),
    form(&[0x0f, 0x01, 0xc3]),
    form(&[0x0f, 0x01, 0xc4]),
    form(&[0x0f, 0x01, 0xd4]),
    form(&[0x0f, 0xc7, G0 + 6]),
    form(&[0x66, 0x0f, 0xc7, G0 + 6]),
    form(&[0xf3, 0x0f, 0xc7, G0 + 6]),
    form(&[0x0f, 0xc7, G0 + 7]),
    form(&[0x0f, 0x78, M]),
    form(&[0x0f, 0x79, M]),
    form(&[0x66, 0x0f, 0x38, 0x80, G0]),
    form(&[0x66, 0x0f, 0x38, 0x81, G0]),
    form(&[0x0f, 0x37]),
    form(&[0x0f, 0xaa]),
    form(&[0x0f, 0x01, 0xd8]),
    form(&[0x0f, 0x01, 0xd9]),
    form(&[0x0f, 0x01, 0xda]),
    form(&[0x0f, 0x01, 0xdb]),
    form(&[0x0f, 0x01, 0xdc]),
    form(&[0x0f, 0x01, 0xdd]),
    form(&[0x0f, 0x01, 0xde]),
    form(&[0x0f, 0x01, 0xdf]),
    form(&[0x0f, 0x01, 0xfa]),
    form(&[0x0f, 0x01, 0xfd]),
    // Strings, with and without REP.
    form(&[0xa4]),
    form(&[0xf3, 0xa4]),
    form(&[0xf3, 0xa5]),
    form(&[0xf3, 0xab]),
    form(&[0xf3, 0xad]),
    form(&[0xf2, 0xae]),
    form(&[0xf3, 0xa6]),
    // Memory: moves, read-modify-write, locked, compare-and-exchange, XCHG.
    form(&[0x8b, M]),
    form(&[0x89, M]),
    form(&[0xf0, 0x01, M]),
    form(&[0xf0, 0x0f, 0xc7, G0 + 1]),
    form(&[0x87, M]),
    form(&[0xff, G0 + 6]),
    form(&[0x8f, G0]),
    // x87, FXSAVE and its like, XSAVE, RDRAND, RDSEED, FS and GS base.
    form(&[0xd9, M]),
    form(&[0xdd, M]),
    form(&[0x9b]),
    form(&[0x0f, 0xae, M]),
    form(&[0x0f, 0xc7, R]),
    form(&[0x0f, 0x10, M]),
    form(&[0xf3, 0x0f, 0xae, R]),
];
