//! Reads the NIH files and writes one Parquet row per image.
