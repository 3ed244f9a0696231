//! Names of objects below a job's prefix. They are part of the checkpoint format, see `docs/checkpoint-format.md`.

use thalweg_core::{Epoch, Error, Generation, LaneId, Result};

/// The folder of manifests.
pub(crate) const MANIFEST_FOLDER: &str = "manifest";

/// What a data object holds, which decides its folder.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ObjectKind {
    /// Operator state, under `state/`.
    State,
    /// Output of an epoch that waits for delivery, under `out/`.
    Output,
}

impl ObjectKind {
    pub(crate) const ALL: [ObjectKind; 2] = [ObjectKind::State, ObjectKind::Output];

    pub(crate) fn folder(self) -> &'static str {
        match self {
            ObjectKind::State => "state",
            ObjectKind::Output => "out",
        }
    }
}

/// `manifest/<sequence, 20 digits>`, so that names sort as numbers do.
pub(crate) fn manifest_name(sequence: u64) -> String {
    format!("{MANIFEST_FOLDER}/{sequence:020}")
}

/// The sequence in the last part of a manifest's name; `None` for anything else that lies in the folder.
pub(crate) fn manifest_sequence(filename: &str) -> Option<u64> {
    let is_number = filename.len() == 20 && filename.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { filename.parse().ok() } else { None }
}

/// `<folder>/g<generation>-e<epoch>-l<lane>-<unique>`.
/// # Errors
/// `Internal` when `unique` holds anything but ASCII letters, digits, `-` and `_`, or nothing.
pub(crate) fn data_name(kind: ObjectKind, generation: Generation, epoch: Epoch, lane: LaneId, unique: &str) -> Result<String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    if unique.is_empty() || !unique.bytes().all(is_plain) {
        return Err(Error::internal(format!("\"{unique}\" cannot be part of an object name")));
    }
    Ok(format!("{}/g{:010}-e{:012}-l{:04}-{unique}", kind.folder(), generation.0, epoch.0, lane.0))
}

/// The generation in the last part of a data object's name; `None` for a name that [`data_name`] did not make.
pub(crate) fn data_generation(filename: &str) -> Option<Generation> {
    let (generation, _) = filename.strip_prefix('g')?.split_once("-e")?;
    generation.parse().ok().map(Generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_sort_as_numbers() {
        assert_eq!(manifest_name(7), "manifest/00000000000000000007");
        assert!(manifest_name(9) < manifest_name(10));
        assert_eq!(manifest_sequence("00000000000000000007"), Some(7));
        assert_eq!(manifest_sequence("00000000000000000007.tmp-1"), None);
        assert_eq!(manifest_sequence("+0000000000000000007"), None);
        assert_eq!(manifest_sequence("99999999999999999999"), None, "more than 64 bits");
    }

    #[test]
    fn data_names_tell_their_generation() {
        let name = data_name(ObjectKind::Output, Generation(3), Epoch(17), LaneId(2), "ab12").unwrap();
        assert_eq!(name, "out/g0000000003-e000000000017-l0002-ab12");
        assert_eq!(data_generation(name.strip_prefix("out/").unwrap()), Some(Generation(3)));
        assert_eq!(data_generation("notes.txt"), None);
        assert!(data_name(ObjectKind::State, Generation(3), Epoch(1), LaneId(0), "../x").is_err());
        assert!(data_name(ObjectKind::State, Generation(3), Epoch(1), LaneId(0), "").is_err());
    }
}
