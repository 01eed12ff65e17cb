//! What both backends keep of a vCPU, and what they answer alike.

use super::tags::Tag;
use super::translations::Translations;
use super::vendor::Made;
use crate::mem::tlb::Seen;

/// What belongs to a vCPU, whatever the vendor.
#[derive(Debug)]
pub struct Common<F: 'static> {
    /// The VM's number.
    pub vm: u8,
    /// The VM's memory.
    pub translations: Translations<F>,
    /// The tag of its translations.
    pub tag: Tag,
    /// The last entry was refused, by the CPU or by the checker: there was no exit.
    pub refused: bool,
}

impl<F: 'static> Common<F> {
    /// Of a vCPU that has not run.
    pub fn new(made: Made<F>) -> Common<F> {
        let Made { vm, translations, .. } = made;
        Common { vm, translations, tag: Tag::NONE, refused: false }
    }

    /// The guest starts anew: old translations must not outlive the one that made them.
    pub fn reset(&mut self) {
        self.translations.seen = Seen::NEVER;
    }
}

/// Methods of [`Hardware`](crate::vm::Hardware) for a guest whose state has a [`Common`], and that
/// drops its translations by `flush`.
macro_rules! common_hardware {
    () => {
        #[inline(always)]
        fn tsc(&self) -> u64 {
            $crate::hw::instructions::tsc()
        }

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
