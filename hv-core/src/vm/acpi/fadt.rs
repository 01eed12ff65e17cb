//! The FADT: which hardware of ACPI there is, and where.

use acpi_tables::fadt::{FADT, FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace, GAS};

use super::{OEM, OEM_REVISION, OEM_TABLE};
use crate::device::power::{FixedHardware, ReducedHardware, ResetControl, TIMER_WIDTH, TimerWidth};
use crate::vm::MachineType;

/// Of both machines. That a button is no fixed hardware also means that there may be none.
const FLAGS: u32 = Flags::Wbinvd as u32
    | Flags::PwrButton as u32
    | Flags::SlpButton as u32
    | Flags::ResetRegSup as u32
    | Flags::Headless as u32;
const MINIMAL_FLAGS: u32 = Flags::HwReducedAcpi as u32;
const PC_FLAGS: u32 = Flags::ProcC1 as u32 | Flags::FixRtc as u32 | TIMER_FLAG;
const TIMER_FLAG: u32 = match TIMER_WIDTH {
    TimerWidth::Bits24 => 0,
    TimerWidth::Bits32 => Flags::TmrValExt as u32,
};

/// Bits of IAPC_BOOT_ARCH.
const LEGACY_DEVICES: u16 = 1 << 0;
const KEYBOARD_CONTROLLER: u16 = 1 << 1;
const NO_VGA: u16 = 1 << 2;
const NO_MSI: u16 = 1 << 3;
const NO_RTC: u16 = 1 << 5;

/// Latencies that mean that the CPU has no such state.
const NO_C2: u16 = 101;
const NO_C3: u16 = 1001;

/// The table.
pub fn fadt(machine: MachineType, dsdt: u32, facs: u32) -> FADT {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION);
    fadt.dsdt = dsdt.into();
    fadt.x_dsdt = u64::from(dsdt).into();
    fadt.firmware_ctrl = facs.into();
    fadt.p_lvl2_lat = NO_C2.into();
    fadt.p_lvl3_lat = NO_C3.into();
    match machine {
        MachineType::Minimal => {
            fadt.flags = (FLAGS | MINIMAL_FLAGS).into();
            fadt.iapc_boot_arch = (NO_VGA | NO_MSI | NO_RTC).into();
            fadt.reset_reg = port(ReducedHardware::RESET, 8);
            fadt.reset_value = ReducedHardware::RESET_VALUE;
            fadt.sleep_control_reg = port(ReducedHardware::SLEEP_CONTROL, 8);
            fadt.sleep_status_reg = port(ReducedHardware::SLEEP_STATUS, 8);
        }
        MachineType::Pc => {
            fadt.flags = (FLAGS | PC_FLAGS).into();
            fadt.iapc_boot_arch = (LEGACY_DEVICES | KEYBOARD_CONTROLLER | NO_VGA | NO_MSI).into();
            fadt.reset_reg = port(ResetControl::PORT, 8);
            fadt.reset_value = ResetControl::RESET_VALUE;
            fadt.sci_int = u16::from(FixedHardware::SCI).into();
            fadt.pm1a_evt_blk = u32::from(FixedHardware::PM1_EVENT).into();
            fadt.pm1a_cnt_blk = u32::from(FixedHardware::PM1_CONTROL).into();
            fadt.pm_tmr_blk = u32::from(FixedHardware::PM_TIMER).into();
            (fadt.pm1_evt_len, fadt.pm1_cnt_len, fadt.pm_tmr_len) = (4, 2, 4);
            fadt.x_pm1a_evt_blk = port(FixedHardware::PM1_EVENT, 32);
            fadt.x_pm1a_cnt_blk = port(FixedHardware::PM1_CONTROL, 16);
            fadt.x_pm_tmr_blk = port(FixedHardware::PM_TIMER, 32);
        }
    }
    fadt.finalize()
}

/// A register of this many bits. Those of the PM1 event block are 16 bits each, two of them.
fn port(port: u16, bits: u8) -> GAS {
    let access = match (port, bits) {
        (_, 8) => AccessSize::ByteAccess,
        (_, 16) | (FixedHardware::PM1_EVENT, _) => AccessSize::WordAccess,
        _ => AccessSize::DwordAccess,
    };
    GAS::new(AddressSpace::SystemIo, bits, 0, access, port.into())
}
