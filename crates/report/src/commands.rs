//! What the program does, one function per command; each is the whole story from flags to outcome.

mod compare;
mod ending;
mod group;
mod inputs;
mod report;
mod show;
mod sweep;
mod swept;

pub use compare::compare;
pub use group::{seeds, study};
pub use report::report;
pub use show::show;
pub use sweep::sweep;
