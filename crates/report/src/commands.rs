//! What the program does, one function per command; each is the whole story from flags to outcome.

mod compare;
mod ending;
mod experts;
mod group;
mod import;
mod imports;
mod inputs;
mod leaderboard;
mod recipes;
mod report;
mod show;
mod sweep;
mod swept;

pub use compare::compare;
pub use experts::{Against, against};
pub use group::{seeds, study};
pub use import::{Import, import};
pub use leaderboard::leaderboard;
pub use report::report;
pub use show::show;
pub use sweep::sweep;
