//! A wall around the decoders of others.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::Once;

thread_local! {
    /// Whether a panic of this thread is caught, and needs no word on stderr.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// What `decode` says, or, where it panics, what the panic says. What it worked on is lost with it.
///
/// A panic inside says nothing on stderr; any other in the process does, as before.
///
/// # Errors
/// That of `decode`, or that it panicked.
pub fn caught<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    static QUIET: Once = Once::new();
    QUIET.call_once(|| {
        let loud = take_hook();
        set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                loud(panic);
            }
        }));
    });
    let outside = CAUGHT.replace(true);
    let result = catch_unwind(AssertUnwindSafe(decode));
    CAUGHT.set(outside);
    result.unwrap_or_else(|panic| Err(format!("the decoder stopped: {}", said(panic.as_ref()))))
}

fn said(panic: &(dyn Any + Send)) -> &str {
    match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (_, Some(text)) => text,
        _ => "no reason given",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        assert_eq!(caught(|| Ok(1)), Ok(1));
        let index = std::hint::black_box(3);
        let error = caught(|| Ok([1, 2][index])).unwrap_err();
        assert!(error.starts_with("the decoder stopped: index out of bounds"), "{error}");
        // The wall stands only where it is asked for, one inside another too.
        let nested = caught(|| {
            let _ = caught(|| -> Result<(), _> { Err("inner".to_owned()) });
            Ok(CAUGHT.get())
        });
        assert_eq!((nested, CAUGHT.get()), (Ok(true), false));
    }
}
