//! `local` trains the second branch of AG-CNN on the attended regions (Guan et al., arXiv 1801.09927, section III-A).
//!
//! The work is done by [`branch`], which `global` shares; what is particular to this stage is its recipe,
//! `default.toml`, and its story, `main.rs`.

/// What this stage is.
pub const SPEC: stage::Spec = stage::Spec { name: "local", version: 1, defaults: include_str!("../default.toml") };
