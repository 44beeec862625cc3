//! Ctrl-C and SIGTERM.
//!
//! What is published is whole and what is not published is private, so a stage may end at any moment. A signal asks
//! long work to stop ([`interrupted`]); who does not answer within [`PATIENCE`] is ended, unless it holds the end up
//! because it has something to save ([`hold`]). A second signal ends the process at once.
//!
//! One of several ranks that waits in vain for the others, one of which has died, is ended too. Of several ranks none says
//! that it was interrupted, unless all stop together: why it was, says who ended it, or the rank that failed.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use signal_hook::consts::TERM_SIGNALS;
use signal_hook::iterator::Signals;

/// How long work may go on after a signal.
const PATIENCE: Duration = Duration::from_millis(700);
/// How long a rank may wait for the others after a signal. `srun` kills after 30 s.
const ABANDONED: Duration = Duration::from_secs(10);
/// How long a rank may hold its end up whose GPU may be what waits. torchrun kills after 30 s.
const LINKED: Duration = Duration::from_secs(20);
/// Between two looks at whether it has stopped.
const LOOK: Duration = Duration::from_millis(20);

static STOP: AtomicBool = AtomicBool::new(false);
static HOLDS: AtomicUsize = AtomicUsize::new(0);

/// Whether Ctrl-C or SIGTERM asked to stop. Long work asks after every batch, saves what it has, and returns.
pub fn interrupted() -> bool {
    STOP.load(Ordering::Relaxed)
}

/// While this lives, a signal does not end the process by itself: the work asks [`interrupted`] at every step, and
/// saves its state when the answer is yes.
#[derive(Debug)]
pub struct Hold(());

/// Holds up the end of the process; see [`Hold`].
pub fn hold() -> Hold {
    HOLDS.fetch_add(1, Ordering::SeqCst);
    Hold(())
}

impl Drop for Hold {
    fn drop(&mut self) {
        HOLDS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// From now on signals are heard, on a thread of their own.
pub(crate) fn catch() {
    let mut signals = match Signals::new(TERM_SIGNALS) {
        Ok(signals) => signals,
        Err(error) => {
            tracing::warn!("signals cannot be caught: {error}");
            return;
        }
    };
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if STOP.swap(true, Ordering::SeqCst) {
                end(crate::exit_code::INTERRUPTED);
            }
            std::thread::spawn(|| {
                let heard = Instant::now();
                let mut since = heard;
                while since.elapsed() < PATIENCE {
                    std::thread::sleep(LOOK);
                    let (world, asked) = (ranks::world(), heard.elapsed());
                    let is_abandoned = asked.min(world.waits()) > ABANDONED || world.is_linked() && asked > LINKED;
                    if HOLDS.load(Ordering::SeqCst) > 0 && !is_abandoned {
                        since = Instant::now();
                    }
                }
                if ranks::world().is_alone() {
                    crate::log::error(&anyhow::anyhow!("interrupted"), Some(crate::fail::CONTINUE));
                }
                end(crate::exit_code::INTERRUPTED);
            });
        }
    });
}

/// From now on the process ends where it is found that it waits for a rank that is gone.
pub(crate) fn watch_ranks() {
    if ranks::world().is_alone() {
        return;
    }
    std::thread::spawn(|| {
        loop {
            std::thread::sleep(10 * LOOK);
            if let Some(why) = ranks::failure() {
                broken(&why);
                end(crate::exit_code::FAILED);
            }
        }
    });
}

/// Says that the other ranks cannot be reached.
pub(crate) fn broken(why: &str) {
    let hint = "another rank has ended, or the network failed: its own message says why; the same command continues";
    crate::log::error(&anyhow::anyhow!("{why}"), Some(hint));
}

/// Ends the process without unwinding, and without the exit handlers that other threads may be inside of.
pub(crate) fn end(code: u8) -> ! {
    signal_hook::low_level::exit(i32::from(code))
}

/// For tests only: `AGCNN_TEST_KILL_AT=<point>` ends the process here as a power cut would.
pub(crate) fn kill_point(point: &str) {
    if std::env::var("AGCNN_TEST_KILL_AT").is_ok_and(|at| at == point) {
        std::process::abort();
    }
}
