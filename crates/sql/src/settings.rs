//! The settings of a session: Flink's names where Flink has one.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono_tz::{TZ_VARIANTS, Tz};
use thalweg_core::{Code, Diagnostic, OptionType, parse_duration};

use crate::statement::Literal;

/// What a setting does here.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SettingEffect {
    Works,
    /// Accepted so that Flink's files run unchanged; changes nothing here, for the reason given in the doc.
    None,
}

/// One setting: the single source for checks, `SET`, help and the reference page.
///
/// A `name` that ends in `*` stands for every name with that prefix.
#[derive(Clone, Copy, Debug)]
pub struct SettingDefinition {
    pub name: &'static str,
    pub kind: OptionType,
    /// `None` when the setting is unset by default.
    pub default: Option<&'static str>,
    pub effect: SettingEffect,
    pub doc: &'static str,
}

const fn works(name: &'static str, kind: OptionType, default: Option<&'static str>, doc: &'static str) -> SettingDefinition {
    SettingDefinition { name, kind, default, effect: SettingEffect::Works, doc }
}

const fn no_effect(name: &'static str, kind: OptionType, doc: &'static str) -> SettingDefinition {
    SettingDefinition { name, kind, default: None, effect: SettingEffect::None, doc }
}

use OptionType::{Boolean, Duration as Time, Enum, Integer, Text};

