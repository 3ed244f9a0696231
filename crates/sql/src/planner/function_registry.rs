//! Finds functions by name: ours first, then DataFusion's.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};

use super::{aggregate_function, window_function};

/// DataFusion's functions of the current time become constants in its optimizer, which is wrong in a query that runs for
/// days: only ours are offered.
const CURRENT_TIME: &[&str] = &["now", "current_timestamp", "current_date", "current_time", "today"];

/// The functions of a session. Names are matched without regard to case.
#[derive(Debug)]
pub(crate) struct FunctionRegistry {
    scalar: HashMap<String, Arc<ScalarUDF>>,
    aggregate: HashMap<String, Arc<AggregateUDF>>,
    window: HashMap<String, Arc<WindowUDF>>,
    /// Of all functions, upper case, sorted.
    names: Vec<String>,
}

impl FunctionRegistry {
    pub(crate) fn new(ours: &[Arc<ScalarUDF>]) -> Self {
        let mut scalar = HashMap::new();
        let theirs = datafusion::functions::all_default_functions()
            .into_iter()
            .chain(datafusion::functions_nested::all_default_nested_functions());
        for function in theirs {
            let names = function.aliases().iter().map(String::as_str).chain([function.name()]);
            for name in names.filter(|name| !CURRENT_TIME.contains(name)) {
                scalar.insert(name.to_lowercase(), function.clone());
            }
        }
        // Names first, then aliases: an alias of a later function must not hide an earlier function.
        let mut ours_by_name: HashMap<String, Arc<ScalarUDF>> = HashMap::new();
        for function in ours {
            ours_by_name.entry(function.name().to_lowercase()).or_insert_with(|| function.clone());
        }
        for function in ours {
            for alias in function.aliases().iter().filter(|alias| !CURRENT_TIME.contains(&alias.as_str())) {
                ours_by_name.entry(alias.to_lowercase()).or_insert_with(|| function.clone());
            }
        }
        scalar.extend(ours_by_name);
        let aggregate: HashMap<_, _> =
            aggregate_function::all().into_iter().map(|function| (function.name().to_lowercase(), function)).collect();
        let window: HashMap<_, _> =
            window_function::all().into_iter().map(|function| (function.name().to_lowercase(), function)).collect();
        let mut names: Vec<String> =
            scalar.keys().chain(aggregate.keys()).chain(window.keys()).map(|name| name.to_uppercase()).collect();
        names.sort_unstable();
        names.dedup();
        FunctionRegistry { scalar, aggregate, window, names }
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.scalar(name).is_some() || self.aggregate(name).is_some() || self.window(name).is_some()
    }

    /// A function that needs OVER.
    pub(crate) fn window(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.window.get(&name.to_lowercase()).cloned()
    }

    pub(crate) fn scalar(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.scalar.get(&name.to_lowercase()).cloned()
    }

    pub(crate) fn aggregate(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.aggregate.get(&name.to_lowercase()).cloned()
    }

    pub(crate) fn names(&self) -> &[String] {
        &self.names
    }
}
