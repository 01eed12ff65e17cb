//! The guest's own page tables as the CPU walks them: rights, page faults, accessed and dirty bits
//! (SDM vol. 3, Paging).

use super::guest::GuestMemory;
use super::walk::{ADDRESS, CR0_PG, CR4_PAE, CR4_PSE, LARGE, PRESENT, Paging};

#[cfg(test)]
mod tests;

const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const NO_EXECUTE: u64 = 1 << 63;

const CR0_WP: u64 = 1 << 16;
const CR4_SMEP: u64 = 1 << 20;
const CR4_SMAP: u64 = 1 << 21;
const CR4_PKE: u64 = 1 << 22;

/// What decides whether an access is allowed.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How addresses are translated.
    pub paging: Paging,
    /// EFER.NXE.
    pub no_execute: bool,
    /// The privilege level is 3.
    pub user: bool,
    /// RFLAGS.AC: the supervisor may use user pages in spite of SMAP.
    pub user_pages: bool,
    /// PKRU; it counts only under CR4.PKE.
    pub keys: u32,
    /// Bits of physical addresses.
    pub physical_bits: u8,
    /// The page-directory pointers of PAE paging, where the CPU keeps them.
    pub pointers: Option<[u64; 4]>,
}

/// What an instruction does at an address. The bits are those of a page fault's error code, but for
/// [`Access::IMPLICIT`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access(u32);

impl Access {
    /// A load.
    pub const READ: Access = Access(0);
    /// A store, or a load that a store to the same place follows.
    pub const WRITE: Access = Access(1 << 1);
    /// An instruction is fetched.
    pub const FETCH: Access = Access(1 << 4);
    /// A load from a descriptor table: the supervisor's, whatever the privilege level.
    pub const IMPLICIT: Access = Access(1 << 31);
    /// The store of a descriptor's accessed bit.
    pub const IMPLICIT_WRITE: Access = Access(1 << 31 | 1 << 1);

    /// Whether it stores.
    pub const fn writes(self) -> bool {
        self.0 & Access::WRITE.0 != 0
    }
}

/// Why there is no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoTranslation {
    /// A page fault with this error code.
    Fault(u32),
    /// Somebody else kept changing the tables: the instruction is tried again.
    Busy,
}

/// How often a walk starts again because an entry changed under it.
const TRIES: u32 = 8;

/// Translates a linear address for an access, and marks the entries that are used. Tables that are
/// not in RAM have ones everywhere.
///
/// # Errors
///
/// See [`NoTranslation`].
pub fn translate(
    memory: &GuestMemory,
    rules: &Rules,
    linear: u64,
    access: Access,
) -> Result<u64, NoTranslation> {
    if rules.paging.cr0 & CR0_PG == 0 {
        return Ok(linear & 0xffff_ffff);
    }
    let walk = Walk { memory, rules, linear, access };
    (0..TRIES).find_map(|_| walk.attempt().transpose()).unwrap_or(Err(NoTranslation::Busy))
}

struct Walk<'a> {
    memory: &'a GuestMemory,
    rules: &'a Rules,
    linear: u64,
    access: Access,
}

/// An entry that is used, and where it is.
#[derive(Clone, Copy, Default)]
struct Used {
    at: u64,
    entry: u64,
    leaf: bool,
}

