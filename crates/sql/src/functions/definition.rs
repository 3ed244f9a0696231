//! What a function is: its name, what it takes, what it gives, how it runs.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::ArrayRef;
use datafusion::arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, TimeUnit};
use datafusion::common::{DataFusionError, Result, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility};

use super::FunctionContext;
use super::arguments::Arguments;
use super::sql_type::SqlType;

/// What an argument may be, and the Arrow type in which the function receives it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// Utf8.
    Text,
    /// Any integer, as Int64.
    Integer,
    /// Any number, as Float64.
    Double,
    /// Integers and numbers with a point, as they are.
    Number,
    /// An integer or DECIMAL, as it is.
    Exact,
    Boolean,
    TextOrBytes,
    /// Utf8, or Int64 for any integer.
    TextOrInteger,
    TextOrNumber,
    TextOrTimestamp,
    /// DATE, TIME, TIMESTAMP, TIMESTAMP_LTZ.
    Temporal,
    /// IntervalMonthDayNano.
    Interval,
    TemporalOrInterval,
    Array,
    ArrayOrMap,
    Any,
}

impl Kind {
    /// The type to which an argument of `given` is cast, or `None` if it is not accepted.
    pub fn accepts(self, given: &DataType) -> Option<DataType> {
        let is_text = matches!(given, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let is_bytes =
            matches!(given, DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_));
        let is_timestamp = matches!(given, DataType::Timestamp(_, _));
        let is_temporal =
            is_timestamp || matches!(given, DataType::Date32 | DataType::Date64 | DataType::Time32(_) | DataType::Time64(_));
        if *given == DataType::Null {
            return Some(self.of_null());
        }
        let temporal = || match given {
            DataType::Date64 => DataType::Date32,
            DataType::Time32(_) | DataType::Time64(_) => DataType::Time64(TimeUnit::Microsecond),
            other => other.clone(),
        };
        let interval = DataType::Interval(IntervalUnit::MonthDayNano);
        let array = || match given {
            DataType::LargeList(item) | DataType::FixedSizeList(item, _) => DataType::List(item.clone()),
            other => other.clone(),
        };
        let is_array = matches!(given, DataType::List(_) | DataType::LargeList(_) | DataType::FixedSizeList(_, _));
        match self {
            Kind::Text if is_text => Some(DataType::Utf8),
            Kind::Integer if given.is_integer() => Some(DataType::Int64),
            Kind::Double if given.is_numeric() => Some(DataType::Float64),
            Kind::Number if given.is_numeric() => Some(given.clone()),
            Kind::Exact if given.is_signed_integer() || matches!(given, DataType::Decimal128(_, _)) => Some(given.clone()),
            Kind::Boolean if *given == DataType::Boolean => Some(DataType::Boolean),
            Kind::TextOrBytes if is_text => Some(DataType::Utf8),
            Kind::TextOrBytes if is_bytes => Some(DataType::Binary),
            Kind::TextOrInteger | Kind::TextOrNumber | Kind::TextOrTimestamp if is_text => Some(DataType::Utf8),
            Kind::TextOrInteger if given.is_integer() => Some(DataType::Int64),
            Kind::TextOrNumber if given.is_numeric() => Some(given.clone()),
            Kind::TextOrTimestamp if is_timestamp => Some(given.clone()),
            Kind::Temporal | Kind::TemporalOrInterval if is_temporal => Some(temporal()),
            Kind::Interval | Kind::TemporalOrInterval if matches!(given, DataType::Interval(_)) => Some(interval),
            Kind::Array | Kind::ArrayOrMap if is_array => Some(array()),
            Kind::ArrayOrMap if matches!(given, DataType::Map(_, _)) => Some(given.clone()),
            Kind::Any if is_text => Some(DataType::Utf8),
            Kind::Any => Some(given.clone()),
            _ => None,
        }
    }

    /// The type that a bare NULL gets.
    fn of_null(self) -> DataType {
        match self {
            Kind::Text | Kind::TextOrBytes | Kind::TextOrInteger | Kind::TextOrNumber | Kind::TextOrTimestamp => DataType::Utf8,
            Kind::Integer | Kind::Number | Kind::Exact => DataType::Int64,
            Kind::Double => DataType::Float64,
            Kind::Boolean => DataType::Boolean,
            Kind::Temporal | Kind::TemporalOrInterval => DataType::Timestamp(TimeUnit::Microsecond, None),
            Kind::Interval => DataType::Interval(IntervalUnit::MonthDayNano),
            Kind::Array | Kind::ArrayOrMap => DataType::List(Arc::new(Field::new_list_field(DataType::Null, true))),
            Kind::Any => DataType::Null,
        }
    }

