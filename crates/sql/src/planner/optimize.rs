//! From a bound plan to one whose types are settled, with filters and projections near the tables.

use std::sync::Arc;

use datafusion::arrow::datatypes::DataType;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, DFSchemaRef, ExprSchema, Result, ScalarValue};
use datafusion::logical_expr::expr::{Exists, InSubquery};
use datafusion::logical_expr::expr_rewriter::NamePreserver;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{
    Expr, ExprSchemable, LogicalPlan, LogicalPlanBuilder, Subquery, WindowFrame, WindowFrameBound, WindowFrameUnits,
    WindowFunctionDefinition, cast,
};
use datafusion::optimizer::analyzer::resolve_grouping_function::ResolveGroupingFunction;
use datafusion::optimizer::analyzer::type_coercion::TypeCoercion;
use datafusion::optimizer::decorrelate_lateral_join::DecorrelateLateralJoin;
use datafusion::optimizer::decorrelate_predicate_subquery::DecorrelatePredicateSubquery;
use datafusion::optimizer::eliminate_duplicated_expr::EliminateDuplicatedExpr;
use datafusion::optimizer::eliminate_group_by_constant::EliminateGroupByConstant;
use datafusion::optimizer::eliminate_outer_join::EliminateOuterJoin;
use datafusion::optimizer::optimize_projections::OptimizeProjections;
use datafusion::optimizer::optimize_unions::OptimizeUnions;
use datafusion::optimizer::push_down_filter::PushDownFilter;
use datafusion::optimizer::replace_distinct_aggregate::ReplaceDistinctWithAggregate;
use datafusion::optimizer::scalar_subquery_to_join::ScalarSubqueryToJoin;
use datafusion::optimizer::simplify_expressions::{ExprSimplifier, SimplifyExpressions};
use datafusion::optimizer::{Analyzer, AnalyzerRule, Optimizer, OptimizerContext, OptimizerRule};

use super::approximate::ApproximateNumbers;
use super::context::config_options;
use super::empty_input;
use super::global_aggregate::optimise_keeping;
use super::join_rules::{EqualKeys, NullAwareJoins};
use super::operator::narrow;
use super::set_operation_node::CommonTypes;
use super::subquery;
use super::system_time::VersionConditions;
use super::window_function::{self, WindowFunction};

/// Settles types, then moves filters down and drops columns that nobody reads.
///
/// Left out of DataFusion's rules on purpose: those that know an end of the input (limits, empty relations), that turn
/// DISTINCT aggregates into two groupings, and `EliminateCrossJoin`, which changes the order of joins. As in Flink, joins run in
/// the order of the text; equalities in WHERE come to them by `PushDownFilter`. For `ExtractEquijoinPredicate` see [`EqualKeys`].
pub(crate) fn optimise(plan: LogicalPlan) -> Result<LogicalPlan> {
    let simplified = run(vec![Arc::new(SimplifyExpressions::new())], analyse(plan)?)?;
    // Before filters move: a condition behind an aggregate that never holds would move in front of it.
    let plan = empty_input::with_sole_rows(simplified)?;
    optimise_keeping(plan, drop_and_push)
}

fn run(rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>, plan: LogicalPlan) -> Result<LogicalPlan> {
    let context = OptimizerContext::new_with_config_options(Arc::new(config_options())).without_query_execution_start_time();
    Optimizer::with_rules(rules).optimize(plan, &context, |_, _| {})
}

