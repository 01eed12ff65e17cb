//! VMX operation and the current VMCS, as ownership.
//!
//! [`VmxOn`] exists on a CPU that is in VMX operation. [`Vmcs::activate`] makes a VMCS current and
//! borrows that CPU, so there is one current VMCS at most, and only [`ActiveVmcs`] can read and
//! write. From then on the VMCS is active on that CPU, which may have its data, and comes to no other
//! before [`Vmcs::clear`] (SDM vol. 3, Software Use of Virtual-Machine Control Structures).

use core::arch::asm;
use core::cell::Cell;
use core::marker::PhantomData;

use super::capability::Capabilities;
use super::field::{Access, Field, ReadWrite, VmcsRead, VmcsWrite, Width};
use crate::hw::instructions::wrmsr;
use crate::hw::physical::zeroed_page;
use crate::mem::frames::Frames;

/// A CPU in VMX operation.
pub struct VmxOn {
    /// Its number, and one more.
    number: usize,
    /// The address of the current VMCS; 0 for none.
    current: u64,
}

/// A VMX instruction failed; the CPU gives no more detail without a current VMCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VmFail;

/// Runs a VMX instruction on a 64-bit memory operand and looks at its flags.
macro_rules! vmx_operand {
    ($instruction:literal, $address:expr) => {{
        let failed: u8;
        let operand: u64 = $address;
        asm!(
            concat!($instruction, " qword ptr [{operand}]"),
            "setbe {failed}",
            operand = in(reg) &raw const operand,
            failed = lateout(reg_byte) failed,
            options(nostack),
        );
        if failed == 0 { Ok(()) } else { Err(VmFail) }
    }};
}

/// Writes the revision that VMXON and VMPTRLD look for.
fn region(frames: &mut Frames, caps: &Capabilities) -> Option<u64> {
    let page = zeroed_page(frames)?;
    // SAFETY: the page is ours alone and mapped.
    unsafe { (page as *mut u32).write_volatile(caps.revision) };
    Some(page)
}

impl VmxOn {
    /// Enters VMX operation on this CPU, whose number is `index` and whose region lives as long as the
    /// machine. `None` if memory is short.
    ///
    /// # Errors
    ///
    /// [`VmFail`] if the CPU refuses.
    pub fn enter(
        frames: &mut Frames,
        caps: &Capabilities,
        index: usize,
    ) -> Option<Result<VmxOn, VmFail>> {
        use x86_64::registers::control::{Cr0, Cr4};
        let region = region(frames, caps)?;
        if let Some(control) = caps.feature_control_to_write() {
            // SAFETY: the MSR is there where VMX is, and it is not locked.
            unsafe { wrmsr(super::capability::msr::IA32_FEATURE_CONTROL, control) };
        }
        // SAFETY: CR0 and CR4 get the bits that VMX operation fixes at 1 and that long mode has
        // anyway, and VMXE; none changes how this code is run. The region is a zeroed page with
        // the revision.
        Some(unsafe {
            Cr0::write_raw(Cr0::read_raw() | caps.cr0_must);
            Cr4::write_raw(Cr4::read_raw() | caps.cr4_must);
            vmx_operand!("vmxon", region)
                .map(|()| VmxOn { number: index.wrapping_add(1), current: 0 })
        })
    }
}

/// A VMCS.
#[derive(Debug)]
pub struct Vmcs {
    address: u64,
    /// The CPU on which it is active, as in [`VmxOn`]; 0 if it is clear.
    cpu: usize,
}

impl Vmcs {
    /// A clear VMCS, or `None` if memory is short.
    pub fn new(frames: &mut Frames, caps: &Capabilities, _on: &VmxOn) -> Option<Vmcs> {
        let page = region(frames, caps)?;
        // SAFETY: this CPU is in VMX operation, and the page holds the revision.
        unsafe { vmx_operand!("vmclear", page) }.ok().map(|()| Vmcs { address: page, cpu: 0 })
    }

