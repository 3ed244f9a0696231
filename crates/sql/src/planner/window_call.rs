//! `TUMBLE`, `HOP`, `CUMULATE` and `SESSION` in FROM, with positional or named arguments, with or without `TABLE( )` around them.

use std::sync::Arc;

use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr as LogicalExpr, Extension, LogicalPlan, LogicalPlanBuilder};
use datafusion::sql::sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor,
};
use thalweg_core::{Code, Diagnostic, Span};
use thalweg_plan::WindowKind;

use super::error::{finding, refuse, unknown_column};
use super::span;
use super::window_node::{CallKind, WINDOW_COLUMNS, WindowCall, WindowNode};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum WindowFunction {
    Tumble,
    Hop,
    Cumulate,
    Session,
    /// HOP of GROUP BY, see [`super::group_window`].
    GroupHop,
}

/// The name under which HOP of GROUP BY becomes a call in FROM.
pub(crate) const GROUP_HOP: &str = "GROUP HOP";

impl WindowFunction {
    pub(crate) fn from_name(name: &str) -> Option<Self> {
        match name.trim_matches('`').to_uppercase().as_str() {
            "TUMBLE" => Some(WindowFunction::Tumble),
            "HOP" => Some(WindowFunction::Hop),
            "CUMULATE" => Some(WindowFunction::Cumulate),
            "SESSION" => Some(WindowFunction::Session),
            GROUP_HOP => Some(WindowFunction::GroupHop),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            WindowFunction::Tumble => "TUMBLE",
            WindowFunction::Hop | WindowFunction::GroupHop => "HOP",
            WindowFunction::Cumulate => "CUMULATE",
            WindowFunction::Session => "SESSION",
        }
    }

    /// The names of the arguments in their positions. The last one may be left out where it is OFFSET.
    fn parameters(self) -> &'static [&'static str] {
        match self {
            WindowFunction::Tumble => &["DATA", "TIMECOL", "SIZE", "OFFSET"],
            WindowFunction::Hop | WindowFunction::GroupHop => &["DATA", "TIMECOL", "SLIDE", "SIZE", "OFFSET"],
            WindowFunction::Cumulate => &["DATA", "TIMECOL", "STEP", "SIZE", "OFFSET"],
            WindowFunction::Session => &["DATA", "TIMECOL", "GAP"],
        }
    }

    fn form(self) -> &'static str {
        match self {
            WindowFunction::Tumble => "TUMBLE(TABLE t, DESCRIPTOR(time), size [, offset])",
            WindowFunction::Hop | WindowFunction::GroupHop => "HOP(TABLE t, DESCRIPTOR(time), slide, size [, offset])",
            WindowFunction::Cumulate => "CUMULATE(TABLE t, DESCRIPTOR(time), step, size [, offset])",
            WindowFunction::Session => "SESSION(TABLE t [PARTITION BY key, …], DESCRIPTOR(time), gap)",
        }
    }
}

/// Whether `function` is called `name`, in any case.
pub(crate) fn is_named(function: &Function, name: &str) -> bool {
    function.name.to_string().trim_matches('`').eq_ignore_ascii_case(name)
}

/// Plans window calls in FROM; leaves everything else to DataFusion.
#[derive(Debug)]
pub(crate) struct WindowCalls {
    /// Whether places in the syntax tree are places in the user's text.
    pub(crate) keep_places: bool,
}

