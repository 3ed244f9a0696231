//! The `thalweg` program as a library.
