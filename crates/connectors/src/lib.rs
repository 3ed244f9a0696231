//! What talks to the world: connectors, formats and object stores.
//!
//! [`registry`] says what there is and opens it; everything else is reached through `thalweg_core`'s traits.

pub mod blackhole;
pub mod datagen;
pub mod embedded;
pub mod filesystem;
pub mod format;
pub mod full_lookup;
pub mod kafka;
pub mod memory;
pub mod output_frames;
pub mod print;
pub mod registry;
pub mod store;

mod rows;

pub use registry::{Environment, FILE_FORMATS, REGISTRY, REGISTRY_WITH_MEMORY, lookup, sink, source};