/// Every setting, by subject.
#[rustfmt::skip]
pub const SETTINGS: &[SettingDefinition] = &[
    works("execution.checkpointing.interval", Time, None, "The least time between two checkpoints; unset, 1 s for jobs that write topics and 10 s for others."),
    works("execution.checkpointing.dir", Text, None, "Where checkpoints are kept, such as file:///data/checkpoints or s3://bucket/path."),
    works("parallelism.default", Integer, None, "Number of lanes; one per core when unset."),
    works("table.dml-sync", Boolean, Some("false"), "Run each INSERT to its end before the next statement."),
    works("table.local-time-zone", Text, Some("UTC"), "Time zone of the session, an IANA name."),
    works("table.exec.source.idle-timeout", Time, Some("0 ms"), "After this long without rows a partition no longer holds the watermark back; 0 is never."),
    works("table.exec.sink.require-on-conflict", Boolean, Some("true"), "Whether an INSERT whose rows have another key than the sink's PRIMARY KEY must end with ON CONFLICT; if not, the last row of a key wins."),
    works("table.exec.state.ttl", Time, Some("0 ms"), "State that no watermark drops goes this long after its last change; 0 is never."),
    works("table.exec.unmatched-retractions", Enum(&["FAIL", "DROP"]), Some("FAIL"), "What becomes of a row that is taken back and is not there: it ends the job, or is dropped and counted. Not a setting of Flink, which drops it in silence."),
    works("table.dynamic-table-options.enabled", Boolean, Some("true"), "Whether OPTIONS hints may change the options of tables."),
    works("execution.runtime-mode", Enum(&["streaming", "batch", "automatic"]), Some("streaming"), "Only streaming runs; a bounded input ends the job."),
    works("execution.checkpointing.mode", Enum(&["EXACTLY_ONCE", "AT_LEAST_ONCE"]), Some("EXACTLY_ONCE"), "State is always exactly once; what a sink promises is its own option."),

    no_effect("execution.checkpointing.timeout", Time, "An epoch is never abandoned; the status shows how old the last one is."),
    no_effect("pipeline.name", Text, "There is no list of jobs yet that would show it."),
    no_effect("sql-client.execution.result-mode", Enum(&["table", "changelog", "tableau"]), "Rows are a table on a terminal and JSON lines elsewhere."),
    no_effect("sql-client.execution.max-table-result.rows", Integer, "The shell prints rows as they come and keeps none."),
    no_effect("pipeline.auto-watermark-interval", Time, "Watermarks are made after every row."),
    no_effect("pipeline.object-reuse", Boolean, "There are no row objects to reuse."),
    no_effect("pipeline.max-parallelism", Integer, "State is always cut into 128 key groups."),
    no_effect("pipeline.operator-chaining", Boolean, "Operators of a lane always run as one chain."),
    no_effect("pipeline.operator-chaining.enabled", Boolean, "Operators of a lane always run as one chain."),
    no_effect("execution.savepoint-dir", Text, "Checkpoints serve as savepoints."),
    no_effect("execution.checkpointing.savepoint-dir", Text, "Checkpoints serve as savepoints."),
    no_effect("execution.checkpointing.min-pause", Time, "Checkpoints never overlap."),
    no_effect("execution.checkpointing.max-concurrent-checkpoints", Integer, "Checkpoints never overlap."),
    no_effect("execution.checkpointing.tolerable-failed-checkpoints", Integer, "A checkpoint is tried again until its timeout."),
    no_effect("execution.checkpointing.externalized-checkpoint-retention", Text, "Checkpoints outlive the job."),
    no_effect("execution.checkpointing.num-retained", Integer, "See thalweg checkpoint delete."),
    no_effect("execution.checkpointing.unaligned", Boolean, "Barriers wait in bounded queues."),
    no_effect("execution.checkpointing.unaligned.enabled", Boolean, "Barriers wait in bounded queues."),
    no_effect("execution.checkpointing.incremental", Boolean, "Checkpoints are always incremental."),
    no_effect("execution.buffer-timeout", Time, "Batches are flushed when the input pauses."),
    no_effect("execution.target", Text, "There is one process and no cluster."),
    no_effect("execution.attached", Boolean, "There is one process and no cluster."),
    no_effect("execution.shutdown-on-attached-exit", Boolean, "There is one process and no cluster."),
    no_effect("state.backend", Text, "There is one kind of state."),
    no_effect("state.backend.type", Text, "There is one kind of state."),
    no_effect("state.backend.incremental", Boolean, "Checkpoints are always incremental."),
    no_effect("state.backend.rocksdb.*", Text, "There is one kind of state."),
    no_effect("state.checkpoints.dir", Text, "Flink's old name; use execution.checkpointing.dir."),
    no_effect("state.savepoints.dir", Text, "Checkpoints serve as savepoints."),
    no_effect("restart-strategy", Text, "A job stops on an error that trying again cannot help."),
    no_effect("restart-strategy.*", Text, "A job stops on an error that trying again cannot help."),
    no_effect("taskmanager.*", Text, "There is one process and no cluster."),
    no_effect("jobmanager.*", Text, "There is one process and no cluster."),
    no_effect("rest.*", Text, "There is one process and no cluster."),
    no_effect("metrics.*", Text, "See --http."),
    no_effect("sql-client.verbose", Boolean, "Errors always say what is known."),
    no_effect("sql-client.display.*", Text, "Results fit the terminal."),
    no_effect("table.sql-dialect", Enum(&["default", "hive"]), "There is one dialect."),
    no_effect("table.plan.force-recompile", Boolean, "Plans are always compiled."),
    no_effect("table.resources.download-dir", Text, "There are no jars."),
    no_effect("table.display.max-column-width", Integer, "Results fit the terminal."),
    no_effect("table.column-expansion-strategy", Text, "SELECT * gives every column."),
    no_effect("table.exec.mini-batch.enabled", Boolean, "Rows are always processed in batches."),
    no_effect("table.exec.mini-batch.allow-latency", Time, "Rows are always processed in batches."),
    no_effect("table.exec.mini-batch.size", Integer, "Rows are always processed in batches."),
    no_effect("table.exec.resource.default-parallelism", Integer, "Use parallelism.default."),
    no_effect("table.exec.sink.upsert-materialize", Enum(&["AUTO", "FORCE", "NONE"]), "Changes are netted per key at the sink."),
    no_effect("table.exec.sink.keyed-shuffle", Enum(&["AUTO", "FORCE", "NONE"]), "Rows reach a sink by key where it needs that."),
    no_effect("table.exec.sink.not-null-enforcer", Enum(&["ERROR", "DROP"]), "A null in a NOT NULL column of a sink is an error."),
    no_effect("table.exec.sink.type-length-enforcer", Enum(&["IGNORE", "TRIM_PAD", "ERROR"]), "Declared lengths are not enforced."),
    no_effect("table.exec.source.cdc-events-duplicate", Boolean, "Change formats do not run yet."),
    no_effect("table.exec.legacy-cast-behaviour", Text, "Casts follow the current rules."),
    no_effect("table.exec.rank.topn-cache-size", Integer, "Top-N keeps what it needs."),
    no_effect("table.exec.spill-compression.*", Text, "Nothing is spilled yet."),
    no_effect("table.exec.async-lookup.*", Text, "A lookup asks a table in memory."),
    no_effect("table.exec.simplify-operator-name-enabled", Boolean, "EXPLAIN prints what it knows."),
    no_effect("table.exec.uid.*", Text, "Operators always have stable ids."),
    no_effect("table.optimizer.*", Text, "Plans are made by our own rules."),
];

/// A value that was set.
#[derive(Clone, PartialEq, Eq)]
struct Entry {
    value: String,
    secret: bool,
}

