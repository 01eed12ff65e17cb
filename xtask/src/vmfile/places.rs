//! Where things stand in a description file, so that what is refused is told with its line.

use std::fmt;
use std::ops::Range;

use toml::de::{DeTable, Error};

use super::fit::Misfit;

/// Why a file is refused.
#[derive(Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The file, as its user called it.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// The key, unless it is about something else.
    pub key: Option<String>,
    pub why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, line {}: ", self.file, self.line)?;
        match &self.key {
            Some(key) => write!(f, "`{key}`: {}", self.why),
            None => f.write_str(&self.why),
        }
    }
}

impl std::error::Error for Refusal {}

/// Where the VMs of a file and their keys stand.
#[derive(Clone, Debug)]
pub struct Places {
    file: String,
    text: String,
    vms: Vec<Place>,
}

/// Of one `[[vm]]`.
#[derive(Clone, Debug)]
struct Place {
    start: usize,
    /// Each key, and where it stands with its value.
    keys: Vec<(String, Range<usize>)>,
}

impl Places {
    /// What is found of the places in `table`, which is `text` parsed as far as that could be done.
    pub fn of(file: &str, text: &str, table: &DeTable<'_>) -> Places {
        let vms = table.get("vm").and_then(|vms| vms.get_ref().as_array());
        let place = |vm: &toml::Spanned<toml::de::DeValue<'_>>| Place {
            start: vm.span().start,
            keys: vm.get_ref().as_table().map(keys).unwrap_or_default(),
        };
        let vms = vms.map(|vms| vms.iter().map(place).collect()).unwrap_or_default();
        Places { file: file.to_owned(), text: text.to_owned(), vms }
    }

    /// What the library refuses.
    pub fn refused(&self, error: &Error) -> Refusal {
        let at = error.span().unwrap_or_default();
        let keys = || self.vms.iter().flat_map(|vm| &vm.keys);
        let around = keys().find(|(_, span)| (span.start..=span.end).contains(&at.start));
        // One that is there twice stands in the table once: the error is about its name.
        let name = self.text.get(at.clone());
        let key = around.or_else(|| keys().find(|(key, _)| Some(key.as_str()) == name));
        self.refusal(at.start, key.map(|(key, _)| key.clone()), error.message().trim_end())
    }

    /// What does not fit.
    pub fn misfit(&self, misfit: &Misfit) -> Refusal {
        let place = self.vms.get(misfit.vm);
        let key = place.and_then(|vm| vm.keys.iter().find(|(key, _)| key == misfit.key));
        let vm = place.map_or(0, |vm| vm.start);
        let at = key.map_or(vm, |(_, span)| span.start);
        self.refusal(at, Some(misfit.key.to_owned()), &misfit.why)
    }

    fn refusal(&self, at: usize, key: Option<String>, why: &str) -> Refusal {
        // An error at the end of the file is about what is missing in the last line that says something.
        let before = &self.text.as_bytes()[..at.min(self.text.trim_end().len())];
        let line = 1 + before.iter().filter(|&&byte| byte == b'\n').count();
        Refusal { file: self.file.clone(), line, key, why: why.to_owned() }
    }
}

fn keys(table: &DeTable<'_>) -> Vec<(String, Range<usize>)> {
    let key = |(key, value): (&toml::Spanned<toml::de::DeString<'_>>, &toml::Spanned<_>)| {
        (key.get_ref().to_string(), key.span().start..value.span().end)
    };
    table.iter().map(key).collect()
}
