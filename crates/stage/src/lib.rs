//! Configuration layers, manifest, atomic publish, logging, progress, exit codes.