    /// Makes it current on this CPU.
    ///
    /// # Errors
    ///
    /// [`VmFail`] if it is active on another.
    #[inline]
    pub fn activate<'cpu>(&mut self, on: &'cpu mut VmxOn) -> Result<ActiveVmcs<'cpu>, VmFail> {
        if self.cpu != on.number && self.cpu != 0 {
            return Err(VmFail);
        }
        if on.current != self.address {
            // SAFETY: the borrow of `VmxOn` shows VMX operation, and that nobody uses the VMCS that was
            // current; this one is a VMCS, and no other CPU has it.
            unsafe { vmx_operand!("vmptrld", self.address) }?;
            on.current = self.address;
        }
        self.cpu = on.number;
        Ok(ActiveVmcs { reads: Cell::new(0), writes: Cell::new(0), _on: PhantomData })
    }

    /// Takes it from this CPU, if it is active here: its data is in memory, and it may go to another.
    pub fn clear(&mut self, on: &mut VmxOn) {
        if self.cpu != on.number {
            return;
        }
        // SAFETY: the borrow of `VmxOn` shows VMX operation, and that nobody uses the VMCS; VMCLEAR writes its
        // data back. It fails for no address that VMPTRLD took.
        let _ = unsafe { vmx_operand!("vmclear", self.address) };
        self.cpu = 0;
        if on.current == self.address {
            on.current = 0;
        }
    }
}

/// The VMCS that is current on this CPU.
#[derive(Debug)]
pub struct ActiveVmcs<'cpu> {
    reads: Cell<u64>,
    writes: Cell<u64>,
    _on: PhantomData<&'cpu mut VmxOn>,
}

impl ActiveVmcs<'_> {
    /// VMREADs and VMWRITEs so far.
    #[inline(always)]
    pub fn counts(&self) -> (u64, u64) {
        (self.reads.get(), self.writes.get())
    }

    /// Sets what [`ActiveVmcs::counts`] goes on from.
    pub fn set_counts(&self, (reads, writes): (u64, u64)) {
        self.reads.set(reads);
        self.writes.set(writes);
    }

    /// Reads a field. Its value is undefined if the CPU does not have it.
    #[inline(always)]
    pub fn get<W: Width, A: Access>(&self, field: Field<W, A>) -> W::Value {
        self.batch().get(field)
    }

    /// Several reads that are added to the count together.
    #[inline(always)]
    pub fn batch(&self) -> Batch<'_> {
        Batch { total: &self.reads, reads: Cell::new(0) }
    }
}

/// Reads of the current VMCS: see [`ActiveVmcs::batch`].
pub struct Batch<'a> {
    total: &'a Cell<u64>,
    reads: Cell<u64>,
}

impl Batch<'_> {
    /// As [`ActiveVmcs::get`].
    #[inline(always)]
    pub fn get<W: Width, A: Access>(&self, field: Field<W, A>) -> W::Value {
        let value: u64;
        // SAFETY: a batch borrows the current VMCS, so VMREAD fails only for a field that the CPU
        // lacks, and then leaves in the register what was there. It touches no memory that Rust
        // knows of.
        unsafe {
            asm!(
                "vmread {value}, {field}",
                value = out(reg) value,
                field = in(reg) u64::from(field.encoding()),
                options(nomem, nostack),
            );
        }
        self.reads.set(self.reads.get().wrapping_add(1));
        W::from_register(value)
    }
}

impl Drop for Batch<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.total.set(self.total.get().wrapping_add(self.reads.get()));
    }
}

impl VmcsRead for ActiveVmcs<'_> {
    #[inline(always)]
    fn read<W: Width, A: Access>(&self, field: Field<W, A>) -> W::Value {
        self.get(field)
    }
}

impl VmcsWrite for ActiveVmcs<'_> {
    #[inline(always)]
    fn write<W: Width>(&mut self, field: Field<W, ReadWrite>, value: W::Value) {
        let value: u64 = value.into();
        // SAFETY: there is a current VMCS; what the field does is checked at the next entry, and a
        // field that the CPU lacks is left alone.
        unsafe {
            asm!(
                "vmwrite {field}, {value}",
                field = in(reg) u64::from(field.encoding()),
                value = in(reg) value,
                options(nomem, nostack),
            );
        }
        self.writes.set(self.writes.get().wrapping_add(1));
    }
}
