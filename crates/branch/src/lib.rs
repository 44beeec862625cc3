//! What global and local share: a branch trains on pictures and writes weights, features, predictions and epochs.
