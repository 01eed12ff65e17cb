//! Interrupts between the vCPUs of a VM, and what else one tells another.

use super::hardware::{Hardware, Link};
use super::port::End;
use super::post::{Mail, Notice, Notices, Place, Post};
use super::vcpu::Halt;
use super::{Leave, Vcpu};
use crate::device::apic::{DeliveryMode, Effect, Ipi, Trigger};
use crate::host::report::Cause;

/// The part of a slice that a turn lasts at least, if the vCPU does not end it: who is told something on the same CPU
/// waits so long. Without it a vCPU that tells another one something again and again is stopped each time, and the
/// other one finds one thing to do, and not all that has come together.
const SHORTEST_TURN: u64 = 64;

impl Notice {
    /// What an APIC that an interrupt is for is told of it; `None` for what nobody takes.
    fn of(ipi: &Ipi, trigger: Trigger) -> Option<Notice> {
        Some(match ipi.mode {
            DeliveryMode::Fixed | DeliveryMode::LowestPriority => {
                Notice::Vector(ipi.vector, trigger)
            }
            DeliveryMode::Nmi => Notice::Nmi,
            DeliveryMode::Init => Notice::Init,
            DeliveryMode::Startup => Notice::Startup(ipi.vector),
            DeliveryMode::Smi | DeliveryMode::ExtInt | DeliveryMode::Reserved => return None,
        })
    }
}

/// A flush that vCPUs of one VM were asked for. The protocol is that of [`Post::ask_flush`].
pub struct Flush<'a> {
    posts: &'a [&'static Post],
    asked: [u64; 64],
    missing: u64,
}

impl<'a> Flush<'a> {
    /// Asks vCPUs, a bit of the mask for each, and interrupts those that run, but for one on the CPU `own`.
    #[inline(never)]
    pub fn ask(
        posts: &'a [&'static Post],
        mask: u64,
        mails: &[Mail],
        own: Option<u16>,
        link: &mut dyn Link,
    ) -> Flush<'a> {
        let mut flush = Flush { posts, asked: [0; 64], missing: 0 };
        for ((post, asked), bit) in posts.iter().zip(&mut flush.asked).zip(0u32..) {
            if mask >> bit & 1 == 0 {
                continue;
            }
            *asked = post.ask_flush();
            let runs = post.runs_unflushed(*asked);
            flush.missing |= u64::from(runs.is_some()) << bit;
            if let Some(cpu) = runs
                && Some(cpu) != own
                && let Some(mail) = mails.get(usize::from(cpu))
            {
                link.interrupt(mail.apic_id());
            }
        }
        flush
    }

    /// Those of whom it is not known that they have done it.
    #[inline(never)]
    pub fn missing(&mut self) -> u64 {
        for ((post, &asked), bit) in self.posts.iter().zip(&self.asked).zip(0u32..) {
            if self.missing >> bit & 1 != 0 && post.runs_unflushed(asked).is_none() {
                self.missing &= !(1 << bit);
            }
        }
        self.missing
    }
}

impl Vcpu {
    /// Leaves a notice for another vCPU, and fetches it if need be.
    #[inline(never)]
    pub fn tell(&mut self, post: &Post, notice: Notice, link: &mut dyn Link) {
        self.fetch(post.leave(notice), link);
    }

    /// Has another vCPU that is there look at its post.
    fn fetch(&mut self, place: Place, link: &mut dyn Link) {
        let cpu = match place {
            Place::Queued => return,
            Place::Running(cpu) | Place::Resting(cpu) => cpu,
            Place::Asleep { cpu, slot } => {
                if let Some(mail) = self.mails.get(usize::from(cpu)) {
                    mail.put(slot);
                }
                cpu
            }
        };
        if cpu == self.cpu {
            self.attend();
        } else if let Some(mail) = self.mails.get(usize::from(cpu)) {
            link.interrupt(mail.apic_id());
        }
    }

    /// Leaves a notice for every other vCPU of the VM.
    #[inline(never)]
    pub fn tell_others(&mut self, notice: Notice, link: &mut dyn Link) {
        let posts = self.vm.posts;
        for post in posts.iter().filter(|post| !core::ptr::eq(**post, self.post)) {
            self.tell(post, notice, link);
        }
    }

    /// Hands an interrupt to those of the VM that it is for, and says whether this vCPU is one of them.
    /// `sender` if it comes from this one's own APIC.
    #[inline(never)]
    pub fn distribute(
        &mut self,
        ipi: &Ipi,
        trigger: Trigger,
        sender: bool,
        link: &mut dyn Link,
    ) -> bool {
        let (posts, own) = (self.vm.posts, self.post);
        let is_own = |post: &Post| core::ptr::eq(post, own);
        let addressed = posts.iter().filter(|post| post.is_addressed(ipi, sender && is_own(post)));
        if ipi.mode == DeliveryMode::LowestPriority {
            return match addressed.min_by_key(|post| post.priority()) {
                Some(post) if is_own(post) => true,
                Some(post) => {
                    self.tell(post, Notice::Vector(ipi.vector, trigger), link);
                    false
                }
                None => false,
            };
        }
        let mut for_this = false;
        for post in addressed {
            if is_own(post) {
                for_this = true;
            } else if let Some(notice) = Notice::of(ipi, trigger) {
                self.tell(post, notice, link);
            }
        }
        for_this
    }