/// The settings that differ from their defaults. `Debug` hides secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Settings {
    entries: BTreeMap<String, Entry>,
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.shown()).finish()
    }
}

impl Settings {
    pub fn new() -> Self {
        Settings::default()
    }

    /// The definition of `key`, exact names before prefixes.
    pub fn definition(key: &str) -> Option<&'static SettingDefinition> {
        SETTINGS.iter().find(|definition| definition.name == key).or_else(|| {
            SETTINGS.iter().find(|definition| {
                definition.name.strip_suffix('*').is_some_and(|prefix| key.starts_with(prefix) && key.len() > prefix.len())
            })
        })
    }

    /// Sets `key`, as `--set` and `thalweg.toml` do.
    ///
    /// # Errors
    /// `UNKNOWN_SETTING`, `BAD_SETTING`, `NOT_YET`, without a place.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), Diagnostic> {
        let value = check(key, value).map_err(|refusal| refusal.into_diagnostic(key, value, false))?;
        self.entries.insert(key.to_string(), Entry { value, secret: false });
        Ok(())
    }

    /// Sets as the statement `SET` says.
    ///
    /// # Errors
    /// As [`Settings::set`], with the place of the key or the value.
    pub fn set_literal(&mut self, key: &Literal, value: &Literal) -> Result<(), Diagnostic> {
        let checked = check(&key.value, &value.value).map_err(|refusal| {
            let (span, label) = match refusal {
                Refusal::Unknown => (key.span, "unknown setting"),
                Refusal::Bad(_) | Refusal::NotYet(_) => (value.span, "this value"),
            };
            refusal.into_diagnostic(&key.value, &value.value, value.secret).label(span, label)
        })?;
        self.entries.insert(key.value.clone(), Entry { value: checked, secret: value.secret });
        Ok(())
    }

    /// Back to the default.
    ///
    /// # Errors
    /// `UNKNOWN_SETTING` with the place of the key.
    pub fn reset(&mut self, key: &Literal) -> Result<(), Diagnostic> {
        if Settings::definition(&key.value).is_none() {
            return Err(Refusal::Unknown.into_diagnostic(&key.value, "", false).label(key.span, "unknown setting"));
        }
        self.entries.remove(&key.value);
        Ok(())
    }

    pub fn reset_all(&mut self) {
        self.entries.clear();
    }

    /// The value or default of `key`, if it has one.
    pub fn get(&self, key: &str) -> Option<&str> {
        match self.entries.get(key) {
            Some(entry) => Some(&entry.value),
            None => Settings::definition(key).and_then(|definition| definition.default),
        }
    }

    /// Whether `key` was given a value.
    pub fn is_set(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// The value of a duration; `None` when it is unset or zero, which is how Flink writes "never".
    pub fn duration(&self, key: &str) -> Option<Duration> {
        self.get(key).and_then(|value| parse_duration(value).ok()).filter(|duration| !duration.is_zero())
    }

    pub fn boolean(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| value.eq_ignore_ascii_case("true"))
    }

    pub fn integer(&self, key: &str) -> Option<i64> {
        self.get(key).and_then(|value| value.trim().parse().ok())
    }

    /// The session's time zone.
    pub fn time_zone(&self) -> Tz {
        self.get("table.local-time-zone").and_then(|name| name.parse().ok()).unwrap_or(Tz::UTC)
    }

    /// What was set, in order of name, fit to be shown: secrets are `***`.
    pub fn shown(&self) -> impl Iterator<Item = (&str, &str)> {
        self.entries.iter().map(|(key, entry)| (key.as_str(), if entry.secret { "***" } else { entry.value.as_str() }))
    }
}

