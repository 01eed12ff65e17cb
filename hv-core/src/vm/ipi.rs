//! Interrupts between the vCPUs of a VM, and what else one tells another.

use super::hardware::Link;
use super::post::{Mail, Notice, Notices, Place, Post};
use super::{Leave, Vcpu};
use crate::device::apic::{DeliveryMode, Effect, Ipi, Trigger};
use crate::host::report::Cause;

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

impl Vcpu {
    /// Leaves a notice for another vCPU, and fetches it if need be.
    pub fn tell(&mut self, post: &Post, notice: Notice, link: &mut impl Link) {
        let cpu = match post.leave(notice) {
            Place::Queued => return,
            Place::Running(cpu) => cpu,
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
    pub fn tell_others(&mut self, notice: Notice, link: &mut impl Link) {
        let posts = self.vm.posts;
        for post in posts.iter().filter(|post| !core::ptr::eq(*post, self.post)) {
            self.tell(post, notice, link);
        }
    }

    /// Hands an interrupt to those of the VM that it is for, and says whether this vCPU is one of them.
    /// `sender` if it comes from this one's own APIC.
    pub fn distribute(
        &mut self,
        ipi: &Ipi,
        trigger: Trigger,
        sender: bool,
        link: &mut impl Link,
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

    /// Whether the CPU that it is on has been told something.
    #[inline]
    pub fn has_mail(&self) -> bool {
        self.mails.get(usize::from(self.cpu)).is_some_and(Mail::waits)
    }

    /// Takes what others have left.
    ///
    /// # Errors
    ///
    /// The vCPU leaves: its VM stops, or it was sent INIT.
    pub fn take_post(&mut self) -> Result<(), Leave> {
        let Some(taken) = self.post.take() else { return Ok(()) };
        if self.vm.stop.then().is_some() {
            return Err(Leave::Stopped);
        }
        if taken.notices.contains(Notices::INIT) {
            self.startup = taken.startup();
            return Err(self.init());
        }
        if self.waits_for_startup {
            self.startup = taken.startup();
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
        Ok(())
    }

    /// INIT has reached the vCPU. The first is where the VM begins: there is nothing behind its reset.
    pub fn init(&self) -> Leave {
        if self.number == 0 {
            let message =
                "the first vCPU was sent INIT, which leads to a firmware that is not there";
            return Leave::ended(Cause::HaltedForEver, 0, message);
        }
        Leave::Init
    }

    /// Brings the vCPU to its state after INIT, in which it waits for a startup IPI; the backend's part
    /// is the caller's. Interrupts that wait are gone.
    pub fn wait_for_startup(&mut self) {
        self.take_back_eoi();
        self.unregister();
        self.apic.init();
        self.post.set_mode(self.apic.mode());
        self.set_long_mode(false);
        self.nmi = false;
        self.halted_for_nmi = false;
        self.levels_changed = true;
        self.delayed = None;
        self.waits_for_startup = true;
    }

    /// What an APIC of this vCPU's own sends.
    pub fn send(&mut self, ipi: &Ipi, link: &mut impl Link) -> Effect {
        if self.distribute(ipi, Trigger::Edge, true, link) {
            self.apic.accept(ipi)
        } else {
            Effect::None
        }
    }
}

#[cfg(test)]
mod tests;
