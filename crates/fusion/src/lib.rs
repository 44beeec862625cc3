//! Trains the fusion layer on the features of both branches.
