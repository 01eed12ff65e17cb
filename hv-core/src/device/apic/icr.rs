//! Interprocessor interrupts: what a write to the ICR asks for, and whom it reaches.

/// Bits 10:8 of an ICR or LVT entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliveryMode {
    /// The vector, to all that are addressed.
    Fixed,
    /// The vector, to one of those addressed: the one that runs at the lowest priority.
    LowestPriority,
    /// A system management interrupt. Accepted and dropped: there is no SMM here.
    Smi,
    /// An NMI; the vector is ignored.
    Nmi,
    /// INIT.
    Init,
    /// Start-up (SIPI): the vector is the page number of the first instruction.
    Startup,
    /// External interrupt controller; only in an LVT entry.
    ExtInt,
    /// Encodings without a meaning.
    Reserved,
}

impl DeliveryMode {
    /// Decodes bits 10:8 of a register.
    pub const fn of(register: u32) -> DeliveryMode {
        match register >> 8 & 7 {
            0 => DeliveryMode::Fixed,
            1 => DeliveryMode::LowestPriority,
            2 => DeliveryMode::Smi,
            4 => DeliveryMode::Nmi,
            5 => DeliveryMode::Init,
            6 => DeliveryMode::Startup,
            7 => DeliveryMode::ExtInt,
            _ => DeliveryMode::Reserved,
        }
    }
}

/// Whom an IPI is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Destination {
    /// The APIC with this ID.
    Physical(u32),
    /// Those whose logical destination register matches: 8 bits in xAPIC mode, 32 in x2APIC mode.
    Logical(u32),
    /// Every APIC, the sender's included.
    All,
    /// Every APIC but the sender's.
    Others,
}

/// An interprocessor interrupt on its way.
///
/// The caller hands it to every vCPU of the VM for which [`super::VirtualApic::is_addressed`]
/// holds, the sender included, by [`super::VirtualApic::accept`]; one of mode
/// [`DeliveryMode::LowestPriority`] only to the one of them with the lowest
/// [`super::VirtualApic::ppr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ipi {
    /// The vector, or the page number of a start-up IPI.
    pub vector: u8,
    /// What is delivered.
    pub mode: DeliveryMode,
    /// To whom.
    pub destination: Destination,
}

/// What a value written to the ICR means, apart from errors in its vector.
pub(super) enum Command {
    Nothing,
    ToSelf(u8),
    Send(Ipi),
}

/// Bits of the ICR's lower half that can be written.
pub(super) const WRITABLE: u32 = 0x000c_cfff;
/// Bits of the lower half that make a write fault in x2APIC mode. Bit 12, delivery status, is
/// neither: it reads 0 and what is written to it is ignored.
pub(super) const RESERVED: u32 = !(WRITABLE | 1 << 12);

const LOGICAL: u32 = 1 << 11;
const ASSERT: u32 = 1 << 14;
const LEVEL: u32 = 1 << 15;

/// Decodes the ICR's lower half for a message to `destination`; `everybody` is what stands for all
/// APICs in the mode of the sender.
pub(super) fn command(low: u32, destination: u32, everybody: u32) -> Command {
    let mode = DeliveryMode::of(low);
    let vector = low as u8;
    let nothing = match mode {
        DeliveryMode::Smi | DeliveryMode::ExtInt | DeliveryMode::Reserved => true,
        // INIT level de-assert has had no effect since the Pentium 4.
        DeliveryMode::Init => low & LEVEL != 0 && low & ASSERT == 0,
        _ => false,
    };
    let shorthand = low >> 18 & 3;
    // The shorthands that include the sender are valid with fixed delivery only (SDM vol. 3, Valid
    // Combinations for the Pentium 4 and Intel Xeon Processors' Local xAPIC ICR).
    if nothing || (matches!(shorthand, 1 | 2) && mode != DeliveryMode::Fixed) {
        return Command::Nothing;
    }
    let destination = match shorthand {
        1 => return Command::ToSelf(vector),
        2 => Destination::All,
        3 => Destination::Others,
        _ if destination == everybody => Destination::All,
        _ if low & LOGICAL != 0 => Destination::Logical(destination),
        _ => Destination::Physical(destination),
    };
    Command::Send(Ipi { vector, mode, destination })
}

/// The logical ID of an APIC in x2APIC mode: cluster in the upper half, one bit in the lower.
pub(super) const fn x2apic_logical_id(id: u32) -> u32 {
    (id & 0xf_fff0) << 12 | 1 << (id & 0xf)
}

/// Whether a logical destination matches in x2APIC mode.
pub(super) fn x2apic_logical_match(ldr: u32, destination: u32) -> bool {
    ldr >> 16 == destination >> 16 && ldr & destination & 0xffff != 0
}

/// Whether an 8-bit logical destination matches in xAPIC mode: flat or cluster model by the DFR.
pub(super) fn xapic_logical_match(ldr: u32, dfr: u32, destination: u32) -> bool {
    let id = ldr >> 24;
    match dfr >> 28 {
        0xf => id & destination != 0,
        0 => {
            let every_cluster = destination >> 4 == 0xf;
            (every_cluster || id >> 4 == destination >> 4) && id & destination & 0xf != 0
        }
        _ => false,
    }
}
