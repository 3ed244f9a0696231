//! What talks to the world: connectors, formats and object stores.
//!
//! [`registry`] says what there is and opens it; everything else is reached through `thalweg_core`'s traits.

pub mod blackhole;
pub mod datagen;
pub mod filesystem;
pub mod memory;
pub mod print;
pub mod registry;
pub mod store;

mod rows;
