//! What a stage says: log lines and progress to stderr, data to stdout.

use std::borrow::Cow;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Between two lines of progress where stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Starts logging to stderr: `-q` errors only, `-v` debug, `-vv` everything.
pub(crate) fn start(verbose: u8, quiet: bool) {
    // Of several ranks, one says what all do.
    let level = match (quiet || !ranks::world().leads(), verbose) {
        (true, _) => tracing::Level::ERROR,
        (false, 0) => tracing::Level::INFO,
        (false, 1) => tracing::Level::DEBUG,
        (false, _) => tracing::Level::TRACE,
    };
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    // What libraries say of requests may have headers in it, and so keys.
    let quiet = ["h2", "hyper", "hyper_util", "object_store", "reqwest", "rustls"];
    let filter = tracing_subscriber::filter::Targets::new().with_default(level);
    let filter = filter.with_targets(quiet.map(|target| (target, level.min(tracing::Level::WARN))));
    use tracing_subscriber::prelude::*;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(|| Lines)
        .with_ansi(colour)
        .with_target(false)
        .without_time()
        .compact();
    // A second start in one process (tests) keeps the first.
    let _ = tracing_subscriber::registry().with(lines).with(filter).try_init();
}

/// Stderr for log lines. Their formatter colours them, and has escaped what of that kind was in a message; other control
/// characters are escaped here.
struct Lines;

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let text = String::from_utf8_lossy(bytes);
        std::io::stderr().write_all(escaped(&text, &['\n', '\t', '\x1b']).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

/// Prints an error's chain of causes, and a hint.
pub(crate) fn error(error: &anyhow::Error, hint: Option<&str>) {
    let world = ranks::world();
    let rank = if world.is_alone() { String::new() } else { format!("rank {} of {}: ", world.rank(), world.size()) };
    let mut text = format!("error: {rank}{error}\n");
    let mut last = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        // Some errors say their cause themselves.
        if !last.contains(&cause) {
            text += &format!("  caused by: {cause}\n");
            last = cause;
        }
    }
    if let Some(hint) = hint {
        text += &format!("\nhint: {hint}\n");
    }
    let text = harmless(&text);
    // Nobody is left to tell where stderr is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// A text whose control characters, new lines and tabs aside, are escaped: a terminal would obey those of a file's name.
fn harmless(text: &str) -> String {
    escaped(text, &['\n', '\t'])
}

/// The text with its control characters escaped, but for those in `kept`.
fn escaped(text: &str, kept: &[char]) -> String {
    let obeyed = |c: char| c.is_control() && !kept.contains(&c);
    text.chars().flat_map(|c| if obeyed(c) { c.escape_default().collect() } else { vec![c] }).collect()
}

/// Writes data to stdout; everything else goes to stderr. A terminal gets no control characters.
///
/// # Errors
/// The reader went away, which [`crate::main`] takes for success.
pub fn print(text: &str) -> std::io::Result<()> {
    if !ranks::world().leads() {
        return Ok(());
    }
    let mut out = std::io::stdout().lock();
    let text = if out.is_terminal() { Cow::Owned(harmless(text)) } else { Cow::Borrowed(text) };
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Progress of a long piece of work: a bar on a terminal, a line every few seconds elsewhere.
#[derive(Debug)]
pub struct Progress {
    what: String,
    total: u64,
    done: u64,
    started: Instant,
    said: Instant,
    bar: Option<ProgressBar>,
}

/// Begins to show progress over `total` units of `what`, e.g. `images`; 0 where it is not known how many there are.
pub fn progress(total: u64, what: &str) -> Progress {
    let terminal = std::io::stderr().is_terminal() && tracing::enabled!(tracing::Level::INFO);
    let bar = terminal.then(|| {
        let known = total > 0;
        let template = if known { "{wide_bar} {pos}/{len} {msg} {per_sec} {eta}" } else { "{pos} {msg} {per_sec}" };
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        ProgressBar::new(total).with_style(style).with_message(what.to_owned())
    });
    let now = Instant::now();
    Progress { what: what.to_owned(), total, done: 0, started: now, said: now, bar }
}

impl Progress {
    /// `n` more units are done.
    pub fn inc(&mut self, n: u64) {
        self.done += n;
        if let Some(bar) = &self.bar {
            bar.inc(n);
        } else if self.said.elapsed() >= LINE_EVERY {
            self.said = Instant::now();
            let rate = self.done as f64 / self.started.elapsed().as_secs_f64();
            let of = if self.total > 0 { format!("/{}", self.total) } else { String::new() };
            tracing::info!("{}{of} {} ({rate:.1}/s)", self.done, self.what);
        }
    }

    /// Says something about the unit at hand, e.g. the loss.
    pub fn message(&self, text: &str) {
        if let Some(bar) = &self.bar {
            bar.set_message(harmless(&format!("{} {text}", self.what)));
        }
    }

    /// Takes the bar away.
    pub fn finish(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(super::harmless("a\x1b[31m\u{9b}2J: Thoräx\n\tb\r"), "a\\u{1b}[31m\\u{9b}2J: Thoräx\n\tb\\r");
    }
}