impl Walk<'_> {
    fn has(&self, access: Access) -> bool {
        self.access.0 & access.0 != 0
    }

    fn wide(&self) -> bool {
        self.rules.paging.cr4 & CR4_PAE != 0
    }

    fn long(&self) -> bool {
        self.rules.paging.long_mode
    }

    /// Bytes of an entry.
    fn width(&self) -> u8 {
        if self.wide() { 8 } else { 4 }
    }

    fn user(&self) -> bool {
        self.rules.user && !self.has(Access::IMPLICIT)
    }

    /// The entry for the linear address in a table whose entries map `1 << shift` bytes each.
    fn read(&self, table: u64, shift: u32) -> Used {
        let (mask, scale) = if self.wide() { (0x1ff, 3) } else { (0x3ff, 2) };
        let at = table.wrapping_add((self.linear >> shift & mask) << scale);
        let ones = if self.wide() { u64::MAX } else { 0xffff_ffff };
        Used { at, entry: self.memory.load(at, self.width()).unwrap_or(ones), leaf: false }
    }

    /// One walk; `None` if an entry has changed before it could be marked.
    fn attempt(&self) -> Result<Option<u64>, NoTranslation> {
        let Paging { cr3, cr4, .. } = self.rules.paging;
        let (mut table, mut shift, bits) = match (self.long(), self.wide()) {
            (true, _) => (cr3 & ADDRESS, 39, 9),
            (_, true) => (self.pointer(cr3)? & ADDRESS, 21, 9),
            _ => (cr3 & 0xffff_f000, 22, 10),
        };
        let mut used = [Used::default(); 4];
        let (mut all, mut any, mut last) = (u64::MAX, 0, 0);
        for slot in &mut used {
            *slot = self.read(table, shift);
            last = slot.entry;
            if last & PRESENT == 0 {
                return Err(self.fault(0));
            }
            let large = last & LARGE != 0
                && (21..=30).contains(&shift)
                && (self.wide() || cr4 & CR4_PSE != 0);
            if last & self.reserved(shift, large) != 0 {
                return Err(self.fault(PRESENT as u32 | 1 << 3));
            }
            all &= last;
            any |= last;
            if large || shift == 12 {
                slot.leaf = true;
                break;
            }
            table = last & if self.wide() { ADDRESS } else { 0xffff_f000 };
            shift = shift.wrapping_sub(bits);
        }
        self.check(all, any & NO_EXECUTE != 0, last >> 59 & 15)?;
        Ok(self.mark(&used).then(|| self.address(last, shift)))
    }

    /// The page-directory pointer of PAE paging, which has no rights.
    fn pointer(&self, cr3: u64) -> Result<u64, NoTranslation> {
        /// Bits 2:1 and 8:5 but for 5: QEMU 7.2, which reads pointers from memory as AMD's CPUs do, marks
        /// them as accessed there.
        const RESERVED: u64 = 0x1c6;
        let kept = self.rules.pointers.as_ref();
        let kept = kept.and_then(|p| p.get((self.linear >> 30 & 3) as usize)).copied();
        let pointer = kept.unwrap_or_else(|| {
            let at = cr3 & 0xffff_ffe0 | self.linear >> 27 & 0x18;
            self.memory.load(at, 8).unwrap_or(u64::MAX)
        });
        if pointer & PRESENT == 0 {
            return Err(self.fault(0));
        }
        if pointer & (RESERVED | NO_EXECUTE | self.too_high()) != 0 {
            return Err(self.fault(PRESENT as u32 | 1 << 3));
        }
        Ok(pointer)
    }

    /// Bits of an entry above the physical addresses.
    fn too_high(&self) -> u64 {
        let end = if self.long() { 52 } else { 63 };
        let above = u64::MAX.checked_shl(self.rules.physical_bits.into()).unwrap_or(0);
        above & (1u64 << end).wrapping_sub(1)
    }

    fn reserved(&self, shift: u32, large: bool) -> u64 {
        if !self.wide() {
            // Bits 20:13 of a 4 MiB page are address bits 39:32.
            let above = u64::MAX.checked_shl(self.rules.physical_bits.saturating_sub(19).into());
            return if large { 1 << 21 | above.unwrap_or(0) & 0x1f_e000 } else { 0 };
        }
        let mut reserved = self.too_high();
        if !self.rules.no_execute {
            reserved |= NO_EXECUTE;
        }
        if large {
            reserved |= (1u64 << shift).wrapping_sub(1) & !0x1fff;
        }
        if shift == 39 {
            reserved |= LARGE;
        }
        reserved
    }

    /// Whether the access may use a page with the rights that `all` entries give.
    fn check(&self, all: u64, no_execute: bool, key: u64) -> Result<(), NoTranslation> {
        let Rules { paging: Paging { cr0, cr4, .. }, keys, user_pages, .. } = *self.rules;
        let (write, fetch) = (self.has(Access::WRITE), self.has(Access::FETCH));
        let (writable, user_page) = (all & WRITABLE != 0, all & USER != 0);
        let protected = self.user() || cr0 & CR0_WP != 0;
        let prevented = if fetch {
            cr4 & CR4_SMEP != 0
        } else {
            cr4 & CR4_SMAP != 0 && (self.has(Access::IMPLICIT) || !user_pages)
        };
        let denied = write && !writable && protected
            || fetch && no_execute && self.wide()
            || if self.user() { !user_page } else { user_page && prevented };
        let key = keys >> (key as u32 & 15).wrapping_mul(2);
        let locked = cr4 & CR4_PKE != 0
            && self.long()
            && user_page
            && !fetch
            && (key & 1 != 0 || key & 2 != 0 && write && protected);
        match (denied, locked) {
            (false, false) => Ok(()),
            _ => Err(self.fault(PRESENT as u32 | u32::from(locked) << 5)),
        }
    }

    /// Sets the accessed bits of the entries up to the leaf, and its dirty bit if it is written to;
    /// `false` if one has changed.
    fn mark(&self, used: &[Used]) -> bool {
        let dirty = if self.has(Access::WRITE) { DIRTY } else { 0 };
        for &Used { at, entry, leaf } in used {
            let marked = entry | ACCESSED | if leaf { dirty } else { 0 };
            // What is not RAM keeps no marks.
            if marked != entry && self.memory.replace(at, self.width(), entry, marked) == Ok(false)
            {
                return false;
            }
            if leaf {
                break;
            }
        }
        true
    }

    fn address(&self, entry: u64, shift: u32) -> u64 {
        let offset = (1u64 << shift).wrapping_sub(1);
        if self.wide() {
            return entry & ADDRESS & !offset | self.linear & offset;
        }
        let high = if shift == 22 { (entry >> 13 & 0xff) << 32 } else { 0 };
        high | entry & 0xffff_ffff & !offset | self.linear & offset
    }

    /// The page fault: `why` is what the tables contribute to its error code.
    fn fault(&self, why: u32) -> NoTranslation {
        const USER_MODE: u32 = 1 << 2;
        let Rules { paging: Paging { cr4, .. }, no_execute, .. } = *self.rules;
        let mut code = why | self.access.0 & Access::WRITE.0;
        if self.user() {
            code |= USER_MODE;
        }
        // A fetch is told from a load only where that can make a difference.
        if no_execute && self.wide() || cr4 & CR4_SMEP != 0 {
            code |= self.access.0 & Access::FETCH.0;
        }
        NoTranslation::Fault(code)
    }
}
