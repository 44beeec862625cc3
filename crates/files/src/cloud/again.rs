//! What is tried more than once.

use std::future::Future;
use std::time::Duration;

use object_store::Error as Fault;

use super::fault;

/// How often something is tried that a broken connection ended, before it made any progress.
pub(crate) const ATTEMPTS: u32 = 6;
/// Before it is tried again; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// Tries something until it ends otherwise than by a connection that broke.
pub(crate) async fn again<T, F>(attempt: impl FnMut() -> F) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    again_after(fault::is_passing, attempt).await
}

/// Tries something until it ends otherwise than by such a fault.
pub(crate) async fn again_after<T, F>(
    fault: impl Fn(&Fault) -> bool,
    mut attempt: impl FnMut() -> F,
) -> Result<T, Fault>
where
    F: Future<Output = Result<T, Fault>>,
{
    let mut number = 1;
    loop {
        match attempt().await {
            Err(got) if number < ATTEMPTS && fault(&got) => pause(&mut number).await,
            ended => return ended,
        }
    }
}

/// Waits before the next attempt, and counts it.
pub(crate) async fn pause(attempt: &mut u32) {
    tokio::time::sleep(FIRST_WAIT * 2u32.pow(*attempt - 1)).await;
    *attempt += 1;
}
