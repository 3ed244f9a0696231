//! The scalar functions of the dialect: Flink's by name and meaning, then DataFusion's.
//!
//! - A function is a [`definition::Definition`] in the table of its group: [`text`], [`number`], [`time`] and so on.
//! - Syntax that is more than a call (`FLOOR(at TO DAY)`, `CAST`) is made into calls by [`rewrite::rewrite`].
//! - Operators whose meaning differs from DataFusion's are replaced by [`expr_planner::expr_planners`].

mod arguments;
mod calendar;
mod cast;
mod clock;
mod collection;
mod conditional;
mod decimal;
mod definition;
mod digest;
mod encoding;
pub mod expr_planner;
mod float;
mod integer;
mod json;
mod json_path;
mod number;
mod number_text;
mod printf;
mod regexp;
pub mod rewrite;
mod rounding;
pub mod sql_type;
mod text;
mod text_position;
mod time;
mod time_arithmetic;
mod time_field;
mod time_parse;
mod time_pattern;
mod url;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use datafusion::logical_expr::ScalarUDF;
use thalweg_core::Clock;

use definition::{Definition, FlinkFunction};

/// What functions may know of the job.
#[derive(Clone)]
pub struct FunctionContext {
    /// From `table.local-time-zone`: in which TIMESTAMP_LTZ is shown and taken apart.
    pub time_zone: chrono_tz::Tz,
    pub clock: Arc<dyn Clock>,
}

impl fmt::Debug for FunctionContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.time_zone)
    }
}

/// Every scalar function: Flink's first, then those of DataFusion whose name is not taken.
///
/// Names are lower case. An alias of a DataFusion function may be the name of an earlier function: whoever fills a map from
/// names and aliases keeps the first.
pub fn all(context: &FunctionContext) -> Vec<Arc<ScalarUDF>> {
    let ours = definitions();
    let mut taken: HashSet<String> = ours.iter().map(|definition| definition.name.to_string()).collect();
    let mut theirs = vec![];
    let mut aliases: HashMap<String, Vec<String>> = HashMap::new();
    for function in datafusion::functions::all_default_functions()
        .into_iter()
        .chain(datafusion::functions_nested::all_default_nested_functions())
    {
        if taken.insert(function.name().to_lowercase()) {
            theirs.push(function);
        } else {
            aliases.entry(function.name().to_lowercase()).or_default().extend(function.aliases().iter().cloned());
        }
    }
    let ours = ours.into_iter().map(|definition| {
        // Who replaces a function of DataFusion takes over its other names, unless they have a function of their own.
        let names = aliases.remove(definition.name).unwrap_or_default();
        let names = names.into_iter().filter(|name| !taken.contains(name)).collect();
        Arc::new(ScalarUDF::new_from_impl(FlinkFunction::new(definition, context.clone()).with_aliases(names)))
    });
    ours.collect::<Vec<_>>().into_iter().chain(theirs).collect()
}

/// The names and aliases of every scalar function, sorted, for suggestions.
pub fn names() -> Vec<String> {
    let context = FunctionContext { time_zone: chrono_tz::UTC, clock: Arc::new(thalweg_core::ManualClock::default()) };
    let mut names: Vec<String> = all(&context)
        .iter()
        .flat_map(|function| std::iter::once(function.name().to_string()).chain(function.aliases().iter().cloned()))
        .collect();
    names.sort();
    names.dedup();
    names
}

/// The tables of all groups.
fn definitions() -> Vec<Definition> {
    let mut definitions = vec![];
    definitions.extend(text::definitions());
    definitions.extend(text_position::definitions());
    definitions.extend(regexp::definitions());
    definitions.extend(digest::definitions());
    definitions.extend(encoding::definitions());
    definitions.extend(url::definitions());
    definitions.extend(printf::definitions());
    definitions.extend(number::definitions());
    definitions.extend(rounding::definitions());
    definitions.extend(decimal::definitions());
    definitions.extend(float::definitions());
    definitions.extend(integer::definitions());
    definitions.extend(conditional::definitions());
    definitions.extend(time::definitions());
    definitions.extend(time_field::definitions());
    definitions.extend(time_arithmetic::definitions());
    definitions.extend(clock::definitions());
    definitions.extend(cast::definitions());
    definitions.extend(collection::definitions());
    definitions.extend(json::definitions());
    definitions
}

#[cfg(test)]
mod tests;
