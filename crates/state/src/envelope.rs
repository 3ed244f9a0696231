//! The text of a manifest object: one JSON document whose last member is a checksum of everything before it.
//!
//! ```text
//! {"format_version":1,"body":{…},"xxh3":"<32 hex digits>"}\n
//! ```
//!
//! This outer form is the same in every version, so that an older binary can tell "newer" from "damaged" and whose it is.

use serde::Deserialize;
use thalweg_core::{Error, Generation, Result};

use crate::checksum::xxh3_hex;
use crate::{FORMAT_VERSION, Manifest};

const CHECKSUM_OPEN: &str = ",\"xxh3\":\"";
const CHECKSUM_CLOSE: &str = "\"}\n";
const CHECKSUM_DIGITS: usize = 32;

/// How many versions before [`FORMAT_VERSION`] can be read.
const OLDER_VERSIONS: u32 = 2;

/// A manifest object whose checksum is right.
#[derive(Debug)]
pub(crate) enum StoredManifest {
    Known(Box<Manifest>),
    /// Written by a version of Thalweg with another format. The owner is known all the same, for fencing.
    OtherFormat {
        format_version: u32,
        owner: ManifestOwner,
    },
}

/// Which run made a manifest.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
pub(crate) struct ManifestOwner {
    pub generation: Generation,
    pub nonce: String,
}

impl StoredManifest {
    pub(crate) fn owner(&self) -> ManifestOwner {
        match self {
            StoredManifest::Known(manifest) => ManifestOwner { generation: manifest.generation, nonce: manifest.nonce.clone() },
            StoredManifest::OtherFormat { owner, .. } => owner.clone(),
        }
    }

    /// The manifest, when this version of Thalweg can use it. `name` is for the message.
    /// # Errors
    /// `User`, as another version of Thalweg is needed.
    pub(crate) fn into_known(self, name: &str) -> Result<Manifest> {
        match self {
            StoredManifest::Known(manifest) => Ok(*manifest),
            StoredManifest::OtherFormat { format_version, .. } if format_version > FORMAT_VERSION => Err(Error::user(format!(
                "checkpoint \"{name}\" was written by a newer Thalweg: it has format {format_version}, \
                     and this version reads up to {FORMAT_VERSION}"
            ))
            .with_help("run the newer version again, or start in another checkpoint directory")),
            StoredManifest::OtherFormat { format_version, .. } => Err(Error::user(format!(
                "checkpoint \"{name}\" has format {format_version}, which is too old for this version of Thalweg"
            ))
            .with_help("run a version in between once; each reads the two formats before its own")),
        }
    }
}

/// The bytes to store for `manifest`.
/// # Errors
/// `Internal` when the text would not read back as the same manifest.
pub(crate) fn encode(manifest: &Manifest) -> Result<Vec<u8>> {
    let body = serde_json::to_string(manifest)
        .map_err(|error| Error::internal("a manifest cannot be written as JSON").with_cause(error))?;
    let mut text = format!("{{\"format_version\":{},\"body\":{body}", manifest.format_version);
    let checksum = xxh3_hex(text.as_bytes());
    text.push_str(CHECKSUM_OPEN);
    text.push_str(&checksum);
    text.push_str(CHECKSUM_CLOSE);
    match decode("manifest to be written", text.as_bytes())? {
        StoredManifest::Known(read) if *read == *manifest => Ok(text.into_bytes()),
        _ => Err(Error::internal("a manifest does not read back as it was written")),
    }
}

/// Reads what [`encode`] wrote. `name` is for messages.
/// # Errors
/// `Corrupt` for anything whose checksum is not right, such as an empty, torn or edited object.
pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<StoredManifest> {
    let text = checked_text(bytes).map_err(|what| damaged(name, what))?;
    let head: Head =
        serde_json::from_str(text).map_err(|error| damaged(name, "it is not in the form of a manifest").with_cause(error))?;
    if head.format_version > FORMAT_VERSION || head.format_version < FORMAT_VERSION.saturating_sub(OLDER_VERSIONS).max(1) {
        return Ok(StoredManifest::OtherFormat { format_version: head.format_version, owner: head.body });
    }
    let whole: Whole =
        serde_json::from_str(text).map_err(|error| damaged(name, "a member is missing or wrong").with_cause(error))?;
    if whole.body.format_version != head.format_version {
        return Err(damaged(name, "its two format versions differ"));
    }
    Ok(StoredManifest::Known(whole.body))
}