/// `keeps_constants`: whether constants stay among the columns of GROUP BY.
fn drop_and_push(plan: LogicalPlan, keeps_constants: bool) -> Result<LogicalPlan> {
    let mut rules: Vec<Arc<dyn OptimizerRule + Send + Sync>> = vec![
        Arc::new(OptimizeUnions::new()),
        Arc::new(SimplifyExpressions::new()),
        Arc::new(ReplaceDistinctWithAggregate::new()),
        Arc::new(DecorrelatePredicateSubquery::new()),
        Arc::new(NullAwareJoins),
        Arc::new(ScalarSubqueryToJoin::new()),
        Arc::new(DecorrelateLateralJoin::new()),
        Arc::new(EqualKeys),
        Arc::new(EliminateDuplicatedExpr::new()),
        Arc::new(EliminateOuterJoin::new()),
        Arc::new(PushDownFilter::new()),
        Arc::new(VersionConditions),
        Arc::new(OptimizeProjections::new()),
    ];
    if !keeps_constants {
        rules.insert(0, Arc::new(EliminateGroupByConstant::new()));
    }
    let plan = run(rules, plan)?;
    subquery::check_none_left(&plan)?;
    Ok(plan)
}

/// Settles types only.
pub(crate) fn analyse(plan: LogicalPlan) -> Result<LogicalPlan> {
    let analyzer = Analyzer::with_rules(vec![
        Arc::new(ResolveGroupingFunction::new()),
        Arc::new(NarrowLiterals),
        Arc::new(ApproximateNumbers),
        Arc::new(OuterTypes),
        // Again, for what subqueries compare with columns whose types are known only now.
        Arc::new(ApproximateNumbers),
        Arc::new(RankFrames),
        Arc::new(TypeCoercion::new()),
        Arc::new(PlainTexts),
        Arc::new(CommonTypes),
    ]);
    analyzer.execute_and_check(plan, &config_options(), |_, _| {})
}

/// As [`optimise`], for one expression over `schema`.
pub(crate) fn optimise_expression(expr: Expr, schema: &DFSchemaRef) -> Result<Expr> {
    let narrowed = expr.transform_up(|part| Ok(Transformed::yes(narrow(part))))?.data;
    let simplifier = ExprSimplifier::new(
        SimplifyContext::builder().with_schema(schema.clone()).with_config_options(Arc::new(config_options())).build(),
    );
    let coerced = simplifier.coerce(narrowed, schema)?;
    simplifier.simplify(plain_text(coerced, schema)?)
}

/// Whole numbers in the text become INT where they fit.
#[derive(Debug)]
struct NarrowLiterals;

impl AnalyzerRule for NarrowLiterals {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|node| {
            if let LogicalPlan::Values(values) = node {
                let narrowed = |value: Expr| Ok(value.transform_up(|part| Ok(Transformed::yes(narrow(part))))?.data);
                let rows = values.values.into_iter().map(|row| row.into_iter().map(narrowed).collect()).collect::<Result<_>>()?;
                return Ok(Transformed::yes(LogicalPlanBuilder::values(rows)?.build()?));
            }
            rewrite_expressions(node, |expr| expr.transform_up(|part| Ok(Transformed::yes(narrow(part)))).map(|done| done.data))
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "narrow_literals"
    }
}

/// Gives the columns of the row around, in a subquery, the types that they have there: [`NarrowLiterals`] may have changed them.
#[derive(Debug)]
struct OuterTypes;

