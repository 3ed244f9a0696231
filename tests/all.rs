//! All integration tests, in one binary.

mod conformance;
mod house;
mod real_parts;
mod support;
