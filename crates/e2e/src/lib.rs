//! Tests only: the whole pipeline on tiny data.
