//! The hypervisor's log: defmt frames, decoded with the table in its ELF file.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use defmt_decoder::{DecodeError, Encoding, Location, StreamDecoder, Table};

use crate::symbols::short;

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// `INFO`, `WARN`, ..., or empty.
    pub level: &'static str,
    pub message: String,
    /// `file:line`, if the debugging information says it.
    pub place: Option<String>,
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:5} {}", self.level, self.message)?;
        match &self.place {
            Some(place) => write!(f, "  ({place})"),
            None => Ok(()),
        }
    }
}

/// The format strings of one hypervisor image.
pub struct Strings {
    table: Option<Table>,
    places: BTreeMap<u64, Location>,
}

impl Strings {
    /// Reads them from the unstripped image. An image without a log has none.
    pub fn load(elf: &Path) -> Result<Strings> {
        let bytes = std::fs::read(elf).with_context(|| format!("cannot read {}", elf.display()))?;
        let table = Table::parse(&bytes)
            .with_context(|| format!("the log strings of {}", elf.display()))?;
        // Lines without a place are better than no lines.
        let places = table.as_ref().and_then(|t| t.get_locations(&bytes).ok()).unwrap_or_default();
        Ok(Strings { table, places })
    }

    /// A decoder for one run.
    pub fn decoder(&self) -> Decoder<'_> {
        let stream = self.table.as_ref().map(Table::new_stream_decoder);
        Decoder { strings: self, stream, stuck: false }
    }
}

/// Decodes the log of one run. What cannot be decoded is reported as a line and skipped: a log
/// that starts late or is damaged costs lines, not the run.
pub struct Decoder<'a> {
    strings: &'a Strings,
    stream: Option<Box<dyn StreamDecoder + Send + Sync + 'a>>,
    stuck: bool,
}

impl Decoder<'_> {
    /// Takes the next piece of the log and gives the lines that it completes.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Line> {
        let Some(stream) = &mut self.stream else {
            let first = !std::mem::replace(&mut self.stuck, true);
            return if first { vec![note("the image has no log strings")] } else { Vec::new() };
        };
        let mut lines = Vec::new();
        if self.stuck {
            return lines;
        }
        stream.received(bytes);
        loop {
            match stream.decode() {
                Ok(frame) => lines.push(Line {
                    level: frame.level().map_or("", |level| match level.as_str() {
                        "trace" => "TRACE",
                        "debug" => "DEBUG",
                        "info" => "INFO",
                        "warn" => "WARN",
                        _ => "ERROR",
                    }),
                    message: frame.display_message().to_string(),
                    place: self.strings.places.get(&frame.index()).map(|location| {
                        format!("{}:{}", short(&location.file.to_string_lossy()), location.line)
                    }),
                }),
                Err(DecodeError::UnexpectedEof) => return lines,
                Err(DecodeError::Malformed) => {
                    lines.push(note("a malformed log frame was skipped"));
                    // Only rzcobs has marks between frames by which to find the next one.
                    let encoding = self.strings.table.as_ref().map(Table::encoding);
                    if !matches!(encoding, Some(Encoding::Rzcobs)) {
                        self.stuck = true;
                        return lines;
                    }
                }
            }
        }
    }
}

fn note(message: &str) -> Line {
    Line { level: "", message: format!("[{message}]"), place: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_without_log_strings_gives_one_note() {
        let strings = Strings::load(&std::env::current_exe().unwrap()).unwrap();
        let mut decoder = strings.decoder();
        assert_eq!(decoder.push(b"abc").len(), 1);
        assert_eq!(decoder.push(b"abc"), []);
    }
}
