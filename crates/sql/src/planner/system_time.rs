//! `JOIN versions FOR SYSTEM_TIME AS OF l.ts AS r ON …` in DataFusion's logical plan, which has no form for it.
//!
//! ```text
//! Join: ON condition AND for_system_time_as_of(l.ts, r.`FOR SYSTEM_TIME`)
//!   l
//!   r: SystemTimeNode, which adds the column `FOR SYSTEM_TIME`
//! ```
//!
//! The call in the condition keeps the time of the left side alive, and being over both sides it stays where it is. Lowering takes
//! both out again. Conditions on the right side that the optimizer pushes below the join end in the node: they are about the
//! version that is found, and further down they would bring out older ones.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Column, DFSchema, DFSchemaRef, Result, TableReference, internal_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::utils::split_conjunction_owned;
use datafusion::logical_expr::{
    ColumnarValue, Expr, Extension, Join, LogicalPlan, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, SubqueryAlias,
    UserDefinedLogicalNodeCore, Volatility,
};
use datafusion::optimizer::optimizer::ApplyOrder;
use datafusion::optimizer::{OptimizerConfig, OptimizerRule};
use datafusion::sql::sqlparser::ast::{self, TableAlias, TableFactor};
use thalweg_core::{Code, Diagnostic, Span};

use super::context::ScannedTable;
use super::error::{refuse, unknown_column};
use super::span;
use super::type_name::sql_type_of;

/// The column that the node adds.
const VERSION: &str = "FOR SYSTEM_TIME";
const AS_OF: &str = "for_system_time_as_of";

/// A table or view of which each left row sees the version of its time.
#[derive(Clone, Debug)]
pub(crate) struct SystemTimeNode {
    pub(crate) input: LogicalPlan,
    /// What stands behind AS OF, as a name or several: a column of the left side.
    time: Vec<String>,
    /// Where that stands.
    pub(crate) time_place: Option<Span>,
    /// Where the whole stands.
    pub(crate) place: Option<Span>,
    /// What else must be true of the version, over the columns of the input: a part of the join's condition.
    pub(crate) conditions: Vec<Expr>,
    /// Whether a join has taken it as its right side.
    pub(crate) is_joined: bool,
    schema: DFSchemaRef,
}

impl SystemTimeNode {
    fn with(&self, input: LogicalPlan, conditions: Vec<Expr>, is_joined: bool) -> Result<Self> {
        let schema = schema_over(&input, is_joined)?;
        Ok(SystemTimeNode { input, conditions, is_joined, schema, time: self.time.clone(), ..*self })
    }

    fn parts(&self) -> (&LogicalPlan, &[String], &[Expr], bool) {
        (&self.input, &self.time, &self.conditions, self.is_joined)
    }

    /// The positions of the columns of the input that lowering needs: those of a declared PRIMARY KEY and those that may be the time of
    /// a version.
    fn own_columns(&self) -> Vec<usize> {
        let primary_key = primary_key(&self.input);
        let is_needed = |field: &Field| {
            matches!(field.data_type(), DataType::Timestamp(..)) || primary_key.iter().any(|name| name == field.name())
        };
        let fields = self.input.schema().fields();
        (0..fields.len()).filter(|index| is_needed(&fields[*index])).collect()
    }
}

fn schema_over(input: &LogicalPlan, is_joined: bool) -> Result<DFSchemaRef> {
    let mut fields: Vec<_> = input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), field.clone())).collect();
    if is_joined {
        let qualifier = fields.first().and_then(|(qualifier, _)| qualifier.clone());
        fields.push((qualifier, Arc::new(Field::new(VERSION, DataType::Boolean, false))));
    }
    Ok(Arc::new(DFSchema::new_with_metadata(fields, Default::default())?))
}

/// The names of the columns of the PRIMARY KEY, if `plan` reads a table and nothing else.
pub(crate) fn primary_key(plan: &LogicalPlan) -> Vec<String> {
    match plan {
        LogicalPlan::TableScan(scan) => {
            scan.source.downcast_ref::<ScannedTable>().map(|table| table.definition.primary_key.clone()).unwrap_or_default()
        }
        LogicalPlan::SubqueryAlias(alias) => primary_key(&alias.input),
        LogicalPlan::Projection(projection) => primary_key(&projection.input),
        _ => vec![],
    }
}

