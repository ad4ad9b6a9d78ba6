//! A bounded ring of slabs in one pre-allocated, page-aligned arena.
//!
//! A [`Slab`] is the memory of one batch: B images, then (on a new page) B masks where the batch has any. It is owned
//! by one holder at a time and goes back to the ring when dropped. To be filled by several threads at once it is
//! taken apart into [`Slot`]s, one per sample, and put together again when all of them are back. Ownership carries
//! the proof that no two threads ever see the same bytes, so the unsafe code stays in this file.

mod free_list;
/// The locks of the free list.
mod sync {
    pub(super) use std::sync::{Condvar, Mutex, MutexGuard};
}

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

use free_list::FreeList;

/// Alignment of the arena and of each slab's two parts, as page-locking wants it.
pub const PAGE_BYTES: usize = 4096;

/// What the numbers of images are stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelKind {
    /// Bytes as on the canvas.
    U8,
    /// Native-endian floats, finished for the network.
    F32,
}

impl PixelKind {
    /// Bytes of one number.
    pub fn bytes(self) -> usize {
        match self {
            PixelKind::U8 => 1,
            PixelKind::F32 => 4,
        }
    }
}

/// Shape of a full batch: images `[batch, height, width, channels]`, and masks u8 `[batch, height, width]` where
/// it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PixelLayout {
    /// Samples in a full batch; a ragged batch holds fewer.
    pub batch: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Interleaved channels of an image.
    pub channels: usize,
    /// What images are stored as.
    pub kind: PixelKind,
    /// Whether there are masks.
    pub masks: bool,
}

impl PixelLayout {
    /// Bytes of one image.
    pub fn image_bytes(&self) -> usize {
        self.height * self.width * self.channels * self.kind.bytes()
    }

    /// Bytes of one mask; 0 without masks.
    pub fn mask_bytes(&self) -> usize {
        if self.masks { self.height * self.width } else { 0 }
    }

    /// Where the masks begin in a slab, and the length of a slab; `None` when they cannot be counted.
    fn slab(&self) -> Option<(usize, usize)> {
        let pixels = self.height.checked_mul(self.width)?.checked_mul(self.batch)?;
        let masks_at =
            pixels.checked_mul(self.channels * self.kind.bytes())?.checked_next_multiple_of(PAGE_BYTES)?;
        let mask_pixels = if self.masks { pixels } else { 0 };
        let length = masks_at.checked_add(mask_pixels)?.checked_next_multiple_of(PAGE_BYTES)?;
        Some((masks_at, length))
    }
}

impl fmt::Display for PixelLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let PixelLayout { batch, height, width, channels, .. } = self;
        write!(f, "{batch} images of {width}x{height} pixels with {channels} channels")
    }
}

/// How many slabs, at most `wanted`, fit into `limit` bytes.
///
/// # Errors
/// When not even two fit, one to fill while the other is in use (or one, when no more are wanted).
pub fn slabs_within(layout: &PixelLayout, wanted: usize, limit: usize) -> Result<usize, RingError> {
    let least = wanted.min(2);
    let (slabs, bytes) = match layout.slab() {
        Some((_, slab_bytes)) => ((limit / slab_bytes.max(1)).min(wanted), ring_bytes(layout, least)),
        None => (0, None),
    };
    match slabs < least {
        true => Err(RingError::OverLimit { slabs: least, bytes, limit, layout: *layout }),
        false => Ok(slabs),
    }
}

/// Bytes that a ring of `slabs` slabs takes, or `None` when that is more than can be addressed.
pub fn ring_bytes(layout: &PixelLayout, slabs: usize) -> Option<usize> {
    layout.slab()?.1.checked_mul(slabs).filter(|&bytes| bytes <= isize::MAX as usize - PAGE_BYTES)
}

/// Hands out slabs. Clones share the same slabs.
#[derive(Clone)]
pub struct Ring(Arc<Shared>);