/// Why a setting cannot be made.
enum Refusal {
    Unknown,
    /// What would be right.
    Bad(String),
    NotYet(&'static str),
}

impl Refusal {
    fn into_diagnostic(self, key: &str, value: &str, secret: bool) -> Diagnostic {
        let shown = if secret { "***" } else { value };
        match self {
            Refusal::Unknown => {
                let names = SETTINGS.iter().map(|definition| definition.name).filter(|name| !name.ends_with('*'));
                Diagnostic::error(Code::UNKNOWN_SETTING, format!("unknown setting \"{key}\"")).help_nearest(
                    key,
                    names,
                    Some("the reference lists all settings; table options belong into WITH".to_string()),
                )
            }
            Refusal::Bad(expected) => {
                Diagnostic::error(Code::BAD_SETTING, format!("setting \"{key}\" cannot be \"{shown}\"")).help(expected)
            }
            Refusal::NotYet(help) => {
                Diagnostic::error(Code::NOT_YET, format!("setting \"{key}\" cannot be \"{shown}\" yet")).help(help)
            }
        }
    }
}

/// The value in the form in which it is kept.
fn check(key: &str, value: &str) -> Result<String, Refusal> {
    let definition = Settings::definition(key).ok_or(Refusal::Unknown)?;
    let value = value.trim();
    if let Enum(words) = definition.kind
        && let Some(word) = words.iter().find(|word| word.eq_ignore_ascii_case(value))
    {
        // Flink does not care about the case of such words.
        if key == "execution.runtime-mode" && *word != "streaming" {
            return Err(Refusal::NotYet("leave it at streaming: a query over bounded input ends when the input does"));
        }
        return Ok((*word).to_string());
    }
    definition.kind.check(value).map_err(Refusal::Bad)?;
    match key {
        "table.local-time-zone" => check_time_zone(value),
        "parallelism.default" => match value.parse::<i64>() {
            Ok(1..=128) => Ok(value.to_string()),
            _ => Err(Refusal::Bad("use a whole number from 1 to 128".to_string())),
        },
        "execution.checkpointing.interval" | "execution.checkpointing.timeout" => match parse_duration(value) {
            Ok(duration) if !duration.is_zero() => Ok(value.to_string()),
            _ => Err(Refusal::Bad("use a duration longer than zero, such as '10 s'".to_string())),
        },
        _ => Ok(value.to_string()),
    }
}

fn check_time_zone(value: &str) -> Result<String, Refusal> {
    if let Ok(zone) = value.parse::<Tz>() {
        return Ok(zone.name().to_string());
    }
    let near = thalweg_core::nearest(value, TZ_VARIANTS.iter().map(|zone| zone.name()));
    Err(Refusal::Bad(match near {
        Some(near) => format!("did you mean \"{near}\"?"),
        None => "use an IANA name such as Europe/Berlin or UTC".to_string(),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_set(key: &str, value: &str, expected: Result<&str, &str>) {
        let mut settings = Settings::new();
        let result = settings.set(key, value).map_err(|finding| finding.one_line());
        let found = result.map(|()| settings.get(key).unwrap_or_default().to_string());
        assert_eq!(found, expected.map(str::to_string).map_err(str::to_string));
    }

    #[test]
    fn checks_names_and_values() {
        check_set("execution.checkpointing.interval", "5 s", Ok("5 s"));
        check_set("sql-client.execution.result-mode", "TABLEAU", Ok("tableau"));
        check_set("table.local-time-zone", "Europe/Berlin", Ok("Europe/Berlin"));
        check_set("table.optimizer.agg-phase-strategy", "ONE_PHASE", Ok("ONE_PHASE"));
        check_set(
            "execution.checkpointing.intervall",
            "5 s",
            Err(
                "error[TW0005]: unknown setting \"execution.checkpointing.intervall\" (did you mean \"execution.checkpointing.interval\"?)",
            ),
        );
        check_set(
            "table.local-time-zone",
            "Europe/Berlim",
            Err("error[TW0006]: setting \"table.local-time-zone\" cannot be \"Europe/Berlim\" (did you mean \"Europe/Berlin\"?)"),
        );
        check_set(
            "execution.checkpointing.interval",
            "soon",
            Err(
                "error[TW0006]: setting \"execution.checkpointing.interval\" cannot be \"soon\" (use a number with a unit, such as '10 s', '500 ms' or '5 min')",
            ),
        );
        check_set(
            "parallelism.default",
            "0",
            Err("error[TW0006]: setting \"parallelism.default\" cannot be \"0\" (use a whole number from 1 to 128)"),
        );
        check_set(
            "execution.runtime-mode",
            "BATCH",
            Err(
                "error[TW0002]: setting \"execution.runtime-mode\" cannot be \"BATCH\" yet (leave it at streaming: a query over bounded input ends when the input does)",
            ),
        );
    }

    #[test]
    fn defaults_and_zero_durations() {
        let settings = Settings::new();
        assert_eq!(settings.duration("execution.checkpointing.interval"), None, "it depends on what the job writes");
        assert_eq!(settings.duration("table.exec.state.ttl"), None);
        assert_eq!(settings.time_zone(), Tz::UTC);
        assert!(!settings.boolean("table.dml-sync"));
    }

    #[test]
    fn definitions_are_unique_and_their_defaults_are_right() {
        for definition in SETTINGS {
            assert_eq!(SETTINGS.iter().filter(|other| other.name == definition.name).count(), 1, "{}", definition.name);
            if let Some(default) = definition.default {
                assert!(check(definition.name, default).is_ok(), "{}", definition.name);
            }
        }
    }
}
