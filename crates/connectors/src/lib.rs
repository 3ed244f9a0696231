//! thalweg-connectors.
