//! The page: what [`Results`](crate::results::Results) say, in words, tables and images.

mod content;
mod html;
mod beside;
mod tables;
mod text;

pub use content::Page;
