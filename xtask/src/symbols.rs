//! Names and source lines of addresses, from an ELF file that has its symbols.

use std::ops::Range;
use std::path::Path;

use addr2line::Loader;
use anyhow::{Result, anyhow};

/// The symbols of one image.
pub struct Symbols {
    loader: Loader,
    /// Where the image is loaded.
    range: Range<u64>,
}

impl Symbols {
    /// Reads the debugging information of `elf`.
    pub fn load(elf: &Path) -> Result<Symbols> {
        let loader = Loader::new(elf).map_err(|e| anyhow!("{}: {e}", elf.display()))?;
        let range = crate::elf::loaded(&std::fs::read(elf)?)?;
        Ok(Symbols { loader, range })
    }

    /// `function at file:line` for each function that was inlined at `address`, innermost first;
    /// empty if nothing is known.
    pub fn frames(&self, address: u64) -> Vec<String> {
        let mut found = Vec::new();
        // A guest's RIP can be anything; outside of the image the last symbol would claim it.
        if !self.range.contains(&address) {
            return found;
        }
        if let Ok(mut frames) = self.loader.find_frames(address) {
            while let Ok(Some(frame)) = frames.next() {
                let name = frame.function.as_ref().and_then(|f| f.demangle().ok());
                let place =
                    frame.location.and_then(|l| Some(format!("{}:{}", short(l.file?), l.line?)));
                match (name, place) {
                    (Some(name), Some(place)) => found.push(format!("{name} at {place}")),
                    (Some(name), None) => found.push(name.into_owned()),
                    (None, Some(place)) => {
                        found.push(format!("{} at {place}", self.symbol(address)))
                    }
                    (None, None) => {}
                }
            }
        }
        // Between a kernel's own functions lie long chains of inlined iterators that say nothing.
        let mut index = 0;
        found.retain(|frame| {
            index += 1;
            index == 1 || !frame.trim_start_matches('<').starts_with("core::")
        });
        if found.is_empty() && self.loader.find_symbol(address).is_some() {
            found.push(self.symbol(address));
        }
        found
    }

    fn symbol(&self, address: u64) -> String {
        let Some(symbol) = self.loader.find_symbol_info(address) else {
            return "?".to_owned();
        };
        let name = rustc_demangle::demangle(symbol.name());
        format!("{name:#}+{:#x}", address.saturating_sub(symbol.address()))
    }
}

/// A source file's path below the workspace, or below the registry's folder of its crate.
pub fn short(path: &str) -> &str {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().and_then(Path::to_str);
    if let Some(rest) = workspace.and_then(|w| path.strip_prefix(w)) {
        return rest.trim_start_matches('/');
    }
    for marker in ["/registry/src/", "/library/"] {
        if let Some((_, rest)) = path.split_once(marker) {
            return rest.split_once('/').map_or(rest, |(_, rest)| rest);
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_this_program_has_its_name_and_line() {
        let own = std::env::current_exe().unwrap();
        let symbols = Symbols::load(&own).unwrap();
        let file = std::fs::read(&own).unwrap();
        let file = object::File::parse(&file[..]).unwrap();
        let symbol = object::Object::symbols(&file)
            .find(|s| object::ObjectSymbol::name(s).is_ok_and(|n| n.contains("memory_size")))
            .unwrap();
        let frames = symbols.frames(object::ObjectSymbol::address(&symbol));
        assert!(frames[0].contains("memory_size"), "{frames:?}");
        assert!(symbols.frames(u64::MAX).is_empty());
    }

    #[test]
    fn paths_are_shown_from_where_a_reader_stands() {
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/src/main.rs");
        assert_eq!(short(own), "xtask/src/main.rs");
        assert_eq!(short("/r/registry/src/index-1/spin-0.12/src/lib.rs"), "spin-0.12/src/lib.rs");
        assert_eq!(short("/elsewhere/x.rs"), "/elsewhere/x.rs");
    }
}