impl RelationPlanner for WindowCalls {
    fn plan_relation(&self, relation: TableFactor, context: &mut dyn RelationPlannerContext) -> Result<RelationPlanning> {
        let (function, place, args, alias) = match &relation {
            TableFactor::TableFunction { expr: Expr::Function(function), alias } => {
                let FunctionArguments::List(list) = &function.args else {
                    return Ok(RelationPlanning::Original(Box::new(relation)));
                };
                (function.name.to_string(), span::of(&function.name), list.args.clone(), alias.clone())
            }
            TableFactor::Table { name, args: Some(args), alias, .. } => {
                (name.to_string(), span::of(name), args.args.clone(), alias.clone())
            }
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        let Some(function) = WindowFunction::from_name(&function) else {
            return Ok(RelationPlanning::Original(Box::new(relation)));
        };
        let place = place.filter(|_| self.keep_places);
        let arguments = Arguments::new(function, place, args).map_err(refuse)?;
        self.plan(arguments, alias, context)
    }
}

impl WindowCalls {
    fn plan(
        &self,
        arguments: Arguments,
        alias: Option<TableAlias>,
        context: &mut dyn RelationPlannerContext,
    ) -> Result<RelationPlanning> {
        let function = arguments.function;
        let input = context.plan(arguments.table().map_err(refuse)?)?;
        let time = arguments.time_column().map_err(refuse)?;
        let time_place = span::of_parser(time.span).filter(|_| self.keep_places);
        let schema = input.schema();
        let column = |name: &str, place: Option<Span>| match schema.fields().iter().position(|field| field.name() == name) {
            Some(index) => Ok(schema.columns().swap_remove(index)),
            None => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                Err(refuse(unknown_column(name, &names, place)))
            }
        };
        let time_column = column(&time.value, time_place)?;
        let keys = arguments.partition_columns().map_err(refuse)?;
        let keys = keys
            .iter()
            .map(|key| column(&key.value, span::of_parser(key.span).filter(|_| self.keep_places)))
            .collect::<Result<Vec<_>>>()?;
        if let Some(taken) = schema.fields().iter().find(|field| WINDOW_COLUMNS.contains(&field.name().as_str())) {
            return Err(refuse(
                Diagnostic::error(
                    Code::AMBIGUOUS_COLUMN,
                    format!("the input of {} has a column \"{}\" already", function.name(), taken.name()),
                )
                .label_opt(arguments.place, "adds it again")
                .help(format!(
                    "give it another name in the inner query: {} AS first_{}",
                    taken.name(),
                    taken.name()
                )),
            ));
        }
        let call = arguments.window(time_place, context)?;
        let node = WindowNode::new(input, time_column, keys, call)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(node) });
        // As in Flink, the columns belong to the call, no longer to the table inside.
        let plan = LogicalPlanBuilder::from(plan).alias(function.name())?.build()?;
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// The arguments of a call by parameter; `None` for an offset that is left out.
struct Arguments {
    function: WindowFunction,
    place: Option<Span>,
    values: Vec<Option<Expr>>,
}

impl Arguments {
    fn new(function: WindowFunction, place: Option<Span>, args: Vec<FunctionArg>) -> Result<Self, Diagnostic> {
        let parameters = function.parameters();
        let bad = |message: String, at: Option<Span>| {
            Diagnostic::error(Code::BAD_WINDOW, message).label_opt(place.and(at).or(place), "here").help(function.form())
        };
        let count = args.len();
        let mut values: Vec<Option<Expr>> = vec![None; parameters.len()];
        for (position, arg) in args.into_iter().enumerate() {
            let unknown =
                |name: &Ident| bad(format!("{} has no argument \"{}\"", function.name(), name.value), span::of_parser(name.span));
            let (index, value) = match arg {
                FunctionArg::Unnamed(value) => (position, value),
                FunctionArg::Named { name, arg, .. } | FunctionArg::ExprNamed { name: Expr::Identifier(name), arg, .. } => {
                    (parameter(function, &name).ok_or_else(|| unknown(&name))?, arg)
                }
                FunctionArg::ExprNamed { name, .. } => {
                    return Err(bad(format!("{} has no argument {name}", function.name()), span::of(&name)));
                }
            };
            let FunctionArgExpr::Expr(value) = value else {
                return Err(bad(format!("{} cannot take *", function.name()), place));
            };
            match values.get_mut(index) {
                Some(slot @ None) => *slot = Some(value),
                Some(Some(_)) => return Err(bad(format!("an argument of {} is given twice", function.name()), span::of(&value))),
                None => {
                    let message = format!("{} takes at most {} arguments, {count} are given", function.name(), parameters.len());
                    return Err(bad(message, span::of(&value)));
                }
            }
        }
        let required = parameters.iter().position(|parameter| *parameter == "OFFSET").unwrap_or(parameters.len());
        if let Some(missing) = values[..required].iter().position(Option::is_none) {
            let message = format!("{} needs {}; {count} arguments are given", function.name(), parameters[missing]);
            return Err(bad(message, place));
        }
        Ok(Arguments { function, place, values })
    }

    fn bad(&self, message: String, at: Option<Span>) -> Diagnostic {
        // No place of its own means no places at all: the call stands in a view.
        Diagnostic::error(Code::BAD_WINDOW, message)
            .label_opt(self.place.and(at).or(self.place), "here")
            .help(self.function.form())
    }

    fn value(&self, index: usize) -> &Expr {
        self.values[index].as_ref().expect("required arguments were checked")
    }

