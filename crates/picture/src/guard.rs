//! A wall around the decoders of others.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What `decode` says, or, where it panics, what the panic says. What it worked on is lost with it.
pub(crate) fn guarded<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode))
        .unwrap_or_else(|panic| Err(format!("the decoder stopped: {}", said(panic.as_ref()))))
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
        assert_eq!(guarded(|| Ok(1)), Ok(1));
        let index = std::hint::black_box(3);
        let error = guarded(|| Ok([1, 2][index])).unwrap_err();
        assert!(error.starts_with("the decoder stopped: index out of bounds"), "{error}");
    }
}
