//! thalweg-connectors.

pub mod embedded;
pub mod kafka;
pub mod output_frames;
