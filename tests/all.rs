//! All integration tests, in one binary.

#![allow(clippy::disallowed_methods, reason = "tests bound their waiting by the machine's clock")]

mod bad_input;
mod command_line;
mod conformance;
mod diagnostics;
mod docker;
mod exactly_once;
mod examples;
mod house;
mod lookups;
mod nexmark;
mod pairs;
mod properties;
mod real_parts;
mod slt;
mod support;
mod upserts;
