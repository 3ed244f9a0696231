//! thalweg-runtime.
