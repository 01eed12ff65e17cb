//! Turns the bytes that a machine puts out into events and into the lines of a log file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc::Sender;

use anyhow::Result;
use hv_core::host::link::{Decoder, HYPERVISOR, MAX_PAYLOAD, Step};

use crate::event::{Content, Event, content};
use crate::hvlog::{self, Strings};
use crate::logfile::Log;
use crate::report;
use crate::stat;
use crate::symbols::Symbols;

/// What is known of the images that run, to make their output readable.
#[derive(Clone, Debug, Default)]
pub struct Images {
    /// The hypervisor's unstripped ELF file; `None` when a guest runs bare.
    pub hypervisor: Option<PathBuf>,
    /// Name and ELF file of each VM, in the order of the bundle.
    pub vms: Vec<(String, PathBuf)>,
}

const MACHINE: &str = "machine";

/// Reads until the machine closes its output, and sends what it says.
pub fn pump(mut from: impl Read, images: &Images, log: File, events: &Sender<Event>) -> Result<()> {
    let mut log = Log::new(log);
    let strings = images.hypervisor.as_deref().map(Strings::load).transpose()?;
    let mut reader = Reader {
        images,
        lines: strings.as_ref().map(Strings::decoder),
        log: &mut log,
        symbols: BTreeMap::new(),
    };
    let mut decoder = Box::new(Decoder::<MAX_PAYLOAD>::default());
    let mut buffer = vec![0; 64 << 10];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => continue,
            // A terminal reports an error, not an end, when its other side closes.
            Err(_) => break,
        };
        let mut happened = Vec::new();
        if images.hypervisor.is_none() {
            reader.console(0, &buffer[..length], &mut happened);
        } else {
            let mut stray = Vec::new();
            for &byte in &buffer[..length] {
                match decoder.push(byte) {
                    Step::Partial => {}
                    Step::Stray(byte) => stray.push(byte),
                    Step::Frame(frame) => {
                        reader.stray(&mut stray, &mut happened);
                        reader.frame(content(&frame), &mut happened);
                    }
                }
            }
            reader.stray(&mut stray, &mut happened);
        }
        for event in happened {
            // Nobody listens any more, but the log file still wants the rest.
            let _ = events.send(event);
        }
    }
    drop(reader);
    for (speaker, line) in log.finish()? {
        if speaker == MACHINE {
            let _ = events.send(Event::Machine(line));
        }
    }
    Ok(())
}

struct Reader<'a> {
    images: &'a Images,
    lines: Option<hvlog::Decoder<'a>>,
    log: &'a mut Log,
    symbols: BTreeMap<Option<u8>, Option<Symbols>>,
}

impl Reader<'_> {
    fn stray(&mut self, bytes: &mut Vec<u8>, happened: &mut Vec<Event>) {
        if !bytes.is_empty() {
            let lines = self.log.bytes(MACHINE, bytes);
            happened.extend(lines.into_iter().map(Event::Machine));
            bytes.clear();
        }
    }

    fn console(&mut self, vm: u8, bytes: &[u8], happened: &mut Vec<Event>) {
        let speaker = self.name(vm);
        self.log.bytes(&speaker, bytes);
        happened.push(Event::Console { vm, bytes: bytes.to_vec() });
    }

    fn frame(&mut self, content: Result<Content<'_>, &'static str>, happened: &mut Vec<Event>) {
        match content {
            Ok(Content::Log(bytes)) => {
                let lines = self.lines.as_mut().map(|l| l.push(bytes)).unwrap_or_default();
                for line in lines {
                    self.log.line("hypervisor", &line.to_string());
                    happened.push(Event::Log(line));
                }
            }
            Ok(Content::Console(vm, bytes)) => self.console(vm, bytes, happened),
            Ok(Content::Mark(vm, section)) => {
                let phase =
                    if section.mark.phase == pv_abi::stat::BEGIN { "begins" } else { "ends" };
                let speaker = self.name(vm);
                self.log.line(
                    &speaker,
                    &format!("section {} {phase} at {}", section.mark.id, section.mark.tsc),
                );
                happened.push(Event::Mark { vm, section });
            }
            Ok(Content::Stat(vm, stat)) => {
                self.log.line(&self.name(vm), &stat::exits(&stat));
                happened.push(Event::Stat { vm, stat });
            }
            Ok(Content::Top(vm, entries)) => {
                self.log.line(&self.name(vm), &stat::top(&entries));
                happened.push(Event::Top { vm, entries });
            }
            Ok(Content::End(vm, end, message)) => {
                let name = self.name(vm);
                let text = report::end(vm, &name, &end, &message, self.symbols(Some(vm)));
                self.log.line("end", &text);
                happened.push(Event::End { vm, cause: end.cause, code: end.code, text });
            }
            Ok(Content::Panic(panic, message)) => {
                let text = report::panic(&panic, &message, self.symbols(None));
                self.log.line("panic", &text);
                happened.push(Event::Panic { text });
            }
            Ok(Content::Done) => {
                self.log.line("hypervisor", "[done]");
                happened.push(Event::Done);
            }
            Err(what) => {
                let text = format!("a frame does not hold {what}");
                self.log.line("link", &text);
                happened.push(Event::Malformed(text));
            }
        }
    }

    fn name(&self, vm: u8) -> String {
        match self.images.vms.get(usize::from(vm)) {
            _ if vm == HYPERVISOR => "hypervisor".to_owned(),
            Some((name, _)) => name.clone(),
            None => format!("vm{vm}"),
        }
    }

    /// The symbols of a VM's guest or of the hypervisor, read when they are first needed.
    fn symbols(&mut self, vm: Option<u8>) -> Option<&Symbols> {
        let images = self.images;
        let load = || {
            let path = match vm {
                None => images.hypervisor.as_deref(),
                Some(vm) => images.vms.get(usize::from(vm)).map(|(_, path)| path.as_path()),
            };
            Symbols::load(path?).ok()
        };
        self.symbols.entry(vm).or_insert_with(load).as_ref()
    }
}

#[cfg(test)]
mod tests;