    /// The first argument: `TABLE t`, `(SELECT …)` or `TABLE (SELECT …)`.
    fn table(&self) -> Result<TableFactor, Diagnostic> {
        let data = self.value(0);
        let found = match self.function {
            WindowFunction::Session => input_factor(&without_partition(data)),
            _ => input_factor(data),
        };
        found.ok_or_else(|| {
            self.bad(format!("the first argument of {} is TABLE and the name of a table", self.function.name()), span::of(data))
        })
    }

    /// The columns of PARTITION BY.
    fn partition_columns(&self) -> Result<Vec<Ident>, Diagnostic> {
        if self.function != WindowFunction::Session {
            return Ok(vec![]);
        }
        partition_of(self.value(0))
            .iter()
            .map(|key| match key {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(column))) => Ok(column.clone()),
                other => Err(self.bad("PARTITION BY of SESSION takes columns".to_string(), span::of(other))),
            })
            .collect()
    }

    fn time_column(&self) -> Result<Ident, Diagnostic> {
        let descriptor = self.value(1);
        if let Expr::Function(function) = descriptor
            && is_named(function, "DESCRIPTOR")
            && let FunctionArguments::List(list) = &function.args
            && let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(column)))] = list.args.as_slice()
        {
            return Ok(column.clone());
        }
        Err(self.bad(
            format!("the second argument of {} is DESCRIPTOR and the name of a time column", self.function.name()),
            span::of(descriptor),
        ))
    }

    fn window(&self, time_place: Option<Span>, context: &mut dyn RelationPlannerContext) -> Result<WindowCall> {
        let mut length = |index: usize| self.length(index, context);
        let (kind, step_place, offset_index) = match self.function {
            WindowFunction::Tumble => (WindowKind::Tumble { size_ms: length(2)? }, None, 3),
            WindowFunction::Hop | WindowFunction::GroupHop => {
                (WindowKind::Hop { slide_ms: length(2)?, size_ms: length(3)? }, self.place_of(2), 4)
            }
            WindowFunction::Cumulate => (WindowKind::Cumulate { step_ms: length(2)?, size_ms: length(3)? }, self.place_of(2), 4),
            WindowFunction::Session => {
                let kind = CallKind::Session { gap_ms: length(2)? };
                return Ok(WindowCall { kind, place: self.place, step_place: None, time_place });
            }
        };
        let size_ms = kind.size_ms();
        let name = self.function.name();
        if let WindowKind::Cumulate { step_ms, .. } = kind
            && size_ms % step_ms != 0
        {
            return Err(refuse(not_multiple(name, "step", size_ms, step_ms, step_place)));
        }
        let offset_ms = match &self.values[offset_index] {
            None => 0,
            Some(offset) => {
                let offset_ms = self.interval(offset, context)?;
                if offset_ms.checked_abs().is_none_or(|offset| offset >= size_ms) {
                    let message = format!("the offset of {name} must be smaller than its size, {size_ms} ms");
                    return Err(refuse(self.bad(message, span::of(offset))));
                }
                offset_ms.rem_euclid(size_ms)
            }
        };
        let whole_slides = self.function != WindowFunction::GroupHop;
        let kind = CallKind::Aligned { kind, offset_ms, whole_slides };
        Ok(WindowCall { kind, place: self.place, step_place, time_place })
    }

    fn place_of(&self, index: usize) -> Option<Span> {
        self.place.and(span::of(self.value(index)))
    }

    /// A positive length in milliseconds.
    fn length(&self, index: usize, context: &mut dyn RelationPlannerContext) -> Result<i64> {
        let value = self.value(index);
        let ms = self.interval(value, context)?;
        if ms <= 0 {
            let parameter = self.function.parameters()[index].to_lowercase();
            let message = format!("the {parameter} of {} must be positive, not {ms} ms", self.function.name());
            return Err(refuse(self.bad(message, span::of(value))));
        }
        Ok(ms)
    }

    fn interval(&self, value: &Expr, context: &mut dyn RelationPlannerContext) -> Result<i64> {
        let place = span::of(value);
        let planned = context.sql_to_expr(value.clone(), &DFSchema::empty()).map_err(|error| {
            let inner = finding(&error, None);
            refuse(self.bad(format!("{value} is not an interval: {}", inner.message), place))
        })?;
        interval_ms(&planned).ok_or_else(|| {
            let message = format!("{value} is not an interval of days to milliseconds");
            refuse(self.bad(message, place))
        })
    }
}

fn parameter(function: WindowFunction, name: &Ident) -> Option<usize> {
    function.parameters().iter().position(|parameter| name.value.eq_ignore_ascii_case(parameter))
}

