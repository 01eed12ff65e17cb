//! The user's terminal: raw mode, and the keyboard.

use std::io::{self, IsTerminal, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::Result;
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use crate::serial::Input;

const CTRL_A: u8 = 1;

/// The terminal without line editing and signals, until this is dropped.
pub struct RawMode(Option<Termios>);

impl RawMode {
    /// Does nothing if standard input is no terminal.
    pub fn enter() -> Result<RawMode> {
        let stdin = io::stdin();
        if !stdin.is_terminal() {
            return Ok(RawMode(None));
        }
        let before = tcgetattr(&stdin)?;
        let mut raw = before.clone();
        cfmakeraw(&mut raw);
        // A guest's lines may end in a bare newline.
        raw.output_flags |= OutputFlags::OPOST | OutputFlags::ONLCR;
        tcsetattr(&stdin, SetArg::TCSANOW, &raw)?;
        Ok(RawMode(Some(before)))
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = &self.0 {
            // There is no second way to give the terminal back.
            let _ = tcsetattr(io::stdin(), SetArg::TCSANOW, before);
        }
    }
}

/// A thread that passes on what is typed.
pub struct Keyboard {
    leave: Arc<AtomicBool>,
}

impl Keyboard {
    /// Types into VM 0 from now on.
    pub fn start(input: Input) -> Keyboard {
        let mut input = input.by_hand();
        let leave = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&leave);
        thread::spawn(move || {
            let mut keys = Keys { escape: io::stdin().is_terminal(), pending: false };
            let mut buffer = [0; 256];
            while let Ok(length) = io::stdin().read(&mut buffer) {
                if length == 0 {
                    break;
                }
                let (typed, leaves) = keys.filter(&buffer[..length]);
                if input.send(0, &typed).is_err() {
                    break;
                }
                if leaves {
                    flag.store(true, Ordering::Relaxed);
                    break;
                }
            }
        });
        Keyboard { leave }
    }

    /// Whether the user wants to leave.
    pub fn leaves(&self) -> bool {
        self.leave.load(Ordering::Relaxed)
    }
}

struct Keys {
    escape: bool,
    pending: bool,
}

impl Keys {
    /// What is meant for the guest, and whether Ctrl-A x was typed.
    fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut typed = Vec::new();
        for &byte in bytes {
            if std::mem::take(&mut self.pending) {
                match byte {
                    b'x' => return (typed, true),
                    CTRL_A => typed.push(CTRL_A),
                    other => typed.extend([CTRL_A, other]),
                }
            } else if self.escape && byte == CTRL_A {
                self.pending = true;
            } else {
                typed.push(byte);
            }
        }
        (typed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ctrl_a_x_leaves_even_when_typed_in_two_reads() {
        let mut keys = Keys { escape: true, pending: false };
        assert_eq!(keys.filter(b"ab\x01"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(b"xcd"), (Vec::new(), true));
    }

    #[test]
    fn other_keys_reach_the_guest() {
        let mut keys = Keys { escape: true, pending: false };
        assert_eq!(keys.filter(b"\x01\x01\x01y"), (b"\x01\x01y".to_vec(), false));
        let mut piped = Keys { escape: false, pending: false };
        assert_eq!(piped.filter(b"\x01x"), (b"\x01x".to_vec(), false));
    }
}
