//! Joins with `FOR SYSTEM_TIME AS OF`: each left row with the version of the right row of its key that was valid at its time, or, on
//! processing time, with what a table outside holds at the moment.

use std::sync::Arc;

use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::common::Column;
use datafusion::logical_expr::{
    Expr as LogicalExpr, Join as LogicalJoin, JoinType, LogicalPlan, Operator, TableScan, binary_expr,
};
use thalweg_core::{Code, ColumnKind, Diagnostic, ScanField, Span, TableDefinition};
use thalweg_plan::{
    Exchange, Input, JoinKey, JoinKind, LookupJoin, NodeKind, Properties, StateLifetime, TemporalJoin, TimeAttribute, TimeKind,
};

use super::condition::{Conditions, EqualSides};
use super::side::Needed;
use super::{join_keys, properties};
use crate::planner::context::ScannedTable;
use crate::planner::lower::{Lowering, not_yet};
use crate::planner::project::map_columns;
use crate::planner::relation::{Origin, Relation};
use crate::planner::system_time::{self, SystemTimeNode};

/// A join as of a time whose left side is lowered.
struct AsOfJoin<'j> {
    join: &'j LogicalJoin,
    version: &'j SystemTimeNode,
    kind: JoinKind,
    left: Relation,
    /// The column of the left node behind AS OF.
    time: usize,
    conditions: Conditions,
    needed: Needed,
    place: Option<Span>,
}

