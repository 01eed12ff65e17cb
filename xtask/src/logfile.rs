//! The log file of a run.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};

use anyhow::{Context, Result};

/// Writes the log file. Text is cut into lines, each with its speaker.
pub struct Log {
    file: BufWriter<File>,
    open: BTreeMap<String, Vec<u8>>,
}

impl Log {
    pub fn new(file: File) -> Log {
        Log { file: BufWriter::new(file), open: BTreeMap::new() }
    }

    /// Writes whole lines.
    pub fn line(&mut self, speaker: &str, text: &str) {
        for line in text.lines() {
            // A full disk must not end the run.
            let _ = writeln!(self.file, "{speaker:>12} | {line}");
        }
        let _ = self.file.flush();
    }

    /// Adds bytes and gives the lines that they complete.
    pub fn bytes(&mut self, speaker: &str, bytes: &[u8]) -> Vec<String> {
        let mut held = self.open.remove(speaker).unwrap_or_default();
        held.extend_from_slice(bytes);
        let mut lines = Vec::new();
        while let Some(end) = held.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = held.drain(..=end).collect();
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            self.line(speaker, &line);
            lines.push(line);
        }
        self.open.insert(speaker.to_owned(), held);
        lines
    }

    /// Writes the lines that were not completed and gives them with their speakers.
    ///
    /// # Errors
    ///
    /// When the file could not be written.
    pub fn finish(mut self) -> Result<Vec<(String, String)>> {
        let open = std::mem::take(&mut self.open);
        let rest = open.into_iter().filter(|(_, held)| !held.is_empty());
        let rest: Vec<_> = rest
            .map(|(s, held)| (s, String::from_utf8_lossy(&held).trim_end().to_owned()))
            .collect();
        for (speaker, line) in &rest {
            self.line(speaker, line);
        }
        self.file.flush().context("cannot write the log file")?;
        Ok(rest)
    }
}