impl AnalyzerRule for OuterTypes {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_down_with_subqueries(|node| {
            let around = schema_of_inputs(&node);
            node.map_expressions(|expr| {
                expr.transform_down(|part| {
                    Ok(match part {
                        Expr::ScalarSubquery(subquery) => Transformed::yes(Expr::ScalarSubquery(with_outer(subquery, &around)?)),
                        Expr::Exists(exists) => Transformed::yes(Expr::Exists(Exists {
                            subquery: with_outer(exists.subquery, &around)?,
                            negated: exists.negated,
                        })),
                        Expr::InSubquery(one) => {
                            Transformed::yes(Expr::InSubquery(InSubquery { subquery: with_outer(one.subquery, &around)?, ..one }))
                        }
                        other => Transformed::no(other),
                    })
                })
            })
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "outer_types"
    }
}

fn with_outer(subquery: Subquery, around: &DFSchema) -> Result<Subquery> {
    let retyped = |expr: Expr| {
        let done = expr.transform(|part| {
            Ok(match part {
                Expr::OuterReferenceColumn(field, column) => {
                    let field = around.field_from_column(&column).cloned().unwrap_or(field);
                    Transformed::yes(Expr::OuterReferenceColumn(field, column))
                }
                other => Transformed::no(other),
            })
        });
        done.map(|done| done.data)
    };
    let plan = Arc::unwrap_or_clone(subquery.subquery).transform_up(|node| rewrite_expressions(node, retyped))?.data;
    let outer_ref_columns = subquery.outer_ref_columns.into_iter().map(retyped).collect::<Result<_>>()?;
    Ok(Subquery { subquery: Arc::new(plan), outer_ref_columns, spans: subquery.spans })
}

/// Ranks have no frame, but DataFusion gives them a RANGE, and refuses one over TIME and bytes.
#[derive(Debug)]
struct RankFrames;

impl AnalyzerRule for RankFrames {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|node| {
            let LogicalPlan::Window(window) = &node else {
                return Ok(Transformed::no(node));
            };
            let schema = window.input.schema().clone();
            rewrite_expressions(node, |expr| expr.transform_up(|part| rank_frame(part, &schema)).map(|done| done.data))
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "rank_frames"
    }
}

fn rank_frame(part: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let Expr::WindowFunction(mut call) = part else {
        return Ok(Transformed::no(part));
    };
    let has_no_range = |data_type: DataType| matches!(data_type, DataType::Time32(_) | DataType::Time64(_) | DataType::Binary);
    let is_rank = matches!(&call.fun, WindowFunctionDefinition::WindowUDF(function)
        if matches!(window_function::of(function), Some(WindowFunction::Rank(_))));
    let first = call.params.order_by.first().map(|sort| sort.expr.get_type(schema)).transpose()?;
    let is_changed = is_rank && first.is_some_and(has_no_range);
    if is_changed {
        call.params.window_frame = WindowFrame::new_bounds(
            WindowFrameUnits::Rows,
            WindowFrameBound::Preceding(ScalarValue::UInt64(None)),
            WindowFrameBound::CurrentRow,
        );
    }
    Ok(Transformed::new_transformed(Expr::WindowFunction(call), is_changed))
}

/// Functions that give a view of a text give a text: the engine's columns are Utf8 and Binary.
#[derive(Debug)]
struct PlainTexts;

impl AnalyzerRule for PlainTexts {
    fn analyze(&self, plan: LogicalPlan, _: &ConfigOptions) -> Result<LogicalPlan> {
        let rewritten = plan.transform_up_with_subqueries(|node| {
            let schema = schema_of_inputs(&node);
            rewrite_expressions(node, |expr| plain_text(expr, &schema))
        })?;
        Ok(rewritten.data)
    }

    fn name(&self) -> &str {
        "plain_texts"
    }
}

fn plain_text(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    let rewritten = expr.transform_up(|part| {
        if !matches!(part, Expr::ScalarFunction(_)) {
            return Ok(Transformed::no(part));
        }
        Ok(match part.get_type(schema)? {
            DataType::Utf8View | DataType::LargeUtf8 => Transformed::yes(cast(part, DataType::Utf8)),
            DataType::BinaryView | DataType::LargeBinary => Transformed::yes(cast(part, DataType::Binary)),
            _ => Transformed::no(part),
        })
    })?;
    Ok(rewritten.data)
}

/// The columns that the expressions of a node can name.
pub(crate) fn schema_of_inputs(node: &LogicalPlan) -> DFSchema {
    let mut schema = DFSchema::empty();
    for input in node.inputs() {
        schema.merge(input.schema());
    }
    schema
}

/// Rewrites the expressions of one node and settles its schema, keeping the names of its columns.
pub(crate) fn rewrite_expressions(node: LogicalPlan, rewrite: impl Fn(Expr) -> Result<Expr>) -> Result<Transformed<LogicalPlan>> {
    let names = NamePreserver::new(&node);
    let mapped = node.map_expressions(|expr| {
        let name = names.save(&expr);
        Ok(Transformed::yes(name.restore(rewrite(expr)?)))
    })?;
    Ok(Transformed::yes(mapped.data.recompute_schema()?))
}
