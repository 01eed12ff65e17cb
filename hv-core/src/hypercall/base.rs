//! *base*: versions and presence.

use pv_abi::call::{self, Number, VERSIONS, base};
use pv_abi::{Status, VERSION};

use super::{Arguments, Reply, UNKNOWN};

pub(super) fn call(number: Number, &Arguments(argument, ..): &Arguments) -> Reply {
    match number {
        base::VERSION_CALL => Reply::Value(u64::from(VERSION)),
        base::PROBE => match u16::try_from(argument) {
            Ok(extension) => Reply::Value(
                VERSIONS
                    .iter()
                    .find(|(number, _)| *number == extension)
                    .map_or(0, |&(_, version)| version.into()),
            ),
            Err(_) => Reply::Error(Status::InvalidArgument),
        },
        // While the major number is 0, no version speaks for another.
        base::ACKNOWLEDGE if argument == u64::from(VERSION) => Reply::Value(argument),
        base::ACKNOWLEDGE => Reply::Error(Status::InvalidArgument),
        call::base::NOP => Reply::Value(0),
        _ => UNKNOWN,
    }
}
