//! `CREATE TABLE … LIKE`: what is taken from the other table.
//!
//! Flink's rules: by default everything is included, and options given here win. INCLUDING of a part that is also declared here
//! is an error, EXCLUDING leaves the other table's out, OVERWRITING lets the one declared here win.

use thalweg_core::{Code, Column, ColumnKind, Diagnostic, TableDefinition};

use crate::statement::{LikeClause, LikeFeature, LikeMerge};

/// The parts of the other table that go in front of what is declared.
pub(crate) struct Inherited {
    pub definition: TableDefinition,
    /// A column that is computed or metadata may be declared again.
    pub overwrite_generated: bool,
    pub overwrite_metadata: bool,
    pub overwrite_watermark: bool,
    pub overwrite_options: bool,
}

/// How `feature` is to be merged: what is said of it, else what is said of ALL, else Flink's default.
fn merge_of(like: &LikeClause, feature: LikeFeature) -> LikeMerge {
    let said = |feature| like.options.iter().find(|option| option.feature == feature).map(|option| option.merge);
    said(feature).or_else(|| said(LikeFeature::All)).unwrap_or(match feature {
        LikeFeature::Options => LikeMerge::Overwriting,
        _ => LikeMerge::Including,
    })
}

/// What `like` takes of `other`.
///
/// # Errors
/// `DUPLICATE_NAME` when the clause speaks twice of one part.
pub(crate) fn inherit(like: &LikeClause, other: &TableDefinition) -> Result<Inherited, Diagnostic> {
    for (index, option) in like.options.iter().enumerate() {
        if like.options[..index].iter().any(|earlier| earlier.feature == option.feature) {
            return Err(Diagnostic::error(Code::DUPLICATE_NAME, "LIKE speaks twice of the same part of a table")
                .label(option.span, "second time")
                .help("keep one of INCLUDING, EXCLUDING and OVERWRITING for each part"));
        }
    }
    let excluded = |feature| merge_of(like, feature) == LikeMerge::Excluding;
    let overwriting = |feature| merge_of(like, feature) == LikeMerge::Overwriting;
    let mut definition = other.clone();
    definition.columns.retain(|column| match column.kind {
        ColumnKind::Physical => true,
        ColumnKind::Metadata { .. } => !excluded(LikeFeature::Metadata),
        ColumnKind::Computed { .. } => !excluded(LikeFeature::Generated),
    });
    // Places in the other table's text would point at the wrong words here.
    definition.columns = definition.columns.into_iter().map(|column| Column { span: None, ..column }).collect();
    if excluded(LikeFeature::Constraints) {
        definition.primary_key.clear();
    }
    if excluded(LikeFeature::Watermarks) {
        definition.watermark = None;
    }
    if let Some(watermark) = &mut definition.watermark {
        watermark.span = None;
    }
    if excluded(LikeFeature::Options) {
        definition.options = thalweg_core::Options::new();
    }
    if excluded(LikeFeature::Partitions) {
        definition.partitioned_by.clear();
    }
    Ok(Inherited {
        definition,
        overwrite_generated: overwriting(LikeFeature::Generated),
        overwrite_metadata: overwriting(LikeFeature::Metadata),
        overwrite_watermark: overwriting(LikeFeature::Watermarks),
        overwrite_options: overwriting(LikeFeature::Options),
    })
}
