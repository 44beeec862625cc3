//! The page: what [`Results`](crate::results::Results) say, in words, tables and images.

mod beside;
mod content;
mod group;
mod html;
mod tables;
mod text;

pub use content::Page;
pub use group::GroupPage;
