//! Tensors over memory that Rust owns.

use std::ffi::c_void;

use crate::Kind;
use crate::error::Result;
use crate::ffi;
use crate::tensor::Tensor;

/// libtorch's number for u8 (c10/core/ScalarType.h).
const UINT8: i32 = 0;
const FLOAT: i32 = 6;

impl Tensor {
    /// A CPU tensor of bytes or floats over `owner`'s memory, without a copy. `owner` is dropped with the last view, perhaps on
    /// another thread. The tensor must only be read: the memory may be shared.
    ///
    /// # Errors
    /// [`crate::Error::Invalid`] when the memory is smaller than `size` asks for, not aligned for `kind`, or `kind` is
    /// neither u8 nor f32.
    pub fn from_owner<T: AsRef<[u8]> + Send + 'static>(owner: T, size: &[i64], kind: Kind) -> Result<Self> {
        let refuse = |message| Err(crate::Error::Invalid { op: "from_owner".into(), message });
        let (scalar_type, width) = match kind {
            Kind::Uint8 => (UINT8, 1),
            Kind::Float => (FLOAT, 4),
            _ => return refuse(format!("{kind:?} is neither u8 nor f32")),
        };
        // Boxed before its memory is asked for: from here on the owner neither moves nor is touched.
        let owner = Box::new(owner);
        let bytes: &[u8] = (*owner).as_ref();
        let wanted = size.iter().try_fold(width, |n: usize, &s| n.checked_mul(usize::try_from(s).ok()?));
        if wanted.is_none_or(|n| n > bytes.len()) {
            return refuse(format!("sizes {size:?} do not fit into {} bytes", bytes.len()));
        }
        if !bytes.as_ptr().addr().is_multiple_of(width) {
            return refuse(format!("memory that is not aligned for {kind:?}"));
        }
        let data = bytes.as_ptr().cast_mut().cast::<c_void>();
        let context = Box::into_raw(owner).cast::<c_void>();
        // SAFETY: `data` holds at least the product of `size` bytes and stays valid until `release` drops the owner,
        // which nobody borrows mutably meanwhile; libtorch calls `release` exactly once, when the last view dies.
        let tensor = Tensor::from_shim("from_owner", |out| unsafe {
            ffi::fb_from_blob(data, size.as_ptr(), size.len(), scalar_type, release::<T>, context, out)
        });
        if tensor.is_err() {
            // SAFETY: libtorch made no tensor, so it will never call `release`: the box is still ours.
            drop(unsafe { Box::from_raw(context.cast::<T>()) });
        }
        tensor
    }
}

unsafe extern "C" fn release<T>(context: *mut c_void) {
    // SAFETY: `context` is the box of `from_owner`, handed over to libtorch, which calls this once.
    let owner = unsafe { Box::from_raw(context.cast::<T>()) };
    // A panic must not cross into C++.
    let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || drop(owner)));
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    struct Owner(Vec<u8>, Arc<AtomicBool>);

    impl AsRef<[u8]> for Owner {
        fn as_ref(&self) -> &[u8] {
            &self.0
        }
    }

    impl Drop for Owner {
        fn drop(&mut self) {
            self.1.store(true, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_owner_lives_as_long_as_the_last_view() {
        let dropped = Arc::new(AtomicBool::new(false));
        let tensor =
            Tensor::from_owner(Owner((0..12).collect(), dropped.clone()), &[3, 4], Kind::Uint8).unwrap();
        let view = tensor.select(0, 2).unwrap();
        drop(tensor);
        assert!(!dropped.load(Ordering::SeqCst));
        assert_eq!(view.to_vec_u8().unwrap(), [8, 9, 10, 11]);
        drop(view);
        assert!(dropped.load(Ordering::SeqCst));
    }

    #[test]
    fn sizes_beyond_the_memory_are_refused() {
        let dropped = Arc::new(AtomicBool::new(false));
        let error =
            Tensor::from_owner(Owner(vec![0; 11], dropped.clone()), &[3, 4], Kind::Uint8).unwrap_err();
        assert!(error.to_string().contains("[3, 4]"), "{error}");
        assert!(dropped.load(Ordering::SeqCst));
    }
}