struct Shared {
    arena: Arena,
    pin_error: Option<String>,
    layout: PixelLayout,
    masks_at: usize,
    slab_bytes: usize,
    free: FreeList,
}

/// Page-locks the memory of a ring, so that a device can copy from it directly.
pub trait PinHost: Send + Sync {
    /// Registers the `bytes` bytes from `start`, both multiples of [`PAGE_BYTES`]. Called once for a ring, before
    /// its memory is used, and must leave the bytes alone. The returned value is dropped once nobody uses the
    /// memory any more and before it is freed; its drop undoes the registration.
    ///
    /// # Errors
    /// Why it cannot be done; the ring then works with memory that is not locked.
    fn pin(&self, start: NonNull<u8>, bytes: usize) -> Result<Box<dyn Send + Sync>, String>;
}

impl Ring {
    /// Allocates `slabs` slabs at once and has them page-locked by `pin`. Their pages are zero; without `pin` they
    /// are first touched by those who write them.
    ///
    /// # Errors
    /// When the memory cannot be had.
    ///
    /// # Panics
    /// When `slabs` or a dimension of `layout` is zero.
    pub fn new(layout: PixelLayout, slabs: usize, pin: Option<&dyn PinHost>) -> Result<Self, RingError> {
        assert!(slabs > 0 && layout.batch > 0 && layout.image_bytes() > 0, "an empty ring carries nothing");
        let no_memory = RingError::NoMemory { slabs, layout };
        let (Some(bytes), Some((masks_at, slab_bytes))) = (ring_bytes(&layout, slabs), layout.slab()) else {
            return Err(no_memory);
        };
        let Some(mut arena) = Arena::new(bytes) else { return Err(no_memory) };
        let pin_error = pin.and_then(|pin| arena.pin(pin).err());
        let free = FreeList::new(slabs);
        Ok(Ring(Arc::new(Shared { arena, pin_error, layout, masks_at, slab_bytes, free })))
    }

    /// Why the memory could not be page-locked, if that was asked for and failed.
    pub fn pin_error(&self) -> Option<&str> {
        self.0.pin_error.as_deref()
    }

    /// Takes a slab, waiting until one is free. `None` once the ring is closed.
    pub fn acquire(&self) -> Option<Slab> {
        let index = self.0.free.take()?;
        Some(Slab { shared: self.0.clone(), index })
    }

    /// Makes every present and later [`acquire`](Self::acquire) return `None`. Slabs that are out stay valid.
    pub fn close(&self) {
        self.0.free.close();
    }
}

/// The memory of one batch, exclusively owned. Returns to its ring when dropped.
pub struct Slab {
    shared: Arc<Shared>,
    index: usize,
}

impl Slab {
    /// The first `n` images, `[n, height, width, channels]`.
    ///
    /// # Panics
    /// When `n` is more than the layout's batch.
    pub fn images(&self, n: usize) -> &[u8] {
        assert!(n <= self.shared.layout.batch, "a slab holds no more than its batch");
        self.bytes(0, n * self.shared.layout.image_bytes())
    }

    /// The first `n` masks, `[n, height, width]`.
    ///
    /// # Panics
    /// When `n` is more than the layout's batch.
    pub fn masks(&self, n: usize) -> &[u8] {
        assert!(n <= self.shared.layout.batch, "a slab holds no more than its batch");
        self.bytes(self.shared.masks_at, n * self.shared.layout.mask_bytes())
    }

    /// Shape of a full batch.
    pub fn layout(&self) -> PixelLayout {
        self.shared.layout
    }

    /// Takes the slab apart into its first `n` slots, in order.
    ///
    /// # Panics
    /// When `n` is more than the layout's batch.
    pub fn into_slots(self, n: usize) -> (SlabInParts, Vec<Slot>) {
        assert!(n <= self.shared.layout.batch, "a slab holds no more than its batch");
        let slab = Arc::new(self);
        let slots = (0..n).map(|slot| Slot { slab: slab.clone(), slot }).collect();
        (SlabInParts(slab), slots)
    }