impl Lowering<'_> {
    pub(super) fn as_of_join(
        &mut self,
        join: &LogicalJoin,
        time: Column,
        (conditions, needed): (Conditions, Needed),
        place: Option<Span>,
    ) -> Result<Relation, Diagnostic> {
        let Some(version) = system_time::node_below(&join.right) else {
            return Err(not_yet("FOR SYSTEM_TIME AS OF in this place", place));
        };
        let place = version.place.or(place);
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            _ => {
                return Err(Diagnostic::error(Code::NOT_IN_FLINK, "a join as of a time is INNER or LEFT")
                    .label_opt(place, "the right side of another join")
                    .help("put the versioned table on the right side of JOIN or LEFT JOIN"));
            }
        };
        let left = self.lower(&join.left)?;
        let left = self.assign_window(left)?;
        let Some(Origin::Node(column)) = left.origin_of_column(&time) else {
            return Err(not_yet("FOR SYSTEM_TIME AS OF this column", place));
        };
        let before = self.properties(left.node);
        let Some(attribute) = before.time_attributes.iter().find(|attribute| attribute.column == column) else {
            return Err(system_time::not_a_time(&time.name, self.schema(left.node).field(column), version));
        };
        let is_processing = attribute.kind == TimeKind::Processing;
        if before.updating {
            return Err(Diagnostic::error(Code::NOT_IN_FLINK, "the left side of a join as of a time cannot take rows back")
                .label_opt(place, "its left side changes earlier rows")
                .help("join before the query that changes rows: before the GROUP BY, say"));
        }
        let as_of = AsOfJoin { join, version, kind, left, time: column, conditions, needed, place };
        if is_processing { self.lookup_join(as_of) } else { self.temporal_join(as_of) }
    }

    /// The rows of all versions. Without a join that asks for one of them there is nothing to do with them.
    pub(crate) fn version(&mut self, version: &SystemTimeNode) -> Result<Relation, Diagnostic> {
        if !version.is_joined {
            return Err(Diagnostic::error(Code::NOT_IN_FLINK, "FOR SYSTEM_TIME AS OF goes with a join")
                .label_opt(version.place, "joined with nothing")
                .help("FROM orders AS o JOIN rates FOR SYSTEM_TIME AS OF o.ts AS r ON o.currency = r.currency"));
        }
        let versions = self.lower(&version.input)?;
        let mut versions = self.assign_window(versions)?;
        versions.origins.push(Origin::Node(0));
        Ok(Relation { schema: datafusion::logical_expr::UserDefinedLogicalNodeCore::schema(version).clone(), ..versions })
    }

    fn temporal_join(&mut self, as_of: AsOfJoin) -> Result<Relation, Diagnostic> {
        let AsOfJoin { join, version, kind, left, time, conditions, mut needed, place } = as_of;
        let versions = self.lower(&version.input)?;
        let versions = self.assign_window(versions)?;
        let right_key = self.version_key(&versions, version)?;
        let right_time = self.version_time(&versions, version)?;
        let left_field = self.schema(left.node).field(time);
        let right_field = self.schema(versions.node).field(right_time);
        if left_field.data_type() != right_field.data_type() {
            let sql_type = crate::planner::type_name::sql_type_of;
            let message =
                format!("the times of a temporal join are of two types: {} and {}", sql_type(left_field), sql_type(right_field));
            return Err(Diagnostic::error(Code::TYPE_MISMATCH, message)
                .label_opt(version.time_place.or(place), sql_type(left_field))
                .help("declare both as TIMESTAMP(3) or both as TIMESTAMP_LTZ(3)"));
        }
        // Nothing but a choice of columns is between the versions and the join.
        let right = self.lower(&join.right)?;
        if right.node != versions.node {
            return Err(not_yet("a temporal join with this table", place));
        }

        let (keys, others): (Vec<EqualSides>, Vec<EqualSides>) = conditions.keys.into_iter().partition(|key| {
            !key.nulls_match && matches!(right.origin_of(&key.right), Some(Origin::Node(column)) if right_key.contains(&column))
        });
        let is_said = |column: &usize| keys.iter().any(|key| right.origin_of(&key.right) == Some(Origin::Node(*column)));
        if let Some(missing) = right_key.iter().find(|column| !is_said(column)) {
            let name = self.schema(versions.node).field(*missing).name();
            return Err(Diagnostic::error(
                Code::NOT_IN_FLINK,
                format!("the condition of a temporal join holds the whole key of the versions, and \"{name}\" is missing"),
            )
            .label_opt(place, format!("each \"{name}\" has versions of its own"))
            .help(format!("add an equality with {name} to ON, or declare the table's PRIMARY KEY otherwise")));
        }
        let mut rest = conditions.rest;
        rest.extend(others.into_iter().map(as_condition));
        needed.read(join, &rest);

        needed.right.retain(|index| !system_time::is_version(join.right.schema().field(*index)));
        // Columns that only the version's own conditions read are no longer among those of `right`.
        let read: Vec<usize> = version
            .conditions
            .iter()
            .flat_map(LogicalExpr::column_refs)
            .filter_map(|column| match versions.origin_of_column(column) {
                Some(Origin::Node(column)) => Some(column),
                _ => None,
            })
            .collect();
        let left = self.join_side((left, &needed.left), keys.iter().map(|key| &key.left), &[time])?;
        let right = self.join_side(
            (right, &needed.right),
            keys.iter().map(|key| &key.right),
            &[vec![right_time], read.clone()].concat(),
        )?;
        let width = self.schema(left.relation.node).fields().len();
        rest.extend(version.conditions.iter().map(|condition| {
            map_columns(condition.clone(), &|column| match versions.origin_of_column(column) {
                Some(Origin::Node(column)) => {
                    let index = read.iter().position(|other| *other == column)?;
                    Some(width + right.extra[1 + index])
                }
                _ => None,
            })
        }));
        let condition = self.pair_condition(&left.relation, &right.relation, rest)?;
        let keys = join_keys(&left, &right, keys.iter().map(|_| false));
        let (before, other) = (self.properties(left.relation.node), self.properties(right.relation.node));
        let properties = Properties {
            updating: false,
            // There is one version at most.
            upsert_key: before.upsert_key.clone(),
            time_attributes: before.time_attributes.clone(),
            window: before.window.clone(),
            // The newest version of each key stays.
            state: StateLifetime::Forever,
            bounded: before.bounded && other.bounded,
        };
        let node_schema = properties::joined_schema(self.schema(left.relation.node), self.schema(right.relation.node), kind);
        let edges = self.edges(&left, &right, false);
        let (left_time, right_time) = (left.extra[0], right.extra[0]);
        let node = TemporalJoin { kind, keys, left_time, right_time, condition, stamps_rows: false };
        let node = self.add(NodeKind::TemporalJoin(node), edges, node_schema, properties, place);
        Ok(self.joined(node, kind, (&left, &right), join.schema.clone()))
    }

    /// The columns that name a row of the versions.
    fn version_key(&self, versions: &Relation, version: &SystemTimeNode) -> Result<Vec<usize>, Diagnostic> {
        let declared = system_time::primary_key(&version.input);
        let position = |name: &String| {
            let index = versions.schema.fields().iter().position(|field| field.name() == name)?;
            match versions.origins[index] {
                Origin::Node(column) => Some(column),
                Origin::Window(_) => None,
            }
        };
        let declared: Option<Vec<usize>> = declared.iter().map(position).collect();
        let key = declared.filter(|key| !key.is_empty()).or_else(|| self.properties(versions.node).upsert_key.clone());
        key.filter(|key| !key.is_empty()).ok_or_else(|| {
            Diagnostic::error(Code::NOT_IN_FLINK, "a temporal join needs a versioned table, and this one has no key")
                .label_opt(version.place, "no PRIMARY KEY")
                .help(
                    "declare PRIMARY KEY (…) NOT ENFORCED beside the WATERMARK; or make versions of a stream: CREATE VIEW v AS \
                     SELECT … FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY key ORDER BY ts DESC) AS rn FROM t) WHERE rn = 1",
                )
        })
    }

    /// The column that says from when on a version is valid.
    fn version_time(&self, versions: &Relation, version: &SystemTimeNode) -> Result<usize, Diagnostic> {
        let is_event = |attribute: &&TimeAttribute| attribute.kind == TimeKind::Event;
        let attribute = self.properties(versions.node).time_attributes.iter().find(is_event);
        attribute.map(|attribute| attribute.column).ok_or_else(|| {
            Diagnostic::error(Code::NO_TIME_ATTRIBUTE, "a temporal join needs versions with a time, and this table has none")
                .label_opt(version.place, "no time attribute")
                .help("declare a WATERMARK on the table; a view must have that column in its SELECT, unchanged")
        })
    }

    fn lookup_join(&mut self, as_of: AsOfJoin) -> Result<Relation, Diagnostic> {
        let AsOfJoin { join, version, kind, left, conditions, mut needed, place, .. } = as_of;
        let table = looked_up(version)?;
        let mut fields: Vec<ScanField> = vec![];
        let mut origins = vec![];
        for index in 0..join.right.schema().fields().len() {
            let is_version = system_time::is_version(join.right.schema().field(index));
            // Nothing reads the version itself.
            let column =
                if is_version { None } else { Some(table_column(&join.right, index).ok_or_else(|| not_a_table(version))?) };
            origins.push(match column {
                None => Origin::Node(0),
                Some(column) => Origin::Node(scan_field(&mut fields, table, column, version)?),
            });
        }
        // The table's columns stand for a node of their own, which is none of the plan.
        let right = Relation { node: left.node, schema: join.right.schema().clone(), origins, window: None };
        let (keys, others): (Vec<EqualSides>, Vec<EqualSides>) =
            conditions.keys.into_iter().partition(|key| !key.nulls_match && right.origin_of(&key.right).is_some());
        if keys.is_empty() {
            return Err(Diagnostic::error(Code::NOT_IN_FLINK, "a lookup join needs an equality with a column of the table")
                .label_opt(place, "looked up by nothing")
                .help("compare a column of the table with = in ON"));
        }
        let mut rest = conditions.rest;
        rest.extend(others.into_iter().map(as_condition));
        needed.read(join, &rest);
        let left = self.join_side((left, &needed.left), keys.iter().map(|key| &key.left), &[])?;
        let width = self.schema(left.relation.node).fields().len();
        for condition in &version.conditions {
            let mut places = vec![];
            for column in condition.column_refs() {
                let index = version.input.schema().maybe_index_of_column(column);
                let index = index.and_then(|index| table_column(&version.input, index)).ok_or_else(|| not_a_table(version))?;
                places.push((column.clone(), width + scan_field(&mut fields, table, index, version)?));
            }
            let place = |column: &Column| places.iter().find(|(other, _)| other == column).map(|(_, place)| *place);
            rest.push(map_columns(condition.clone(), &place));
        }
        let right_fields: Vec<FieldRef> = fields.iter().map(|field| field.field().clone()).collect();
        let condition = self.condition_over(&left.relation, &right, right_fields.clone(), rest)?;
        let keys: Vec<JoinKey> = left
            .keys
            .iter()
            .zip(&keys)
            .map(|(column, key)| match right.origin_of(&key.right) {
                Some(Origin::Node(field)) => JoinKey { left: *column, right: field, nulls_match: false },
                _ => JoinKey { left: *column, right: 0, nulls_match: false },
            })
            .collect();
        let before = self.properties(left.relation.node);
        let properties = Properties { upsert_key: None, state: StateLifetime::Stateless, ..before.clone() };
        let left_schema = self.schema(left.relation.node);
        let node_schema = properties::joined_schema(left_schema, &Arc::new(Schema::new(right_fields)), kind);
        let edges = vec![Input { node: left.relation.node, exchange: Exchange::Forward }];
        let lookup = LookupJoin { kind, table: table.clone(), fields, keys, condition };
        let node = self.add(NodeKind::LookupJoin(lookup), edges, node_schema, properties, place);
        let mut all = left.relation.origins.clone();
        all.extend(right.origins.iter().map(|origin| match origin {
            Origin::Node(column) => Origin::Node(width + column),
            Origin::Window(part) => Origin::Window(*part),
        }));
        Ok(Relation { node, schema: join.schema.clone(), origins: all, window: None })
    }
}

