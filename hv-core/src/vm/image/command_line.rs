//! What a command line says of the machine that the VM is started on.

extern crate alloc;

use alloc::format;
use alloc::string::String;

/// Stands for the TSC's frequency in kHz. Linux takes it by `tsc_early_khz=` where it would otherwise
/// measure it by devices that the VM may not have.
const TSC_KHZ: &str = "$tsc_khz";

/// A command line in which `$tsc_khz` has been replaced by this number.
pub fn command_line(line: &str, tsc_khz: u64) -> String {
    line.replace(TSC_KHZ, &format!("{tsc_khz}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frequency_of_the_tsc_is_filled_in_wherever_it_is_named() {
        let line = command_line("tsc_early_khz=$tsc_khz x=$tsc_khzy", 2_400_000);
        assert_eq!(line, "tsc_early_khz=2400000 x=2400000y");
    }

    #[test]
    fn any_other_command_line_stays_as_it_is() {
        for line in ["", "$", "$tsc_kh", "a $TSC_KHZ $other", "$tsc_ $khz"] {
            assert_eq!(command_line(line, 1), line);
        }
    }
}