    #[allow(unsafe_code)]
    fn bytes(&self, at: usize, length: usize) -> &[u8] {
        let start = self.index * self.shared.slab_bytes + at;
        debug_assert!(start + length <= self.shared.arena.bytes);
        // SAFETY: the range lies within slab `index` of the arena (callers bound it by the layout), the arena is
        // initialised (zeroed) and lives as long as `self.shared`. Nobody writes these bytes while `&self` is
        // reachable: an index is out of the free list while its one `Slab` exists, and writing needs a `Slot`,
        // whose existence hides the `Slab` in the private Arc of `SlabInParts` and `Slot`.
        unsafe { std::slice::from_raw_parts(self.shared.arena.start.as_ptr().add(start), length) }
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        self.shared.free.give_back(self.index);
    }
}

/// A slab whose slots are out. Dropped in this state, it returns to the ring with the last of its slots.
pub struct SlabInParts(Arc<Slab>);

impl SlabInParts {
    /// The whole slab again, once every slot has been dropped; until then gives itself back.
    pub fn join(self) -> Result<Slab, SlabInParts> {
        Arc::try_unwrap(self.0).map_err(SlabInParts)
    }
}

/// Exclusive access to one sample's place in a slab.
pub struct Slot {
    slab: Arc<Slab>,
    slot: usize,
}

impl Slot {
    /// The sample's image `[height, width, channels]`, aligned for its kind, and mask `[height, width]`. They hold whatever was written
    /// last.
    #[allow(unsafe_code)]
    pub fn parts(&mut self) -> (&mut [u8], &mut [u8]) {
        let shared = &self.slab.shared;
        let (image, mask) = (shared.layout.image_bytes(), shared.layout.mask_bytes());
        let slab_start = self.slab.index * shared.slab_bytes;
        let image_start = slab_start + self.slot * image;
        let mask_start = slab_start + shared.masks_at + self.slot * mask;
        debug_assert!(mask_start + mask <= shared.arena.bytes);
        // SAFETY: `into_slots` consumed the slab's one owner and made each slot number below the layout's batch
        // exactly once; slots cannot be cloned. So this value is the only one through which these two ranges
        // can be reached, and `&mut self` makes the borrow exclusive. The ranges of different slots are
        // disjoint by construction, images end before `masks_at`, and all lie within the slab. The arena is
        // initialised and kept alive by `self.slab`.
        unsafe {
            let start = shared.arena.start.as_ptr();
            (
                std::slice::from_raw_parts_mut(start.add(image_start), image),
                std::slice::from_raw_parts_mut(start.add(mask_start), mask),
            )
        }
    }
}

/// One page-aligned, zeroed allocation.
struct Arena {
    start: NonNull<u8>,
    bytes: usize,
    /// Present while the memory is page-locked.
    pinned: Option<Box<dyn Send + Sync>>,
}

#[allow(unsafe_code)]
// SAFETY: an arena is plain memory; who may touch which bytes when is decided by `Slab` and `Slot`.
unsafe impl Send for Arena {}
#[allow(unsafe_code)]
// SAFETY: as above; the arena itself offers no access through a shared reference.
unsafe impl Sync for Arena {}

impl Arena {
    #[allow(unsafe_code)]
    fn new(bytes: usize) -> Option<Self> {
        let layout = Layout::from_size_align(bytes, PAGE_BYTES).ok()?;
        // SAFETY: the size is not zero: `Ring::new` refuses empty rings.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
        Some(Arena { start, bytes, pinned: None })
    }

    fn pin(&mut self, host: &dyn PinHost) -> Result<(), String> {
        self.pinned = Some(host.pin(self.start, self.bytes)?);
        Ok(())
    }
}

