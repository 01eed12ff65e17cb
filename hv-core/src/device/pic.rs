//! The two 8259A interrupt controllers of a PC (Intel, 8259A data sheet): the slave's output is line
//! 2 of the master.
//!
//! Beside them stand the two edge/level control registers (ELCR) of later chipsets, which make
//! single lines level-triggered; bit LTIM of ICW1 does that to all lines of a chip.
//!
//! [`Pics`] knows levels of lines and accesses to registers. As the data sheet has it, a request must
//! stay until it is acknowledged: an edge whose line falls before that is gone, and the CPU that
//! comes for it gets the spurious vector of line 7.

mod chip;
#[cfg(test)]
mod tests;

use chip::{Chip, Role};

/// The line of the master that the slave is wired to; devices cannot have it.
pub const CASCADE: u8 = 2;

/// What nobody drives reads as ones.
const FLOATING: u8 = 0xff;

/// A register of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Register {
    /// The master at A0 = 0: ICW1, OCW2, OCW3; IRR, ISR or poll.
    MasterCommand,
    /// The master at A0 = 1: ICW2 to ICW4; the mask.
    MasterData,
    /// The slave at A0 = 0.
    SlaveCommand,
    /// The slave at A0 = 1.
    SlaveData,
    /// Which of lines 0 to 7 are level-triggered.
    MasterElcr,
    /// Which of lines 8 to 15 are level-triggered.
    SlaveElcr,
}

/// The state of the pair.
#[derive(Clone, Debug)]
pub struct Pics {
    master: Chip,
    slave: Chip,
}

impl Pics {
    /// The pair after power-up. A chip requests nothing before it is initialized.
    pub const fn new() -> Pics {
        Pics { master: Chip::new(Role::Master), slave: Chip::new(Role::Slave) }
    }

    /// A read of `register`. In poll mode it acknowledges a request.
    pub fn read(&mut self, register: Register) -> u8 {
        let value = match register {
            Register::MasterCommand => self.master.read_command(),
            Register::MasterData => self.master.read_data(),
            Register::SlaveCommand => self.slave.read_command(),
            Register::SlaveData => self.slave.read_data(),
            Register::MasterElcr => self.master.elcr(),
            Register::SlaveElcr => self.slave.elcr(),
        };
        self.cascade();
        value
    }

    /// A write of `value` to `register`.
    pub fn write(&mut self, register: Register, value: u8) {
        match register {
            Register::MasterCommand => self.master.write_command(value),
            Register::MasterData => self.master.write_data(value),
            Register::SlaveCommand => self.slave.write_command(value),
            Register::SlaveData => self.slave.write_data(value),
            Register::MasterElcr => self.master.set_elcr(value),
            Register::SlaveElcr => self.slave.set_elcr(value),
        }
        self.cascade();
    }

    /// A device drives line `irq`. [`CASCADE`] and numbers above 15 are nobody's and ignored.
    pub fn set_line(&mut self, irq: u8, level: bool) {
        match irq {
            CASCADE => {}
            0..=7 => self.master.set_line(irq, level),
            8..=15 => {
                self.slave.set_line(irq & 7, level);
                self.cascade();
            }
            _ => {}
        }
    }

    /// Whether an edge on line 0, the timer's, asks for the CPU.
    pub fn listens_to_timer(&self) -> bool {
        self.master.listens(0)
    }

    /// INTR: whether the master asks the CPU to come.
    #[inline]
    pub fn output(&self) -> bool {
        self.master.output()
    }

    /// The CPU's two INTA cycles: returns the vector, and its request is in service. If the request
    /// has gone meanwhile, this is the vector of line 7 of the chip that is asked, and nothing comes
    /// into service there.
    pub fn acknowledge(&mut self) -> u8 {
        let line = self.master.begin_acknowledge();
        let vector = if !self.master.cascades(line) {
            self.master.vector(line)
        } else if self.slave.is_addressed(line) {
            let line = self.slave.begin_acknowledge();
            self.slave.end_acknowledge(line);
            self.slave.vector(line)
        } else {
            FLOATING
        };
        self.master.end_acknowledge(line);
        self.cascade();
        vector
    }

    /// The slave's output reaches the master. It goes down during an acknowledgement, so that
    /// another request of the slave is a new edge.
    fn cascade(&mut self) {
        if self.slave.take_acknowledged() {
            self.master.set_line(CASCADE, false);
        }
        self.master.set_line(CASCADE, self.slave.output());
    }
}

impl Default for Pics {
    fn default() -> Pics {
        Pics::new()
    }
}
