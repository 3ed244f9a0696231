//! What is known of the rows of a join.

use std::sync::Arc;

use datafusion::arrow::datatypes::{Schema, SchemaRef};
use thalweg_plan::{JoinKey, JoinKind, Properties, StateLifetime, TimeAttribute};

/// The columns of a join: the left ones, then the right ones, nullable where a side may be missing.
pub(super) fn joined_schema(left: &SchemaRef, right: &SchemaRef, kind: JoinKind) -> SchemaRef {
    let missing = |may_be: bool, schema: &SchemaRef| {
        let field = move |field: &Arc<datafusion::arrow::datatypes::Field>| match may_be {
            true => Arc::new(field.as_ref().clone().with_nullable(true)),
            false => field.clone(),
        };
        schema.fields().iter().map(field).collect::<Vec<_>>()
    };
    let mut fields = missing(kind.keeps_right(), left);
    if kind.has_right_columns() {
        fields.extend(missing(kind.keeps_left(), right));
    }
    Arc::new(Schema::new(fields))
}

/// A join that keeps both inputs. Time attributes become ordinary timestamps: rows come out in no order of time.
pub(super) fn of_regular_join(
    kind: JoinKind,
    keys: &[JoinKey],
    (left, right): (&Properties, &Properties),
    left_width: usize,
) -> Properties {
    let inputs_update = left.updating || right.updating;
    Properties {
        updating: inputs_update || !matches!(kind, JoinKind::Inner | JoinKind::Semi),
        upsert_key: upsert_key(kind, keys, (left, right), left_width),
        time_attributes: vec![],
        window: None,
        state: StateLifetime::Forever,
        bounded: left.bounded && right.bounded,
    }
}

/// A join in event time: append-only, and the times of both sides stay what they are.
pub(super) fn of_timed_join(
    kind: JoinKind,
    keys: &[JoinKey],
    (left, right): (&Properties, &Properties),
    (left_width, state): (usize, StateLifetime),
) -> Properties {
    let mut time_attributes = left.time_attributes.clone();
    if kind.has_right_columns() {
        let moved = |attribute: &TimeAttribute| TimeAttribute { column: left_width + attribute.column, ..attribute.clone() };
        time_attributes.extend(right.time_attributes.iter().map(moved));
    }
    Properties {
        updating: false,
        upsert_key: upsert_key(kind, keys, (left, right), left_width),
        time_attributes,
        window: None,
        state,
        bounded: left.bounded && right.bounded,
    }
}

/// Takes the upsert key back where it may consist of nulls alone: a FULL join may have two such rows, one without a match on
/// each side.
pub(super) fn with_sure_key(properties: Properties, kind: JoinKind, left: &SchemaRef, right: &SchemaRef) -> Properties {
    let is_never_null = |column: &usize| {
        let width = left.fields().len();
        let field = if *column < width { left.field(*column) } else { right.field(*column - width) };
        !field.is_nullable()
    };
    let upsert_key = properties.upsert_key.filter(|key| kind != JoinKind::Full || key.iter().any(is_never_null));
    Properties { upsert_key, ..properties }
}

/// The columns that name a row of the join.
///
/// Where each row of one side meets at most one of the other, the key of the one side is enough; otherwise it takes both.
/// Source: Flink's unique keys of joins.
pub(super) fn upsert_key(
    kind: JoinKind,
    keys: &[JoinKey],
    (left, right): (&Properties, &Properties),
    left_width: usize,
) -> Option<Vec<usize>> {
    if !kind.has_right_columns() {
        return left.upsert_key.clone();
    }
    let moved = |columns: &[usize]| columns.iter().map(|column| left_width + column).collect::<Vec<_>>();
    let is_unique = |key: &Option<Vec<usize>>, joined: &dyn Fn(&JoinKey) -> usize| {
        key.as_ref().is_some_and(|key| key.iter().all(|column| keys.iter().any(|pair| joined(pair) == *column)))
    };
    if let Some(key) = &left.upsert_key
        && !kind.keeps_right()
        && is_unique(&right.upsert_key, &|pair| pair.right)
    {
        return Some(key.clone());
    }
    if let Some(key) = &right.upsert_key
        && !kind.keeps_left()
        && is_unique(&left.upsert_key, &|pair| pair.left)
    {
        return Some(moved(key));
    }
    let (left_key, right_key) = (left.upsert_key.as_ref()?, right.upsert_key.as_ref()?);
    let is_said_already =
        |column: &usize| !kind.keeps_right() && keys.iter().any(|pair| pair.right == *column && left_key.contains(&pair.left));
    let added: Vec<usize> = right_key.iter().copied().filter(|column| !is_said_already(column)).collect();
    Some([left_key.clone(), moved(&added)].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keyed(key: Option<&[usize]>) -> Properties {
        Properties { upsert_key: key.map(<[usize]>::to_vec), ..Properties::default() }
    }

    fn check(
        kind: JoinKind,
        left: Option<&[usize]>,
        right: Option<&[usize]>,
        pairs: &[(usize, usize)],
        expected: Option<&[usize]>,
    ) {
        let keys: Vec<JoinKey> =
            pairs.iter().map(|(left, right)| JoinKey { left: *left, right: *right, nulls_match: false }).collect();
        let got = upsert_key(kind, &keys, (&keyed(left), &keyed(right)), 10);
        assert_eq!(got.as_deref(), expected, "{kind:?} {left:?} {right:?} on {pairs:?}");
    }

    #[test]
    fn one_side_is_enough_where_the_other_has_one_match() {
        check(JoinKind::Inner, Some(&[0]), Some(&[1]), &[(3, 1)], Some(&[0]));
        check(JoinKind::Left, Some(&[0]), Some(&[1]), &[(3, 1)], Some(&[0]));
        check(JoinKind::Inner, Some(&[0]), Some(&[1]), &[(0, 3)], Some(&[11]));
        check(JoinKind::Right, Some(&[0]), Some(&[1]), &[(0, 3)], Some(&[11]));
    }

    #[test]
    fn otherwise_it_takes_both_keys() {
        check(JoinKind::Inner, Some(&[0]), Some(&[1]), &[(3, 3)], Some(&[0, 11]));
        check(JoinKind::Right, Some(&[0]), Some(&[1]), &[(3, 1)], Some(&[0, 11]));
        check(JoinKind::Full, Some(&[0]), Some(&[1]), &[(0, 1)], Some(&[0, 11]));
        check(JoinKind::Inner, Some(&[0, 1]), Some(&[0, 2]), &[(0, 0)], Some(&[0, 1, 12]));
    }

    #[test]
    fn nothing_is_known_of_rows_without_a_key() {
        check(JoinKind::Inner, None, Some(&[0]), &[(0, 0)], None);
        check(JoinKind::Full, Some(&[0]), None, &[(0, 0)], None);
        check(JoinKind::Semi, Some(&[0]), None, &[(1, 0)], Some(&[0]));
        check(JoinKind::Anti, None, Some(&[0]), &[(0, 0)], None);
    }
}
