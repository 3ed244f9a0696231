//! House rules, checked: who may depend on whom, one copy of each big library, a page for each error code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the tests live in the workspace").to_path_buf()
}

/// The table of `docs/architecture.md`: crate, crates it may depend on. Everything may use core.
const MAY_DEPEND_ON: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("plan", &["core"]),
    ("sql", &["core", "plan"]),
    ("state", &["core"]),
    ("ops", &["core", "plan", "state"]),
    ("connectors", &["core"]),
    ("runtime", &["core", "ops", "plan", "state"]),
    ("sim", &["core", "plan", "state", "ops", "sql", "connectors", "runtime"]),
    ("cli", &["core", "plan", "sql", "state", "ops", "connectors", "runtime"]),
];

#[test]
fn crates_depend_only_on_those_below_them() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo metadata prints JSON");
    let mut seen = BTreeSet::new();
    for package in metadata["packages"].as_array().expect("there are packages") {
        let name = package["name"].as_str().expect("packages have names").trim_start_matches("thalweg-");
        let Some((_, allowed)) = MAY_DEPEND_ON.iter().find(|(crate_name, _)| *crate_name == name) else { continue };
        seen.insert(name.to_string());
        for dependency in package["dependencies"].as_array().expect("dependencies are a list") {
            let dependency = dependency["name"].as_str().expect("dependencies have names");
            if dependency == "rdkafka" {
                assert_eq!(name, "connectors", "only connectors links rdkafka, but {name} does: crates/{name}/Cargo.toml");
            }
            let Some(ours) = dependency.strip_prefix("thalweg-") else { continue };
            assert!(allowed.contains(&ours), "crate {name} may not depend on {ours}: see the table in docs/architecture.md");
        }
    }
    assert_eq!(seen.len(), MAY_DEPEND_ON.len(), "every crate of the table exists");
}

#[test]
fn one_version_of_each_big_library() {
    let lock = fs::read_to_string(root().join("Cargo.lock")).expect("the lock file is committed");
    for library in ["datafusion", "arrow", "parquet", "object_store", "sqlparser", "rdkafka"] {
        let copies = lock.matches(&format!("name = \"{library}\"\n")).count();
        assert_eq!(copies, 1, "{library} is in Cargo.lock {copies} times; its users must agree on a version");
    }
}

#[test]
fn every_error_code_has_a_page() {
    let pages = root().join("docs/errors");
    for info in thalweg_core::CODES {
        let path = pages.join(format!("{}.md", info.code));
        let page = fs::read_to_string(&path).unwrap_or_else(|_| panic!("write {} (cause, example, fixes)", path.display()));
        assert!(page.starts_with(&format!("# {}: {}\n", info.code, info.title)), "{} begins with its title", path.display());
        for part in ["## Cause", "## Example", "## Fix"] {
            assert!(page.contains(part), "{} has no part {part}", path.display());
        }
    }
    for entry in fs::read_dir(&pages).expect("docs/errors exists") {
        let name = entry.expect("the folder can be read").file_name().into_string().expect("names are UTF-8");
        let known = thalweg_core::CODES.iter().any(|info| name == format!("{}.md", info.code));
        assert!(known, "docs/errors/{name} describes no code of crates/core/src/code.rs");
    }
}

#[test]
fn every_connector_option_is_documented() {
    let registry = &thalweg_connectors::REGISTRY;
    for connector in registry.connectors {
        let path = root().join(format!("docs/connectors/{}.md", connector.name));
        let page = fs::read_to_string(&path).unwrap_or_else(|_| panic!("write {}", path.display()));
        for option in connector.options {
            assert!(page.contains(&format!("`{}`", option.name)), "{} does not mention option `{}`", path.display(), option.name);
        }
        for key in connector.metadata {
            assert!(page.contains(&format!("`{}`", key.key)), "{} does not mention metadata `{}`", path.display(), key.key);
        }
    }
    let path = root().join("docs/connectors/formats.md");
    let page = fs::read_to_string(&path).unwrap_or_else(|_| panic!("write {}", path.display()));
    for format in registry.formats {
        for option in format.options {
            let name = format!("{}.{}", format.name, option.name);
            assert!(page.contains(&format!("`{name}`")), "{} does not mention option `{name}`", path.display());
        }
    }
}
