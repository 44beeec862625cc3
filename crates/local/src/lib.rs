//! `local` trains the second branch of AG-CNN on attended regions (Guan et al., arXiv 1801.09927, section III-A).
//!
//! The work is done by [`branch`], which `global` shares; what is particular to this stage is its recipe, `default.toml`.

/// What this stage is.
pub const SPEC: stage::Spec = stage::Spec {
    name: "local",
    version: 3,
    seeded: true,
    defaults: include_str!("../default.toml"),
    about: "Train the local branch on the attended regions

Reads the crops in attend/regions; writes weights.safetensors, features.parquet, predictions.parquet and epochs.parquet. Ctrl-C saves the step and ends; the same command continues from there. A training that the store has, of whatever run, is not repeated; more epochs continue it.",
};