/// The window size is not a whole number of steps.
pub(crate) fn not_multiple(window: &str, step_name: &str, size_ms: i64, step_ms: i64, place: Option<Span>) -> Diagnostic {
    let text = thalweg_plan::duration_text;
    let divisors: Vec<String> = divisors_around(size_ms, step_ms).into_iter().map(text).collect();
    let examples = if divisors.is_empty() { String::new() } else { format!(", such as {}", divisors.join(" or ")) };
    Diagnostic::error(
        Code::WINDOW_NOT_MULTIPLE,
        format!("{} size {} is not a multiple of its {step_name} {}", window.to_lowercase(), text(size_ms), text(step_ms)),
    )
    .label_opt(place, step_name)
    .help(format!("choose a {step_name} that divides {}{examples}", text(size_ms)))
}

/// The nearest lengths below and above `step_ms` that divide `size_ms`, in the largest unit that has some: whole minutes before
/// whole seconds.
fn divisors_around(size_ms: i64, step_ms: i64) -> Vec<i64> {
    // Further away no length is near any more; the search stays short for windows of years.
    const STEPS_MAX: i64 = 10_000;
    [86_400_000, 3_600_000, 60_000, 1_000, 1]
        .into_iter()
        .filter(|unit| step_ms % unit == 0 && size_ms % unit == 0)
        .map(|unit| {
            let (size, step) = (size_ms / unit, step_ms / unit);
            let below = (1..step).rev().take(STEPS_MAX as usize).find(|length| size % length == 0);
            let above = (step + 1..=size / 2).take(STEPS_MAX as usize).find(|length| size % length == 0);
            below.into_iter().chain(above).map(|length| length * unit).collect::<Vec<i64>>()
        })
        .find(|found| !found.is_empty())
        .unwrap_or_default()
}

/// What follows PARTITION BY in `TABLE t PARTITION BY …`: the dialect puts it behind the table.
fn partition_of(data: &Expr) -> &[FunctionArg] {
    match data {
        Expr::Nested(inner) => partition_of(inner),
        Expr::Function(Function { args: FunctionArguments::List(list), .. }) => list.args.get(1..).unwrap_or_default(),
        _ => &[],
    }
}

fn without_partition(data: &Expr) -> Expr {
    let mut table = data.clone();
    if let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = &mut table {
        list.args.truncate(1);
    }
    table
}

fn input_factor(data: &Expr) -> Option<TableFactor> {
    match data {
        Expr::Nested(inner) => input_factor(inner),
        Expr::Subquery(query) => {
            Some(TableFactor::Derived { lateral: false, subquery: query.clone(), alias: None, sample: None })
        }
        Expr::Function(function) if is_named(function, "TABLE") => match &function.args {
            FunctionArguments::Subquery(query) => {
                Some(TableFactor::Derived { lateral: false, subquery: query.clone(), alias: None, sample: None })
            }
            FunctionArguments::List(list) => match list.args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(name)))] => Some(table_factor(vec![name.clone()])),
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::CompoundIdentifier(parts)))] => {
                    Some(table_factor(parts.clone()))
                }
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(inner))] => input_factor(inner),
                _ => None,
            },
            FunctionArguments::None => None,
        },
        _ => None,
    }
}

fn table_factor(parts: Vec<Ident>) -> TableFactor {
    TableFactor::Table {
        name: ObjectName(parts.into_iter().map(ObjectNamePart::Identifier).collect()),
        alias: None,
        args: None,
        with_hints: vec![],
        version: None,
        with_ordinality: false,
        partitions: vec![],
        json_path: None,
        sample: None,
        index_hints: vec![],
    }
}

/// Milliseconds of a literal interval; `None` for months, for parts of a millisecond, and for anything else.
pub(crate) fn interval_ms(expr: &LogicalExpr) -> Option<i64> {
    match expr {
        LogicalExpr::Alias(alias) => interval_ms(&alias.expr),
        LogicalExpr::Negative(inner) => interval_ms(inner)?.checked_neg(),
        LogicalExpr::Literal(ScalarValue::IntervalMonthDayNano(Some(value)), _) => {
            if value.months != 0 || value.nanoseconds % 1_000_000 != 0 {
                return None;
            }
            i64::from(value.days).checked_mul(86_400_000)?.checked_add(value.nanoseconds / 1_000_000)
        }
        LogicalExpr::Literal(ScalarValue::IntervalDayTime(Some(value)), _) => {
            i64::from(value.days).checked_mul(86_400_000)?.checked_add(i64::from(value.milliseconds))
        }
        _ => None,
    }
}
