//! What both backends keep of a vCPU, and what they answer alike.

use super::live::Live;
use super::tags::Tag;
use super::translations::Translations;
use super::vendor::{Made, Visit};
use crate::mem::tlb::Seen;
use crate::vm::Vcpu;
use crate::vm::hardware::Backend;

/// What belongs to a vCPU, whatever the vendor.
#[derive(Debug)]
pub struct Common {
    /// The VM's number.
    pub vm: u8,
    /// The VM's memory.
    pub translations: Translations,
    /// What stays in the CPU while it runs.
    pub live: Live,
    /// That is in the CPU, where it stays until another vCPU needs its place.
    pub loaded: bool,
    /// The tag of its translations.
    pub tag: Tag,
    /// The last entry was refused, by the CPU or by the checker: there was no exit.
    pub refused: bool,
}

impl Common {
    /// Of a vCPU that has not run.
    pub fn new(made: Made) -> Common {
        let Made { vm, translations, rdtscp, extended, .. } = made;
        // SAFETY: what a vCPU is made from vouches for it.
        let live = unsafe { Live::new(rdtscp, extended) };
        Common { vm, translations, live, loaded: false, tag: Tag::NONE, refused: false }
    }

    /// Takes what stays in the CPU from there, and says whether it was there. `changes`: the guest may have set XCR0
    /// without an exit.
    #[inline]
    pub fn put_away(&mut self, vcpu: &mut Vcpu, changes: bool) -> bool {
        let loaded = core::mem::take(&mut self.loaded);
        if loaded {
            vcpu.xcr0 = self.live.save(vcpu.xcr0, vcpu.xcr0_may, changes);
        }
        loaded
    }

    /// The guest starts anew: old translations must not outlive the one that made them.
    pub fn reset(&mut self) {
        self.translations.seen = Seen::NEVER;
    }
}

/// A guest with a [`Common`].
pub trait HasCommon: Backend {
    /// That.
    fn common(&mut self) -> &mut Common;
}

/// Does what is to be done with a guest that is on this CPU but for what any vendor leaves in the CPU.
#[inline]
pub fn on_cpu<T: Visit>(vcpu: &mut Vcpu, guest: &mut impl HasCommon, visit: T) -> T::Answer {
    // What setting up costs is no exit's.
    guest.set_counts((vcpu.info.vmreads, vcpu.info.vmwrites));
    let common = guest.common();
    if !core::mem::replace(&mut common.loaded, true) {
        common.live.load(vcpu.xcr0, vcpu.xcr0_may);
    }
    visit.visit(vcpu, guest)
}

/// Methods of [`Hardware`](crate::vm::Hardware) for a guest whose state has a [`Common`], and that
/// drops its translations by `flush`.
macro_rules! common_hardware {
    () => {
        fn set_xcr0(&mut self, value: u64) {
            // SAFETY: the caller has checked the value against what the CPU has, and CR4.OSXSAVE is
            // set wherever XSAVE exists.
            unsafe { $crate::hw::live::set_xcr0(value) };
        }

        fn show_info(&mut self, show: bool) -> Option<$crate::mem::tlb::MustFlush> {
            self.state.common.translations.show_info(show)
        }

        fn sync_translations(&mut self, generation: &$crate::mem::tlb::Generation) {
            if self.state.common.translations.seen.behind(generation) {
                self.flush();
            }
        }
    };
}

pub(super) use common_hardware;
