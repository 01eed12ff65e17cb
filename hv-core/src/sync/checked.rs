//! Atomics and locks of the checker, with the interfaces of the machine's.

use std::sync::PoisonError;

/// A lock.
#[derive(Debug)]
pub struct Mutex<T>(loom::sync::Mutex<T>);

impl<T> Mutex<T> {
    /// A free one.
    pub fn new(value: T) -> Mutex<T> {
        Mutex(loom::sync::Mutex::new(value))
    }

    /// Takes it.
    pub fn lock(&self) -> loom::sync::MutexGuard<'_, T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The checker takes `SeqCst` for `AcqRel`, but knows fences. On x86-64 a write that is sequentially consistent is a
/// full barrier, and a read is none (SDM vol. 3, Memory Ordering): so there is a fence behind each such write, and
/// what relies on more than that of a read fails.
pub mod atomic {
    use loom::sync::atomic as unfenced;
    pub use unfenced::Ordering;

    macro_rules! forward {
        ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty, by $order:ident;)*) => {$(
            #[doc = concat!("See the machine's `", stringify!($name), "`.")]
            #[track_caller]
            pub fn $name(&self, $($argument: $type),*) -> $result {
                let result = self.0.$name($($argument),*);
                if $order == Ordering::SeqCst {
                    unfenced::fence($order);
                }
                result
            }
        )*};
    }

    macro_rules! atomics {
        ($($name:ident: $value:ty { $($more:tt)* })*) => {$(
            #[doc = concat!("See the machine's `", stringify!($name), "`.")]
            #[derive(Debug, Default)]
            pub struct $name(unfenced::$name);

            #[allow(dead_code, reason = "not each type has each use")]
            impl $name {
                /// One with this value.
                #[track_caller]
                pub fn new(value: $value) -> $name {
                    $name(unfenced::$name::new(value))
                }

                /// Reads it.
                #[track_caller]
                pub fn load(&self, order: Ordering) -> $value {
                    self.0.load(order)
                }

                forward! {
                    store(value: $value, order: Ordering) -> (), by order;
                    swap(value: $value, order: Ordering) -> $value, by order;
                    fetch_or(value: $value, order: Ordering) -> $value, by order;
                    fetch_and(value: $value, order: Ordering) -> $value, by order;
                    compare_exchange(old: $value, new: $value, order: Ordering, failed: Ordering)
                        -> Result<$value, $value>, by order;
                    $($more)*
                }
            }
        )*};
    }

    atomics! {
        AtomicBool: bool {}
        AtomicU8: u8 {}
        AtomicU32: u32 {}
        AtomicI64: i64 {}
        AtomicU64: u64 { fetch_add(value: u64, order: Ordering) -> u64, by order; }
    }
}
