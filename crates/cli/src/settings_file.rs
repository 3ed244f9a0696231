//! Settings from outside the SQL: `thalweg.toml` in the working folder, then `THALWEG_*` variables; the command line wins.

use thalweg_core::{Code, Diagnostic, Result};

/// Keys and values in the order in which they apply.
///
/// In the file, nested tables and dotted keys are the same: `[execution] checkpointing.interval = "10 s"`. A variable's name
/// is the setting's in capitals with `_` for `.` and `-`: `THALWEG_PARALLELISM_DEFAULT`.
/// # Errors
/// `TW0006` when the file is not TOML, `TW0005` for a variable that names no setting.
pub fn settings() -> Result<Vec<(String, String)>, Diagnostic> {
    let mut found = vec![];
    if let Ok(text) = std::fs::read_to_string("thalweg.toml") {
        let table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            Diagnostic::error(Code::BAD_SETTING, format!("thalweg.toml is not valid TOML: {}", error.message()))
                .help("settings are written as key = \"value\"")
        })?;
        flatten("", &table, &mut found)?;
    }
    for (name, value) in std::env::vars() {
        if let Some(name) = name.strip_prefix("THALWEG_") {
            let definition = thalweg_sql::SETTINGS.iter().find(|setting| variable_name(setting.name) == name);
            let setting = definition.ok_or_else(|| {
                let names: Vec<String> = thalweg_sql::SETTINGS.iter().map(|setting| variable_name(setting.name)).collect();
                Diagnostic::error(Code::UNKNOWN_SETTING, format!("environment variable THALWEG_{name} names no setting"))
                    .help_nearest(name, names.iter().map(String::as_str), None)
            })?;
            found.push((setting.name.to_string(), value));
        }
    }
    Ok(found)
}

fn variable_name(key: &str) -> String {
    key.to_uppercase().replace(['.', '-'], "_")
}

fn flatten(prefix: &str, table: &toml::Table, found: &mut Vec<(String, String)>) -> Result<(), Diagnostic> {
    for (key, value) in table {
        let key = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match value {
            toml::Value::Table(inner) => flatten(&key, inner, found)?,
            toml::Value::String(text) => found.push((key, text.clone())),
            toml::Value::Integer(number) => found.push((key, number.to_string())),
            toml::Value::Boolean(switch) => found.push((key, switch.to_string())),
            _ => {
                return Err(Diagnostic::error(Code::BAD_SETTING, format!("setting \"{key}\" in thalweg.toml is not a text"))
                    .help("write the value in quotes"));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_and_dotted_keys_are_the_same() {
        let mut found = vec![];
        flatten("", &"parallelism.default = 2\n[execution.checkpointing]\ninterval = \"5 s\"".parse().unwrap(), &mut found)
            .unwrap();
        let expected = [("execution.checkpointing.interval", "5 s"), ("parallelism.default", "2")];
        let mut found: Vec<(&str, &str)> = found.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        found.sort_unstable();
        assert_eq!(found, expected);
    }
}
