//! Metrics with intervals, figures and one HTML page.