impl PartialEq for SystemTimeNode {
    fn eq(&self, other: &Self) -> bool {
        self.parts() == other.parts()
    }
}

impl Eq for SystemTimeNode {}

impl Hash for SystemTimeNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.parts().hash(state);
    }
}

impl PartialOrd for SystemTimeNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal)
    }
}

impl UserDefinedLogicalNodeCore for SystemTimeNode {
    fn name(&self) -> &str {
        VERSION
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        self.conditions.clone()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{VERSION} AS OF {}", self.time.join("."))
    }

    fn with_exprs_and_inputs(&self, exprs: Vec<Expr>, mut inputs: Vec<LogicalPlan>) -> Result<Self> {
        match inputs.pop() {
            Some(input) => self.with(input, exprs, self.is_joined),
            None => internal_err!("a version has one input"),
        }
    }

    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        self.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let width = self.input.schema().fields().len();
        let mut needed = self.own_columns();
        needed.extend(output_columns.iter().copied().filter(|column| *column < width));
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

/// A table of FROM without its version and its alias, and the alias.
pub(crate) fn without_version(mut factor: TableFactor) -> (TableFactor, Option<TableAlias>) {
    let mut taken = None;
    if let TableFactor::Table { version, alias, .. } = &mut factor {
        *version = None;
        taken = alias.take();
    }
    (factor, taken)
}

/// The versions of `input` as of `time`.
pub(crate) fn plan(input: LogicalPlan, time: &ast::Expr, place: Option<Span>) -> Result<LogicalPlan> {
    let time_place = span::of(time).filter(|_| place.is_some());
    let names = match time {
        ast::Expr::Identifier(name) => vec![name.value.clone()],
        ast::Expr::CompoundIdentifier(parts) => parts.iter().map(|part| part.value.clone()).collect(),
        _ => {
            return Err(refuse(
                Diagnostic::error(Code::NO_TIME_ATTRIBUTE, "FOR SYSTEM_TIME AS OF takes a time attribute of the left table")
                    .label_opt(time_place.or(place), "not a column")
                    .help("write a column, such as FOR SYSTEM_TIME AS OF o.ts"),
            ));
        }
    };
    let schema = schema_over(&input, false)?;
    let node = SystemTimeNode { input, time: names, time_place, place, conditions: vec![], is_joined: false, schema };
    Ok(LogicalPlan::Extension(Extension { node: Arc::new(node) }))
}

/// Ties the versions on the right side of joins to the times of the left side.
pub(crate) fn resolve(plan: LogicalPlan) -> Result<LogicalPlan> {
    let resolved = plan.transform_up_with_subqueries(|node| match node {
        LogicalPlan::Join(join) => match node_below(&join.right) {
            Some(version) if !version.is_joined => {
                let version = version.clone();
                Ok(Transformed::yes(LogicalPlan::Join(tied(join, &version)?)))
            }
            _ => Ok(Transformed::yes(LogicalPlan::Join(join).recompute_schema()?)),
        },
        other => Ok(Transformed::yes(other.recompute_schema()?)),
    })?;
    Ok(resolved.data)
}

fn tied(join: Join, version: &SystemTimeNode) -> Result<Join> {
    let time = time_column(&join, version)?;
    let right = Arc::unwrap_or_clone(join.right).transform_up(|node| match &node {
        LogicalPlan::Extension(extension) if extension.node.as_any().is::<SystemTimeNode>() => {
            let joined = version.with(version.input.clone(), vec![], true)?;
            Ok(Transformed::yes(LogicalPlan::Extension(Extension { node: Arc::new(joined) })))
        }
        LogicalPlan::SubqueryAlias(alias) => {
            let alias = SubqueryAlias::try_new(alias.input.clone(), alias.alias.clone())?;
            Ok(Transformed::yes(LogicalPlan::SubqueryAlias(alias)))
        }
        _ => Ok(Transformed::no(node)),
    })?;
    let right = right.data;
    let added = right.schema().columns().into_iter().rfind(|column| column.name == VERSION);
    let Some(added) = added else {
        return internal_err!("the right side of a join as of a time has lost its version");
    };
    let call = ScalarUDF::from(AsOf { signature: Signature::any(2, Volatility::Immutable) });
    let marker = Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(call), vec![Expr::Column(time), Expr::Column(added)]));
    let filter = Some(match join.filter {
        Some(filter) => filter.and(marker),
        None => marker,
    });
    Join::try_new(
        join.left,
        Arc::new(right),
        join.on,
        filter,
        join.join_type,
        join.join_constraint,
        join.null_equality,
        join.null_aware,
    )
}