    /// How messages call it.
    fn name(self) -> &'static str {
        match self {
            Kind::Text => "STRING",
            Kind::Integer => "INT",
            Kind::Double | Kind::Number => "NUMERIC",
            Kind::Exact => "INT or DECIMAL",
            Kind::Boolean => "BOOLEAN",
            Kind::TextOrBytes => "STRING or BYTES",
            Kind::TextOrInteger => "STRING or INT",
            Kind::TextOrNumber => "STRING or NUMERIC",
            Kind::TextOrTimestamp => "TIMESTAMP or STRING",
            Kind::Temporal => "DATE, TIME or TIMESTAMP",
            Kind::Interval => "INTERVAL",
            Kind::TemporalOrInterval => "DATE, TIME, TIMESTAMP or INTERVAL",
            Kind::Array => "ARRAY",
            Kind::ArrayOrMap => "ARRAY or MAP",
            Kind::Any => "ANY",
        }
    }
}

/// What is known of a call when its type is asked for.
pub(super) struct Planned<'a> {
    pub name: &'a str,
    pub fields: &'a [FieldRef],
    pub constants: &'a [Option<&'a ScalarValue>],
}

impl Planned<'_> {
    pub fn data_type(&self, index: usize) -> &DataType {
        self.fields[index].data_type()
    }

    /// The value of argument `index` if it is a constant text.
    pub fn constant_text(&self, index: usize) -> Option<&str> {
        match self.constants.get(index).copied().flatten() {
            Some(ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text))) => {
                Some(text)
            }
            _ => None,
        }
    }

    /// The value of argument `index` if it is a constant integer.
    pub fn constant_integer(&self, index: usize) -> Option<i64> {
        match self.constants.get(index).copied().flatten()? {
            ScalarValue::Int8(value) => value.map(i64::from),
            ScalarValue::Int16(value) => value.map(i64::from),
            ScalarValue::Int32(value) => value.map(i64::from),
            ScalarValue::Int64(value) => *value,
            _ => None,
        }
    }

    /// `function NAME: message`.
    pub fn error(&self, message: impl std::fmt::Display) -> DataFusionError {
        DataFusionError::Plan(format!("function {}: {message}", self.name.to_uppercase()))
    }
}

/// The type of a result.
#[derive(Clone)]
pub(super) enum Returns {
    Sql(SqlType),
    /// That of an argument.
    Same(usize),
    Computed(fn(&Planned) -> Result<SqlType>),
}

/// When a result is null.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Nulls {
    /// Only when an argument is.
    Strict,
    /// For other reasons too.
    Maybe,
    Never,
}

/// How often a function may give something new.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Changes {
    /// Same arguments, same result.
    Never,
    /// One value for a batch: the clock.
    PerBatch,
    /// Chance.
    PerRow,
}

pub(super) type Run = fn(&Arguments) -> Result<ArrayRef>;

/// One function. `takes` lists its parameters, of which `required` must be given; a variadic one repeats the last.
#[derive(Clone)]
pub(super) struct Definition {
    pub name: &'static str,
    pub takes: Vec<Kind>,
    pub required: usize,
    pub variadic: bool,
    pub returns: Returns,
    pub nulls: Nulls,
    pub changes: Changes,
    pub run: Run,
}

/// A function that takes exactly `takes`, is null when an argument is, and always gives the same for the same.
pub(super) fn define(name: &'static str, takes: &[Kind], returns: Returns, run: Run) -> Definition {
    Definition {
        name,
        takes: takes.to_vec(),
        required: takes.len(),
        variadic: false,
        returns,
        nulls: Nulls::Strict,
        changes: Changes::Never,
        run,
    }
}

impl Definition {
    /// The last `count` parameters may be left out.
    pub fn optional(mut self, count: usize) -> Self {
        self.required = self.takes.len() - count;
        self
    }

    /// The last parameter may be given any number of times more.
    pub fn variadic(mut self) -> Self {
        self.variadic = true;
        self
    }

    pub fn maybe_null(mut self) -> Self {
        self.nulls = Nulls::Maybe;
        self
    }

    pub fn never_null(mut self) -> Self {
        self.nulls = Nulls::Never;
        self
    }

    pub fn changes(mut self, changes: Changes) -> Self {
        self.changes = changes;
        self
    }

    fn kind(&self, index: usize) -> Option<Kind> {
        match self.takes.get(index) {
            Some(kind) => Some(*kind),
            None if self.variadic => self.takes.last().copied(),
            None => None,
        }
    }

