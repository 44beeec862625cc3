//! Differentiable candle operators that upstream lacks or has slow or wrong.