/// The column of the left side that AS OF names.
fn time_column(join: &Join, version: &SystemTimeNode) -> Result<Column> {
    let schema = join.left.schema();
    let Some((name, qualifier)) = version.time.split_last() else {
        return internal_err!("AS OF names a column");
    };
    let column = match qualifier.last() {
        Some(table) => Column::new(Some(TableReference::bare(table.as_str())), name),
        None => match schema.qualified_field_with_unqualified_name(name) {
            Ok((qualifier, _)) => Column::new(qualifier.cloned(), name),
            Err(_) => Column::new_unqualified(name),
        },
    };
    let Some(index) = schema.maybe_index_of_column(&column) else {
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        return Err(refuse(unknown_column(name, &names, version.time_place)));
    };
    let field = schema.field(index);
    if !matches!(field.data_type(), DataType::Timestamp(..)) {
        return Err(refuse(not_a_time(name, field, version)));
    }
    Ok(column)
}

/// What stands behind AS OF does not drive a watermark.
pub(crate) fn not_a_time(name: &str, field: &Field, version: &SystemTimeNode) -> Diagnostic {
    let message = format!("FOR SYSTEM_TIME AS OF needs a time attribute, and \"{name}\" is none");
    Diagnostic::error(Code::NO_TIME_ATTRIBUTE, message)
        .label_opt(version.time_place.or(version.place), "not a time attribute")
        .help(format!("it is {}; a time attribute is a column of the left table with a WATERMARK", sql_type_of(field)))
}

/// The version that a plan is, below an alias and a choice of columns.
pub(crate) fn node_below(plan: &LogicalPlan) -> Option<&SystemTimeNode> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => node_below(&alias.input),
        LogicalPlan::Projection(projection) => node_below(&projection.input),
        LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
        _ => None,
    }
}

/// Takes the filters right above a version into it.
#[derive(Debug)]
pub(crate) struct VersionConditions;

impl OptimizerRule for VersionConditions {
    fn name(&self) -> &str {
        "version_conditions"
    }

    fn apply_order(&self) -> Option<ApplyOrder> {
        Some(ApplyOrder::BottomUp)
    }

    fn supports_rewrite(&self) -> bool {
        true
    }

    fn rewrite(&self, plan: LogicalPlan, _: &dyn OptimizerConfig) -> Result<Transformed<LogicalPlan>> {
        if let LogicalPlan::Filter(filter) = &plan
            && let LogicalPlan::Extension(extension) = &*filter.input
            && let Some(version) = extension.node.as_any().downcast_ref::<SystemTimeNode>()
        {
            let conditions = [version.conditions.clone(), split_conjunction_owned(filter.predicate.clone())].concat();
            let node = Arc::new(version.with(version.input.clone(), conditions, version.is_joined)?);
            return Ok(Transformed::yes(LogicalPlan::Extension(Extension { node })));
        }
        Ok(Transformed::no(plan))
    }
}

/// The left column of the call that ties a join to a time.
pub(crate) fn version_of(condition: &Expr) -> Option<Column> {
    match condition {
        Expr::ScalarFunction(ScalarFunction { func, args }) if func.name() == AS_OF => match args.first() {
            Some(Expr::Column(column)) => Some(column.clone()),
            _ => None,
        },
        _ => None,
    }
}

/// Whether a column of a joined version is the one that the node adds.
pub(crate) fn is_version(field: &Field) -> bool {
    field.name() == VERSION
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct AsOf {
    signature: Signature,
}

impl ScalarUDFImpl for AsOf {
    fn name(&self) -> &str {
        AS_OF
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        internal_err!("a join as of a time is no function")
    }
}
