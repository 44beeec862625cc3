//! Pure parts.
pub mod config;
pub mod nih;
pub mod picture;