    /// `(STRING, INT[, INT])`.
    fn parameters(&self) -> String {
        let mut text = String::from("(");
        for (index, kind) in self.takes.iter().enumerate() {
            if index >= self.required {
                text.push('[');
            }
            if index > 0 {
                text.push_str(", ");
            }
            text.push_str(kind.name());
        }
        if self.variadic {
            text.push_str(", …");
        }
        text.push_str(&"]".repeat(self.takes.len().saturating_sub(self.required)));
        text.push(')');
        text
    }

    /// Refuses arguments that are too few, too many or of a wrong type.
    fn check(&self, fields: &[FieldRef]) -> Result<()> {
        let too_many = !self.variadic && fields.len() > self.takes.len();
        let wrong = fields
            .iter()
            .enumerate()
            .any(|(index, field)| self.kind(index).is_none_or(|kind| kind.accepts(field.data_type()).is_none()));
        if fields.len() < self.required || too_many || wrong {
            let given: Vec<String> = fields.iter().map(|field| SqlType::of_field(field).to_string()).collect();
            return Err(DataFusionError::Plan(format!(
                "function {} takes {}, got ({})",
                self.name.to_uppercase(),
                self.parameters(),
                given.join(", ")
            )));
        }
        Ok(())
    }
}

/// A [`Definition`] as DataFusion wants it.
pub(super) struct FlinkFunction {
    definition: Definition,
    context: FunctionContext,
    signature: Signature,
    aliases: Vec<String>,
}

impl FlinkFunction {
    pub fn new(definition: Definition, context: FunctionContext) -> Self {
        let volatility = match definition.changes {
            Changes::Never => Volatility::Immutable,
            Changes::PerBatch | Changes::PerRow => Volatility::Volatile,
        };
        FlinkFunction { definition, context, signature: Signature::user_defined(volatility), aliases: vec![] }
    }

    pub fn with_aliases(mut self, aliases: Vec<String>) -> Self {
        self.aliases = aliases;
        self
    }
}

impl std::fmt::Debug for FlinkFunction {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.definition.name)
    }
}

// Names are unique, and the zone is all of the context that a result can depend on when it does not change.
impl PartialEq for FlinkFunction {
    fn eq(&self, other: &Self) -> bool {
        self.definition.name == other.definition.name && self.context.time_zone == other.context.time_zone
    }
}

impl Eq for FlinkFunction {}

impl Hash for FlinkFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.definition.name.hash(state);
    }
}

impl ScalarUDFImpl for FlinkFunction {
    fn name(&self) -> &str {
        self.definition.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Leaves types that are not accepted as they are: `return_field_from_args` has the better message.
    fn coerce_types(&self, given: &[DataType]) -> Result<Vec<DataType>> {
        Ok(given
            .iter()
            .enumerate()
            .map(|(index, data_type)| {
                self.definition.kind(index).and_then(|kind| kind.accepts(data_type)).unwrap_or_else(|| data_type.clone())
            })
            .collect())
    }

    fn return_type(&self, given: &[DataType]) -> Result<DataType> {
        let fields: Vec<FieldRef> = given.iter().map(|data_type| Arc::new(Field::new("", data_type.clone(), true))).collect();
        let constants = vec![None; fields.len()];
        let field = self.return_field_from_args(ReturnFieldArgs { arg_fields: &fields, scalar_arguments: &constants })?;
        Ok(field.data_type().clone())
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.definition.check(args.arg_fields)?;
        let nullable = match self.definition.nulls {
            Nulls::Never => false,
            Nulls::Maybe => true,
            Nulls::Strict => args.arg_fields.iter().any(|field| field.is_nullable()),
        };
        let planned = Planned { name: self.definition.name, fields: args.arg_fields, constants: args.scalar_arguments };
        let field = match &self.definition.returns {
            Returns::Sql(sql_type) => sql_type.to_field(self.name(), nullable),
            Returns::Same(index) => {
                let given = &args.arg_fields[*index];
                Field::new(self.name(), given.data_type().clone(), nullable).with_metadata(given.metadata().clone())
            }
            Returns::Computed(compute) => compute(&planned)?.to_field(self.name(), nullable),
        };
        Ok(Arc::new(field))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = self.definition.changes == Changes::PerBatch
            || (self.definition.changes == Changes::Never
                && args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_))));
        let rows = if is_constant { 1 } else { args.number_rows };
        let arguments = Arguments::new(self.definition.name, &args, rows, &self.context)?;
        let result = (self.definition.run)(&arguments)?;
        if result.len() != rows {
            return Err(arguments.error(format!("gave {} rows for {rows}", result.len())));
        }
        if is_constant {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(&result, 0)?));
        }
        Ok(ColumnarValue::Array(result))
    }
}
