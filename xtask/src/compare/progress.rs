//! Progress of a few runs at once: moving lines on a terminal, plain ones elsewhere.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The lines of a command.
pub struct Progress {
    lines: Option<MultiProgress>,
    quiet: bool,
}

/// One line.
pub struct Line {
    name: String,
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    /// Shows progress on standard error.
    pub fn start() -> Progress {
        Progress { lines: io::stderr().is_terminal().then(MultiProgress::new), quiet: false }
    }

    /// Shows nothing.
    pub fn none() -> Progress {
        Progress { lines: None, quiet: true }
    }

    /// A line for one of the runs.
    pub fn line(&self, name: &str) -> Line {
        let bar = self.lines.as_ref().map(|lines| {
            let bar = lines.add(ProgressBar::new_spinner());
            let style = ProgressStyle::with_template("{spinner} {prefix:19} {elapsed:>4} {msg}");
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(120));
            bar
        });
        let line = Line { name: name.to_owned(), bar, quiet: self.quiet };
        if line.bar.is_none() && !line.quiet {
            eprintln!("{name}: starts");
        }
        line
    }
}

impl Line {
    /// What it does now. Only shown where it can be overwritten.
    pub fn say(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(text.to_owned());
        }
    }

    /// What it has done.
    pub fn end(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.finish_with_message(text.to_owned()),
            None if !self.quiet => eprintln!("{}: ended, {text}", self.name),
            None => {}
        }
    }
}
