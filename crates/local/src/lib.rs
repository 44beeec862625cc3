//! Trains the local branch on the attended regions.
