//! The on-disk contract: one module per Parquet table.