fn as_condition(key: EqualSides) -> LogicalExpr {
    match key.nulls_match {
        true => binary_expr(key.left, Operator::IsNotDistinctFrom, key.right),
        false => key.left.eq(key.right),
    }
}

/// The table behind a version on processing time: one that can be asked for single keys.
fn looked_up(version: &SystemTimeNode) -> Result<&TableDefinition, Diagnostic> {
    let table = scan_of(&version.input).and_then(|scan| scan.source.downcast_ref::<ScannedTable>());
    let table = table.ok_or_else(|| not_a_table(version))?;
    match table.definition.connector() {
        Some("filesystem") => Ok(&table.definition),
        other => Err(Diagnostic::error(
            Code::NOT_YET,
            format!("a lookup in \"{}\" does not run yet: connector '{}'", table.definition.name, other.unwrap_or("?")),
        )
        .label_opt(version.place, "looked up on processing time")
        .help("tables with connector 'filesystem' can be looked up; or join as of an event time")),
    }
}

fn not_a_table(version: &SystemTimeNode) -> Diagnostic {
    Diagnostic::error(Code::NOT_IN_FLINK, "a join as of processing time takes a table, not a view or a query")
        .label_opt(version.place, "not a table")
        .help("name the table itself, or join as of an event time")
}

fn scan_of(plan: &LogicalPlan) -> Option<&TableScan> {
    match plan {
        LogicalPlan::TableScan(scan) => Some(scan),
        LogicalPlan::SubqueryAlias(alias) => scan_of(&alias.input),
        LogicalPlan::Projection(projection) => scan_of(&projection.input),
        _ => None,
    }
}

