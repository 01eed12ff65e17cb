//! Physical frames of 4 KiB below 4 GiB, where they are identity mapped.

use core::ops::Range;

use spin::Mutex;
use x86_64::PhysAddr;
use x86_64::structures::paging::{FrameAllocator, FrameDeallocator, PhysFrame, Size4KiB};

const FRAME: u64 = 4096;
const END: u64 = 4 << 30;

unsafe extern "C" {
    static image_end: u8;
}

/// Gives away frames from the largest range of RAM behind the image, each for the first time until
/// one is given back: a new frame has never been touched.
pub struct Frames {
    fresh: Range<u64>,
    /// The last frame given back; it holds the address of the one before, 0 for none.
    returned: u64,
}

static FRAMES: Mutex<Frames> = Mutex::new(Frames { fresh: 0..0, returned: 0 });

pub(crate) fn init(memory: impl Iterator<Item = Range<u64>>) {
    let first = (&raw const image_end) as u64;
    let usable =
        memory.map(|r| r.start.max(first).next_multiple_of(FRAME)..r.end.min(END) & !(FRAME - 1));
    let largest = usable.max_by_key(|r| r.end.saturating_sub(r.start)).unwrap_or(0..0);
    FRAMES.lock().fresh = largest;
}

/// A frame; its contents are whatever they were.
///
/// # Panics
///
/// When RAM is used up: the reference guests cannot go on without.
pub fn allocate() -> PhysFrame {
    FRAMES.lock().allocate_frame().expect("the guest's RAM is used up: give the VM more memory")
}

/// A frame that has never been touched since the machine started.
///
/// # Panics
///
/// As [`allocate`].
pub fn allocate_fresh() -> PhysFrame {
    FRAMES.lock().fresh().expect("the guest's RAM is used up: give the VM more memory")
}

/// The first of `count` frames one behind the other, none of which has been touched since the machine
/// started.
///
/// # Panics
///
/// As [`allocate`].
pub fn allocate_run(count: u64) -> PhysFrame {
    let mut frames = FRAMES.lock();
    let first = frames.fresh();
    let last = (1..count).fold(first, |_, _| frames.fresh());
    last.and(first).expect("the guest's RAM is used up: give the VM more memory")
}

/// Takes a frame back.
///
/// # Safety
///
/// It came from this allocator and nothing uses it any more.
pub unsafe fn free(frame: PhysFrame) {
    // SAFETY: the caller's promise.
    unsafe { FRAMES.lock().deallocate_frame(frame) }
}

/// The lock on the allocator, for code that takes a [`FrameAllocator`].
pub(crate) fn allocator() -> spin::MutexGuard<'static, Frames> {
    FRAMES.lock()
}

impl Frames {
    fn fresh(&mut self) -> Option<PhysFrame> {
        let start = self.fresh.start;
        (start + FRAME <= self.fresh.end).then(|| {
            self.fresh.start += FRAME;
            PhysFrame::containing_address(PhysAddr::new(start))
        })
    }
}

// SAFETY: a frame leaves `fresh` or `returned` when it is given away, so nobody else has it.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        if self.returned == 0 {
            return self.fresh();
        }
        let frame = self.returned;
        // SAFETY: a returned frame is ours, identity mapped, and holds the next one's address.
        self.returned = unsafe { (frame as *const u64).read() };
        Some(PhysFrame::containing_address(PhysAddr::new(frame)))
    }
}

impl FrameDeallocator<Size4KiB> for Frames {
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame) {
        let address = frame.start_address().as_u64();
        // SAFETY: the caller gives the frame up, and it is identity mapped.
        unsafe { (address as *mut u64).write(self.returned) };
        self.returned = address;
    }
}
