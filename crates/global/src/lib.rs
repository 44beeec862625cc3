//! Trains the global branch on whole images.