/// The column of the table that column `index` of `plan` is.
fn table_column(plan: &LogicalPlan, index: usize) -> Option<usize> {
    match plan {
        LogicalPlan::TableScan(scan) => match &scan.projection {
            Some(columns) => columns.get(index).copied(),
            None => Some(index),
        },
        LogicalPlan::SubqueryAlias(alias) => table_column(&alias.input, index),
        LogicalPlan::Extension(extension) => {
            let version = extension.node.as_any().downcast_ref::<SystemTimeNode>()?;
            table_column(&version.input, index)
        }
        LogicalPlan::Projection(projection) => match projection.expr.get(index)?.clone().unalias() {
            LogicalExpr::Column(column) => {
                table_column(&projection.input, projection.input.schema().maybe_index_of_column(&column)?)
            }
            _ => None,
        },
        _ => None,
    }
}

/// The position of a column of the table among those that are looked up.
fn scan_field(
    fields: &mut Vec<ScanField>,
    table: &TableDefinition,
    column: usize,
    version: &SystemTimeNode,
) -> Result<usize, Diagnostic> {
    let declared = &table.columns[column];
    let field = match &declared.kind {
        ColumnKind::Physical => ScanField::Physical(declared.field.clone()),
        ColumnKind::Metadata { key, .. } => ScanField::Metadata { key: key.clone(), field: declared.field.clone() },
        ColumnKind::Computed { .. } => {
            let what = format!("the computed column \"{}\" of a table that is looked up", declared.name());
            return Err(not_yet(&what, version.place).help("compute it in SELECT"));
        }
    };
    Ok(match fields.iter().position(|known| known.field().name() == field.field().name()) {
        Some(position) => position,
        None => {
            fields.push(field);
            fields.len() - 1
        }
    })
}