#[derive(Deserialize)]
struct Head {
    format_version: u32,
    body: ManifestOwner,
}

#[derive(Deserialize)]
struct Whole {
    body: Box<Manifest>,
}

/// The text of an object whose checksum is right, else what is wrong with it.
fn checked_text(bytes: &[u8]) -> Result<&str, &'static str> {
    if bytes.is_empty() {
        return Err("it is empty");
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not text")?;
    let torn = "it does not end in a checksum";
    let rest = text.strip_suffix(CHECKSUM_CLOSE).ok_or(torn)?;
    let (rest, checksum) = rest.len().checked_sub(CHECKSUM_DIGITS).and_then(|at| rest.split_at_checked(at)).ok_or(torn)?;
    let checked = rest.strip_suffix(CHECKSUM_OPEN).ok_or(torn)?;
    if xxh3_hex(checked.as_bytes()) == checksum { Ok(text) } else { Err("its checksum does not match") }
}

fn damaged(name: &str, what: &str) -> Error {
    Error::corrupt(format!("checkpoint object \"{name}\" is damaged: {what}")).with_help(
        "bring this object back from a copy of the bucket or disk (manifests never change, any copy is right); \
         an older manifest is not used by itself, as output delivered since then would be delivered again",
    )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use thalweg_core::{Epoch, ErrorKind};

    use super::*;
    use crate::test_support::sample_manifest;

    fn with_checksum(text: &str) -> Vec<u8> {
        format!("{text}{CHECKSUM_OPEN}{}{CHECKSUM_CLOSE}", xxh3_hex(text.as_bytes())).into_bytes()
    }

    #[test]
    fn a_manifest_reads_back_and_is_plain_json() {
        let manifest = sample_manifest(7);
        let bytes = encode(&manifest).unwrap();
        assert_eq!(decode("m", &bytes).unwrap().into_known("m").unwrap(), manifest);
        let json: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(json["body"]["sequence"], 7);
        assert_eq!(json["format_version"], FORMAT_VERSION);
    }

    #[test]
    fn a_newer_format_names_its_owner_and_is_refused() {
        let text = r#"{"format_version":99,"body":{"generation":4,"nonce":"n","shape":"unknown"}"#;
        let stored = decode("manifest/9", &with_checksum(text)).unwrap();
        assert_eq!(stored.owner(), ManifestOwner { generation: Generation(4), nonce: "n".to_string() });
        let error = stored.into_known("manifest/9").unwrap_err();
        assert_eq!(error.kind, ErrorKind::User);
        assert!(error.message.contains("written by a newer Thalweg"), "{}", error.message);
    }

    #[test]
    fn a_document_of_another_shape_is_damaged() {
        for text in ["{}", r#"{"format_version":1}"#, r#"{"format_version":1,"body":{"generation":1,"nonce":""}"#] {
            assert_eq!(decode("m", &with_checksum(text)).unwrap_err().kind, ErrorKind::Corrupt, "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_changed_byte_is_noticed(at in 0usize..10_000, flip in 1u8..=255) {
            let mut bytes = encode(&sample_manifest(3)).unwrap();
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert_eq!(decode("m", &bytes).unwrap_err().kind, ErrorKind::Corrupt);
        }

        #[test]
        fn any_shortened_object_is_noticed(keep in 0usize..10_000) {
            let bytes = encode(&sample_manifest(3)).unwrap();
            let kept = &bytes[..keep % bytes.len()];
            prop_assert_eq!(decode("m", kept).unwrap_err().kind, ErrorKind::Corrupt);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(decode("m", &bytes).is_err());
        }
    }

    #[test]
    fn epochs_of_any_size_survive() {
        let mut manifest = sample_manifest(1);
        manifest.epoch = Epoch(u64::MAX);
        manifest.created_ms = i64::MIN;
        let bytes = encode(&manifest).unwrap();
        assert_eq!(decode("m", &bytes).unwrap().into_known("m").unwrap(), manifest);
    }
}