impl Drop for Arena {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        self.pinned = None;
        if let Ok(layout) = Layout::from_size_align(self.bytes, PAGE_BYTES) {
            // SAFETY: allocated in `new` with this same layout, and freed only here.
            unsafe { dealloc(self.start.as_ptr(), layout) }
        }
    }
}

/// The slabs do not fit.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum RingError {
    /// The system has not that much memory.
    #[error("no memory for {slabs} host batches of {layout}")]
    #[diagnostic(code(limit::memory::ring), help("lower data.prefetch, batch.size or data.size"))]
    NoMemory {
        /// How many.
        slabs: usize,
        /// Of what shape.
        layout: PixelLayout,
    },
    /// More than the caller allows.
    #[error(
        "{slabs} host batches of {layout} take {} bytes, more than the {limit} they may have",
        bytes.map_or("uncountable".to_owned(), |bytes| bytes.to_string())
    )]
    #[diagnostic(
        code(limit::memory::ring),
        help("give the host batches more memory, or lower batch.size or data.size")
    )]
    OverLimit {
        /// The least number that can work.
        slabs: usize,
        /// What they take; `None` when it cannot be counted.
        bytes: Option<usize>,
        /// What they may take.
        limit: usize,
        /// Of what shape.
        layout: PixelLayout,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::thread;

    const LAYOUT: PixelLayout =
        PixelLayout { batch: 3, height: 5, width: 7, channels: 3, kind: PixelKind::U8, masks: true };

    #[test]
    fn parts_are_page_aligned_and_the_bytes_add_up() {
        let ring = Ring::new(LAYOUT, 2, None).unwrap();
        let slab = ring.acquire().unwrap();
        assert_eq!(slab.images(3).as_ptr() as usize % PAGE_BYTES, 0);
        assert_eq!(slab.masks(3).as_ptr() as usize % PAGE_BYTES, 0);
        assert_eq!((slab.images(2).len(), slab.masks(2).len()), (2 * 105, 2 * 35));
        assert_eq!(ring_bytes(&LAYOUT, 2), Some(2 * 2 * PAGE_BYTES));
        let without = PixelLayout { masks: false, ..LAYOUT };
        assert_eq!(ring_bytes(&without, 2), Some(2 * PAGE_BYTES));
        assert!(Ring::new(without, 1, None).unwrap().acquire().unwrap().masks(3).is_empty());
    }

    #[test]
    fn slots_filled_by_threads_join_to_the_whole() {
        let ring = Ring::new(LAYOUT, 1, None).unwrap();
        let (parts, slots) = ring.acquire().unwrap().into_slots(3);
        let parts = parts.join().err().unwrap();
        thread::scope(|scope| {
            for (i, mut slot) in slots.into_iter().enumerate() {
                scope.spawn(move || {
                    let (image, mask) = slot.parts();
                    image.fill(i as u8 + 1);
                    mask.fill(i as u8 + 11);
                });
            }
        });
        let slab = parts.join().ok().unwrap();
        for i in 0..3 {
            assert!(slab.images(3)[i * 105..][..105].iter().all(|&v| v == i as u8 + 1));
            assert!(slab.masks(3)[i * 35..][..35].iter().all(|&v| v == i as u8 + 11));
        }
    }

    #[test]
    fn a_slab_left_in_parts_returns_with_its_last_slot() {
        let ring = Ring::new(LAYOUT, 1, None).unwrap();
        let (parts, mut slots) = ring.acquire().unwrap().into_slots(2);
        drop(parts);
        slots.pop();
        assert_eq!(ring.0.free.n_free(), 0);
        slots.pop();
        assert!(ring.acquire().is_some());
    }

    #[test]
    fn no_more_slabs_are_out_than_there_are() {
        const SLABS: usize = 3;
        let ring = Ring::new(LAYOUT, SLABS, None).unwrap();
        let out = [const { AtomicUsize::new(0) }; SLABS];
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let slab = ring.acquire().unwrap();
                        assert_eq!(out[slab.index].fetch_add(1, Ordering::SeqCst), 0, "held twice");
                        thread::yield_now();
                        out[slab.index].fetch_sub(1, Ordering::SeqCst);
                    }
                });
            }
        });
        assert_eq!(ring.0.free.n_free(), SLABS);
    }

    #[test]
    fn closing_wakes_those_who_wait() {
        let ring = Ring::new(LAYOUT, 1, None).unwrap();
        let held = ring.acquire().unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| ring.acquire().is_none());
            ring.close();
            assert!(waiting.join().unwrap());
        });
        drop(held);
        assert!(ring.acquire().is_none());
    }

    #[test]
    fn impossible_sizes_are_an_error() {
        let layout = PixelLayout {
            batch: 1 << 40,
            height: 16384,
            width: 16384,
            channels: 3,
            kind: PixelKind::U8,
            masks: true,
        };
        assert!(Ring::new(layout, 4, None).is_err());
        assert_eq!(ring_bytes(&layout, 4), None);
    }

    #[test]
    fn fewer_slabs_when_they_would_not_fit_but_at_least_two() {
        let slab = ring_bytes(&LAYOUT, 1).unwrap();
        assert_eq!(slabs_within(&LAYOUT, 5, usize::MAX).unwrap(), 5);
        assert_eq!(slabs_within(&LAYOUT, 5, 4 * slab - 1).unwrap(), 3);
        assert_eq!(slabs_within(&LAYOUT, 5, 2 * slab).unwrap(), 2);
        assert_eq!(slabs_within(&LAYOUT, 1, slab).unwrap(), 1);
        let error = slabs_within(&LAYOUT, 5, 2 * slab - 1).unwrap_err().to_string();
        assert_eq!(
            error,
            "2 host batches of 3 images of 7x5 pixels with 3 channels take 16384 bytes, more than the 16383 \
             they may have"
        );
    }

    /// Notes what is registered: (start, bytes), and zeros once undone.
    #[derive(Clone, Default)]
    struct Register(Arc<[AtomicUsize; 2]>);

    impl PinHost for Register {
        fn pin(&self, start: NonNull<u8>, bytes: usize) -> Result<Box<dyn Send + Sync>, String> {
            assert_eq!(self.0[1].swap(bytes, Ordering::SeqCst), 0, "registered twice");
            self.0[0].store(start.as_ptr() as usize, Ordering::SeqCst);
            Ok(Box::new(Undo(self.clone())))
        }
    }

    struct Undo(Register);

    impl Drop for Undo {
        fn drop(&mut self) {
            self.0.0.iter().for_each(|value| value.store(0, Ordering::SeqCst));
        }
    }

    #[test]
    fn the_arena_is_pinned_once_until_its_last_slab_is_gone() {
        let register = Register::default();
        let read = |i: usize| register.0[i].load(Ordering::SeqCst);
        let ring = Ring::new(LAYOUT, 2, Some(&register)).unwrap();
        assert_eq!(read(1), ring_bytes(&LAYOUT, 2).unwrap());
        let slabs = [ring.acquire().unwrap(), ring.acquire().unwrap()];
        assert!(slabs.iter().any(|slab| slab.images(1).as_ptr() as usize == read(0)));
        let [slab, last] = slabs;
        drop((ring, slab));
        assert_ne!(read(1), 0);
        drop(last);
        assert_eq!(read(1), 0);
    }

    #[test]
    fn memory_that_cannot_be_pinned_still_serves() {
        struct Refuses;
        impl PinHost for Refuses {
            fn pin(&self, _: NonNull<u8>, _: usize) -> Result<Box<dyn Send + Sync>, String> {
                Err("no device".into())
            }
        }
        let ring = Ring::new(LAYOUT, 1, Some(&Refuses)).unwrap();
        assert_eq!(ring.pin_error(), Some("no device"));
        assert!(ring.acquire().is_some());
    }
}