    /// Raises a port of this VM or another.
    #[inline(never)]
    pub fn raise(&mut self, end: &End, link: &mut impl Link) {
        self.fetch(end.post.raise(end.port), link);
    }

    /// Ends the wait of a vCPU, or its next one.
    pub fn kick(&mut self, post: &Post, link: &mut dyn Link) {
        self.fetch(post.kick(), link);
    }

    /// Does the flush that others have asked for, if they have.
    ///
    /// It is good for nested mappings as well, which the flush of the guest's own translations need not
    /// reach. Who takes one away publishes that and then asks, so whoever finds that it is asked finds the
    /// generation grown, if it looks in this order; the look before an entry came earlier and may not have.
    #[inline]
    pub fn settle_flush(&mut self, hardware: &mut impl Hardware) {
        if let Some(asked) = self.post.flush_owed() {
            self.flush(asked, hardware);
        }
    }

    #[inline(never)]
    fn flush(&mut self, asked: u64, hardware: &mut impl Hardware) {
        hardware.sync_translations(&self.vm.generation);
        hardware.flush_guest(None);
        self.post.flushed(asked);
    }

    /// Flushes the translations of vCPUs, a bit of the mask for each, and returns those of whom it is not
    /// known at the host's TSC `until` that they have done it.
    #[inline(never)]
    pub fn flush_all(
        &mut self,
        posts: &[&'static Post],
        mask: u64,
        until: u64,
        hardware: &mut impl Hardware,
    ) -> u64 {
        let mut flush = Flush::ask(posts, mask, self.mails, Some(self.cpu), hardware);
        loop {
            // Two may ask each other, and this may be one of those that it asks.
            self.settle_flush(hardware);
            let missing = flush.missing();
            if missing == 0 || hardware.tsc() >= until {
                return missing;
            }
            core::hint::spin_loop();
        }
    }

    /// Whether the CPU that it is on has been told something.
    #[inline]
    pub fn has_mail(&self) -> bool {
        self.mails.get(usize::from(self.cpu)).is_some_and(Mail::waits)
    }

    /// The host's TSC at which it makes way for those that have been told something on its CPU; `u64::MAX` if there are
    /// none.
    pub fn makes_way_at(&self) -> u64 {
        if self.has_mail() {
            self.began.saturating_add(self.vm.slice.wrapping_div(SHORTEST_TURN))
        } else {
            u64::MAX
        }
    }

    /// Takes what others have left.
    ///
    /// # Errors
    ///
    /// The vCPU leaves: its VM stops, or it was sent INIT.
    #[inline(never)]
    pub fn take_post(&mut self) -> Result<(), Leave> {
        let Some(taken) = self.post.take() else { return Ok(()) };
        if self.vm.stop.then().is_some() {
            return Err(Leave::Stopped);
        }
        if taken.notices.contains(Notices::INIT) {
            self.startup = self.post.startup(&taken);
            return Err(self.init());
        }
        if self.waits_for_startup {
            self.startup = self.post.startup(&taken);
            return Ok(());
        }
        for (word, (mut vectors, levels)) in
            (0u8..).zip(taken.vectors.into_iter().zip(taken.levels))
        {
            while let Some(bit) = super::post::lowest(&mut vectors) {
                let level = levels >> bit & 1 != 0;
                let trigger = if level { Trigger::Level } else { Trigger::Edge };
                self.levels_changed |= level;
                // It is looked for before the next entry.
                let _ = self.apic.post(word << 6 | bit as u8, trigger);
            }
        }
        self.nmi |= taken.notices.contains(Notices::NMI);
        if taken.notices.contains(Notices::BOARD) {
            self.board_due = 0;
        }
        if taken.notices.contains(Notices::EVENT) {
            self.deliver_events();
        }
        Ok(())
    }

    /// INIT has reached the vCPU. The first is where the VM begins: there is nothing behind its reset.
    pub fn init(&mut self) -> Leave {
        if self.number == 0 {
            let message =
                "the first vCPU was sent INIT, which leads to a firmware that is not there";
            return self.ends(Cause::HaltedForEver, 0, message);
        }
        Leave::Init
    }

    /// Brings the vCPU to its state after INIT, in which it waits for a startup IPI; the backend's part
    /// is the caller's. Interrupts that wait are gone.
    #[inline(never)]
    pub fn wait_for_startup(&mut self) {
        self.take_back_eoi();
        self.unregister();
        self.apic.init();
        self.post.set_mode(self.apic.mode());
        self.set_long_mode(false);
        self.nmi = false;
        self.halt = Halt::Interrupt;
        self.levels_changed = true;
        self.delayed = None;
        self.post.forget();
        self.set_waits_for_startup(true);
    }

    /// What an APIC of this vCPU's own sends.
    #[inline(never)]
    pub fn send(&mut self, ipi: &Ipi, link: &mut dyn Link) -> Effect {
        if self.distribute(ipi, Trigger::Edge, true, link) {
            self.apic.accept(ipi)
        } else {
            Effect::None
        }
    }
}

#[cfg(test)]
mod tests;
