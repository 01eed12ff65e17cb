//! Guest-physical addresses that are no RAM, and the devices there.

use pv_abi::area::INFO_SIZE;
use zerocopy::IntoBytes;

use crate::device::scratch::Scratch;
use crate::device::{apic, ioapic, scratch};
use crate::host::report::Cause;
use crate::mem::frames::PAGE;
use crate::vm::exit::Ending;
use crate::vm::{Hardware, Leave, Outcome, Vcpu};

/// What is at an address that is no RAM.
enum Device {
    /// The local APIC's page, at this offset.
    Apic(u16),
    /// The I/O APIC's page, at this offset.
    IoApic(u16),
    /// The read-only half of the area, at this offset.
    Info(usize),
    /// The scratch page, at this offset.
    Scratch(&'static Scratch, u16),
    /// Nobody: reads give ones, writes go nowhere.
    Nobody,
}

fn device(vcpu: &Vcpu, gpa: u64) -> Device {
    let offset = gpa & PAGE.wrapping_sub(1);
    let in_info = gpa.wrapping_sub(vcpu.info_gpa);
    if gpa ^ offset == vcpu.apic.base_address() && vcpu.apic.mode() == apic::Mode::XApic {
        Device::Apic(offset as u16)
    } else if gpa ^ offset == ioapic::DEFAULT_BASE && vcpu.vm.wired {
        Device::IoApic(offset as u16)
    } else if in_info < INFO_SIZE as u64 && vcpu.registered.area.is_some() {
        Device::Info(in_info as usize)
    } else if gpa ^ offset == scratch::BASE
        && let Some(scratch) = &vcpu.vm.scratch
    {
        Device::Scratch(scratch, offset as u16)
    } else {
        Device::Nobody
    }
}

/// Reads up to 8 bytes on one page; bits beyond them do not count.
pub fn device_read(vcpu: &mut Vcpu, hardware: &mut impl Hardware, gpa: u64, size: u8) -> u64 {
    match device(vcpu, gpa) {
        Device::Apic(offset) => {
            vcpu.software_acts(hardware);
            let now = vcpu.now(hardware);
            let value = vcpu.apic.mmio_read(offset, now);
            vcpu.attend();
            value.into()
        }
        Device::IoApic(offset) => vcpu.read_io_apic(offset).into(),
        Device::Info(offset) => {
            let mut value = [0; 8];
            let bytes = vcpu.info.as_bytes().get(offset..).unwrap_or(&[]);
            for (to, from) in value.iter_mut().zip(bytes).take(size.into()) {
                *to = *from;
            }
            u64::from_le_bytes(value)
        }
        Device::Scratch(page, offset) => page.read(offset),
        Device::Nobody => u64::MAX,
    }
}

/// A write, as an exit has it in its access.
const WRITE: u64 = 1 << 1;

/// Writes up to 8 bytes on one page; the bits of `value` beyond them are 0.
///
/// # Errors
///
/// The write ends the VM.
pub fn device_write(
    vcpu: &mut Vcpu,
    hardware: &mut impl Hardware,
    gpa: u64,
    size: u8,
    value: u64,
) -> Result<(), Leave> {
    match device(vcpu, gpa) {
        Device::Apic(offset) => {
            vcpu.software_acts(hardware);
            let now = vcpu.now(hardware);
            let effect = vcpu.apic.mmio_write(offset, value as u32, now);
            match vcpu.apply(effect, hardware) {
                Outcome::AdvanceAndLeave(leave) => Err(leave),
                _ => Ok(()),
            }
        }
        Device::IoApic(offset) => {
            vcpu.write_io_apic(offset, value as u32, hardware);
            Ok(())
        }
        Device::Info(_) => Err(vcpu.ends_at(Ending {
            cause: Cause::BadMemory,
            code: WRITE,
            address: gpa,
            message: "the guest wrote to the half of the area that is the hypervisor's",
        })),
        Device::Scratch(page, offset) => {
            page.write(offset, size, value);
            Ok(())
        }
        Device::Nobody => Ok(()),
    }
}
