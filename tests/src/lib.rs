//! The one integration-test package; the tests are in `all.rs` and the modules beside it.
