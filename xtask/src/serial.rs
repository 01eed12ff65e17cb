//! The way to type into a run: the serial port, through a pseudo-terminal where it must be a device.

use std::fs::File;
use std::io::{Read, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hv_core::host::link::{Channel, Header};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use zerocopy::IntoBytes;

/// Between two pieces of what is typed: long enough for an emulator on a busy computer.
const PAUSE: Duration = Duration::from_millis(300);
/// The same where somebody types, who sees what comes of it.
const BY_HAND: Duration = Duration::from_millis(40);

/// The way to type into a run.
pub struct Input {
    to: Box<dyn Write + Send>,
    framed: bool,
    pause: Duration,
    /// When the last piece was sent.
    sent: Option<Instant>,
}

impl Input {
    /// `framed`: a header says before each piece for which VM it is.
    pub fn new(to: Box<dyn Write + Send>, framed: bool) -> Input {
        Input { to, framed, pause: PAUSE, sent: None }
    }

    /// The same for somebody who types.
    pub fn by_hand(self) -> Input {
        Input { pause: BY_HAND, ..self }
    }

    /// Types bytes into the console of a VM.
    pub fn send(&mut self, vm: u8, bytes: &[u8]) -> Result<()> {
        // The receiver of a UART holds 16 bytes, a header takes 8, and nobody takes them out before the
        // guest looks, which Linux does every 20 ms where its UART has no interrupt.
        let piece = if self.framed { 8 } else { 256 };
        for piece in bytes.chunks(piece) {
            if self.framed {
                if let Some(sent) = self.sent {
                    thread::sleep(self.pause.saturating_sub(sent.elapsed()));
                }
                let header = Header::new(vm, Channel::Console, u16::try_from(piece.len())?);
                self.to.write_all(header.as_bytes())?;
            }
            self.to.write_all(piece)?;
            self.sent = Some(Instant::now());
        }
        self.to.flush().context("the machine takes no input")
    }
}

/// A terminal that passes every byte as it is.
pub fn raw_terminal() -> Result<nix::pty::OpenptyResult> {
    let pair = openpty(None, None).context("cannot open a pseudo-terminal")?;
    let mut mode = tcgetattr(&pair.slave)?;
    cfmakeraw(&mut mode);
    tcsetattr(&pair.slave, SetArg::TCSANOW, &mode)?;
    Ok(pair)
}

/// Reads what comes out of the serial port and drops it, so that the port never blocks.
pub fn swallow(mut from: File) {
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        while from.read(&mut buffer).is_ok_and(|length| length > 0) {}
    });
}
