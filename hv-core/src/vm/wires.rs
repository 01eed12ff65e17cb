//! The wires between a vCPU and the board of its VM: interrupts one way, their ends and the passing of
//! time the other.

use core::sync::atomic::Ordering;

use super::Vcpu;
use super::hardware::Link;
use super::post::Notice;
use crate::device::apic::{Effect, Trigger};
use crate::device::ioapic::Message;

/// How often a guest that waits for its serial port's interrupt has the line looked at, in microseconds.
const SERIAL_POLL_US: u64 = 10_000;

/// Devices are looked at no more often than this, in microseconds, but for the guest's own accesses.
const SHORTEST_US: u64 = 20;

impl Vcpu {
    /// Nanoseconds from the start of the VM to the host's TSC `host`: the time that its devices know.
    pub fn device_time(&self, host: u64) -> u64 {
        let ticks = u128::from(host.saturating_sub(self.vm.started));
        let ns = ticks.saturating_mul(1_000_000_000).checked_div(self.vm.tsc_hz.into());
        u64::try_from(ns.unwrap_or(0)).unwrap_or(u64::MAX)
    }

    /// The host's TSC at which the devices' time is `ns`, or just behind.
    fn host_time(&self, ns: u64) -> u64 {
        let ticks = u128::from(ns).saturating_mul(self.vm.tsc_hz.into()).div_ceil(1_000_000_000);
        self.vm.started.saturating_add(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// Brings the board up to the host's TSC `now`, takes what has arrived on the serial line, and
    /// delivers what comes of both.
    #[inline(never)]
    pub fn settle_board(&mut self, link: &mut dyn Link, now: u64) {
        let vm = self.vm;
        let time = self.device_time(now);
        let mut serial_due = u64::MAX;
        let mut serial = false;
        if let Some(uart) = &vm.uart {
            let mut uart = uart.lock();
            while uart.listens()
                && let Some(byte) = link.receive()
            {
                uart.receive(&[byte]);
            }
            serial = uart.interrupt();
            if uart.listens() {
                serial_due = now.saturating_add(vm.ticks(SERIAL_POLL_US));
            }
        }
        let mut board = vm.board.lock();
        board.settle(serial, time, &mut |message| self.take_message(message, link));
        let intr = board.intr();
        let due = board.due(time).map_or(u64::MAX, |ns| self.host_time(ns)).min(serial_due);
        drop(board);
        self.follow_board(intr, due, now, link);
        self.look_at_events();
    }

    /// The first vCPU looks at the board when something is due, and takes what its interrupt controllers
    /// have; another one that finds either has it look.
    #[inline(never)]
    fn follow_board(&mut self, intr: bool, due: u64, now: u64, link: &mut dyn Link) {
        let vm = self.vm;
        if self.number == 0 {
            self.extint = intr;
            self.board_due = due;
            self.spare_board_after(now);
            self.far = self.far.min(self.board_due);
            self.horizon = self.horizon.min(self.board_due);
            vm.board_due.store(self.board_due, Ordering::Relaxed);
            return;
        }
        self.board_due = u64::MAX;
        if (intr || due < vm.board_due.load(Ordering::Relaxed))
            && let Some(first) = vm.posts.first()
        {
            self.tell(first, Notice::Board, link);
        }
    }

    /// Devices are not looked at before the shortest time after the host's TSC `now` has passed: a timer that is
    /// faster than the hypervisor must not keep the guest from running.
    pub fn spare_board_after(&mut self, now: u64) {
        self.board_due = self.board_due.max(now.saturating_add(self.vm.ticks(SHORTEST_US)));
    }

    /// An interrupt message of the I/O APIC.
    #[inline(never)]
    fn take_message(&mut self, message: Message, link: &mut dyn Link) {
        if !self.distribute(&message.ipi(), message.trigger, false, link) {
            return;
        }
        self.levels_changed |= message.trigger == Trigger::Level;
        match message.deliver(&mut self.apic) {
            Effect::Nmi => self.nmi = true,
            // LINT0 brings what the PICs have; a message of this mode says no more than that.
            Effect::ExtInt => self.extint = true,
            // A vector waits in the IRR; an INIT of a pin is dropped.
            _ => {}
        }
    }

    /// The interrupt with this vector was triggered by a level, and is over.
    #[inline(never)]
    pub fn end_on_board(&mut self, vector: u8, link: &mut dyn Link) {
        let vm = self.vm;
        let mut board = vm.board.lock();
        board.end_of_interrupt(vector, &mut |message| self.take_message(message, link));
        self.look_at_events();
    }

    /// Whether an NMI waits, or something is due on the board and a pin of the I/O APIC makes NMIs.
    pub fn nmi_may_come(&self) -> bool {
        self.nmi || self.board_due != u64::MAX && self.vm.board.lock().makes_nmis()
    }

    /// The vector of the external interrupt controller, which is then in service there.
    pub fn acknowledge_extint(&mut self) -> u8 {
        let mut board = self.vm.board.lock();
        let vector = board.acknowledge();
        self.extint = board.intr();
        vector
    }

    /// Whether the external interrupt controller has an interrupt that the vCPU takes.
    pub fn extint_waits(&self) -> bool {
        self.extint && self.apic.passes_extint()
    }

    /// A read of 32 bits at an offset of the I/O APIC's page; ones where there is none.
    pub fn read_io_apic(&mut self, offset: u16) -> u32 {
        self.vm.board.lock().io_apic().map_or(u32::MAX, |io_apic| io_apic.read(offset))
    }

    /// A write there.
    pub fn write_io_apic(&mut self, offset: u16, value: u32, link: &mut dyn Link) {
        let vm = self.vm;
        let mut board = vm.board.lock();
        if let Some(io_apic) = board.io_apic() {
            for message in io_apic.write(offset, value) {
                self.take_message(message, link);
            }
        }
        // What the timer's pin waits for may have changed as well.
        self.board_due = 0;
        self.attend();
    }
}
