//! Arrays, maps and rows.

use std::collections::HashSet;
use std::sync::Arc;

use datafusion::arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, Int32Array, ListArray, MapArray, MapBuilder, StringBuilder,
    StructArray, UInt32Array,
};
use datafusion::arrow::buffer::{NullBuffer, OffsetBuffer};
use datafusion::arrow::compute::{cast, take};
use datafusion::arrow::datatypes::{DataType, FieldRef};
use datafusion::arrow::row::{OwnedRow, RowConverter, Rows, SortField};
use datafusion::common::Result;

use super::arguments::{Arguments, text_rows};
use super::cast::to_text::to_text;
use super::definition::{Definition, Kind, Planned, Returns, define};
use super::sql_type::SqlType;

use Kind::{Any, ArrayOrMap, Boolean, Text};

pub(super) fn definitions() -> Vec<Definition> {
    let int = || Returns::Sql(SqlType::Int);
    let texts = || SqlType::Map(Box::new(SqlType::Text), Box::new(SqlType::Text));
    vec![
        define("cardinality", &[ArrayOrMap], int(), cardinality),
        define("element", &[Kind::Array], Returns::Computed(item_type), element).maybe_null(),
        define("array_contains", &[Kind::Array, Any], Returns::Sql(SqlType::Boolean), contains).maybe_null(),
        define("array_position", &[Kind::Array, Any], int(), position).maybe_null(),
        define("array_distinct", &[Kind::Array], Returns::Same(0), |args| sets(args, Set::Distinct)),
        define("array_union", &[Kind::Array, Kind::Array], Returns::Same(0), |args| sets(args, Set::Union)),
        define("array_intersect", &[Kind::Array, Kind::Array], Returns::Same(0), |args| sets(args, Set::Intersect)),
        define("array_except", &[Kind::Array, Kind::Array], Returns::Same(0), |args| sets(args, Set::Except)),
        define("array_reverse", &[Kind::Array], Returns::Same(0), reverse),
        define("array_sort", &[Kind::Array, Boolean, Boolean], Returns::Same(0), sort).optional(2),
        define("array_max", &[Kind::Array], Returns::Computed(item_type), |args| extreme(args, true)).maybe_null(),
        define("array_min", &[Kind::Array], Returns::Computed(item_type), |args| extreme(args, false)).maybe_null(),
        define("array_join", &[Kind::Array, Text, Text], Returns::Sql(SqlType::Text), join).optional(1),
        define("row", &[Any], Returns::Computed(row_type), row).variadic().never_null(),
        define("str_to_map", &[Text, Text, Text], Returns::Sql(texts()), str_to_map).optional(2),
    ]
}

fn item_type(planned: &Planned) -> Result<SqlType> {
    match planned.data_type(0) {
        DataType::List(item) => Ok(SqlType::of_arrow(item.data_type())),
        _ => Err(planned.error("takes an ARRAY")),
    }
}

/// An array argument with its items as comparable bytes.
struct Lists {
    list: ListArray,
    items: Rows,
    step: usize,
}

impl Lists {
    fn of(args: &Arguments, index: usize, converter: &RowConverter, item: &DataType) -> Result<Lists> {
        let list = args.array(index).as_list::<i32>().clone();
        let items = converter.convert_columns(&[cast(list.values(), item)?])?;
        Ok(Lists { list, items, step: usize::from(!args.is_constant(index)) })
    }

    /// Where the items of a row lie.
    fn range(&self, row: usize) -> Option<std::ops::Range<usize>> {
        let row = row * self.step;
        if self.list.is_null(row) {
            return None;
        }
        let offsets = self.list.offsets();
        Some(usize::try_from(offsets[row]).ok()?..usize::try_from(offsets[row + 1]).ok()?)
    }
}

fn item_of(args: &Arguments) -> Result<FieldRef> {
    match args.data_type(0) {
        DataType::List(item) => Ok(item.clone()),
        _ => Err(args.error("takes an ARRAY")),
    }
}

fn converter(item: &DataType) -> Result<RowConverter> {
    Ok(RowConverter::new(vec![SortField::new(item.clone())])?)
}

fn cardinality(args: &Arguments) -> Result<ArrayRef> {
    let array = args.array(0);
    let lengths: Int32Array = match array.data_type() {
        DataType::Map(_, _) => {
            let map = array.as_map();
            (0..map.len()).map(|row| (!map.is_null(row)).then(|| map.value_length(row))).collect()
        }
        _ => {
            let list = array.as_list::<i32>();
            (0..list.len()).map(|row| (!list.is_null(row)).then(|| list.value_length(row))).collect()
        }
    };
    super::number::expand(args, Arc::new(lengths))
}

/// The items at `indices` of the array argument 0, one for each row.
fn items_at(args: &Arguments, indices: Vec<Option<u32>>) -> Result<ArrayRef> {
    Ok(take(args.array(0).as_list::<i32>().values(), &UInt32Array::from(indices), None)?)
}

fn index_u32(args: &Arguments, index: usize) -> Result<u32> {
    u32::try_from(index).map_err(|_| args.error("too many items"))
}

/// The only item; null of an empty array; more than one item fails.
fn element(args: &Arguments) -> Result<ArrayRef> {
    let item = item_of(args)?;
    let lists = Lists::of(args, 0, &converter(item.data_type())?, item.data_type())?;
    let mut indices = Vec::with_capacity(args.rows);
    for row in 0..args.rows {
        indices.push(match lists.range(row) {
            Some(range) if range.len() > 1 => return Err(args.error("the array has more than one item")),
            Some(range) if range.len() == 1 => Some(index_u32(args, range.start)?),
            _ => None,
        });
    }
    items_at(args, indices)
}

/// The places of the needle among the items of each row; `None` if the array is null.
fn search(args: &Arguments) -> Result<Vec<Option<Option<usize>>>> {
    let item = item_of(args)?;
    let converter = converter(item.data_type())?;
    let lists = Lists::of(args, 0, &converter, item.data_type())?;
    let needles = converter.convert_columns(&[cast(&args.expanded(1)?, item.data_type())?])?;
    Ok((0..args.rows)
        .map(|row| {
            let mut range = lists.range(row)?;
            let start = range.start;
            Some(range.find(|index| lists.items.row(*index) == needles.row(row)).map(|index| index - start))
        })
        .collect())
}

/// A null is found among nulls.
fn contains(args: &Arguments) -> Result<ArrayRef> {
    let found: BooleanArray = search(args)?.into_iter().map(|place| place.map(|place| place.is_some())).collect();
    Ok(Arc::new(found))
}

/// From 1; 0 if not found; null for a null needle.
fn position(args: &Arguments) -> Result<ArrayRef> {
    let needle = args.expanded(1)?;
    let places: Int32Array = search(args)?
        .into_iter()
        .enumerate()
        .map(|(row, place)| {
            let place = place.filter(|_| !needle.is_null(row))?;
            i32::try_from(place.map_or(0, |place| place + 1)).ok()
        })
        .collect();
    Ok(Arc::new(places))
}

/// Arrays put together from items by index; `None` is a null array.
fn lists_of(args: &Arguments, values: &ArrayRef, rows: Vec<Option<Vec<u32>>>) -> Result<ArrayRef> {
    let item = item_of(args)?;
    let mut nulls = BooleanBufferBuilder::new(rows.len());
    let mut indices = vec![];
    let mut lengths = Vec::with_capacity(rows.len());
    for row in rows {
        nulls.append(row.is_some());
        let row = row.unwrap_or_default();
        lengths.push(row.len());
        indices.extend(row);
    }
    let values = take(values, &UInt32Array::from(indices), None)?;
    let nulls = NullBuffer::new(nulls.finish());
    Ok(Arc::new(ListArray::try_new(item, OffsetBuffer::from_lengths(lengths), values, Some(nulls))?))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Set {
    Distinct,
    Union,
    Intersect,
    Except,
}

/// Each item once, in the order of the first array, then of the second.
fn sets(args: &Arguments, set: Set) -> Result<ArrayRef> {
    let item = item_of(args)?;
    let converter = converter(item.data_type())?;
    let first = Lists::of(args, 0, &converter, item.data_type())?;
    let second = if set == Set::Distinct { None } else { Some(Lists::of(args, 1, &converter, item.data_type())?) };
    let first_values = args.array(0).as_list::<i32>().values().clone();
    let values = match &second {
        Some(second) => {
            let others = cast(second.list.values(), item.data_type())?;
            datafusion::arrow::compute::concat(&[&first_values, &others])?
        }
        None => first_values.clone(),
    };
    let mut rows = Vec::with_capacity(args.rows);
    for row in 0..args.rows {
        let Some(range) = first.range(row) else {
            rows.push(None);
            continue;
        };
        let others: HashSet<OwnedRow> = match &second {
            None => HashSet::new(),
            Some(second) => match second.range(row) {
                Some(range) => range.map(|index| second.items.row(index).owned()).collect(),
                None => {
                    rows.push(None);
                    continue;
                }
            },
        };
        let mut seen: HashSet<OwnedRow> = HashSet::new();
        let mut kept = vec![];
        for index in range {
            let value = first.items.row(index).owned();
            let wanted = match set {
                Set::Distinct | Set::Union => true,
                Set::Intersect => others.contains(&value),
                Set::Except => !others.contains(&value),
            };
            if wanted && seen.insert(value) {
                kept.push(index_u32(args, index)?);
            }
        }
        if let (Set::Union, Some(second)) = (set, &second) {
            for index in second.range(row).unwrap_or_default() {
                if seen.insert(second.items.row(index).owned()) {
                    kept.push(index_u32(args, first_values.len() + index)?);
                }
            }
        }
        rows.push(Some(kept));
    }
    lists_of(args, &values, rows)
}

fn reverse(args: &Arguments) -> Result<ArrayRef> {
    let item = item_of(args)?;
    let lists = Lists::of(args, 0, &converter(item.data_type())?, item.data_type())?;
    let rows = (0..args.rows)
        .map(|row| lists.range(row).map(|range| range.rev().map(|index| index_u32(args, index)).collect()).transpose())
        .collect::<Result<Vec<Option<Vec<u32>>>>>()?;
    lists_of(args, lists.list.values(), rows)
}

/// Ascending unless told otherwise; nulls first when ascending, last when descending, unless told otherwise.
fn sort(args: &Arguments) -> Result<ArrayRef> {
    let item = item_of(args)?;
    let lists = Lists::of(args, 0, &converter(item.data_type())?, item.data_type())?;
    let ascending = if args.len() > 1 { Some(args.booleans(1)?) } else { None };
    let nulls_first = if args.len() > 2 { Some(args.booleans(2)?) } else { None };
    let values = lists.list.values();
    let mut rows = Vec::with_capacity(args.rows);
    for row in 0..args.rows {
        let ascending = ascending.as_ref().map_or(Some(true), |ascending| ascending.get(row));
        let (Some(range), Some(ascending)) = (lists.range(row), ascending) else {
            rows.push(None);
            continue;
        };
        let Some(nulls_first) = nulls_first.as_ref().map_or(Some(ascending), |nulls_first| nulls_first.get(row)) else {
            rows.push(None);
            continue;
        };
        let (mut nulls, mut others): (Vec<usize>, Vec<usize>) = range.partition(|index| values.is_null(*index));
        others.sort_by(|a, b| {
            let order = lists.items.row(*a).cmp(&lists.items.row(*b));
            if ascending { order } else { order.reverse() }
        });
        if nulls_first {
            nulls.append(&mut others);
            others = nulls;
        } else {
            others.append(&mut nulls);
        }
        rows.push(Some(others.into_iter().map(|index| index_u32(args, index)).collect::<Result<Vec<u32>>>()?));
    }
    lists_of(args, values, rows)
}

/// Null only if there is nothing but nulls.
fn extreme(args: &Arguments, largest: bool) -> Result<ArrayRef> {
    let item = item_of(args)?;
    let lists = Lists::of(args, 0, &converter(item.data_type())?, item.data_type())?;
    let values = lists.list.values();
    let mut indices = Vec::with_capacity(args.rows);
    for row in 0..args.rows {
        let known = lists.range(row).into_iter().flatten().filter(|index| !values.is_null(*index));
        let by_value = |a: &usize, b: &usize| lists.items.row(*a).cmp(&lists.items.row(*b));
        let best = if largest { known.max_by(by_value) } else { known.min_by(by_value) };
        indices.push(best.map(|index| index_u32(args, index)).transpose()?);
    }
    items_at(args, indices)
}

/// Nulls are left out, or written as the third argument.
fn join(args: &Arguments) -> Result<ArrayRef> {
    let item = item_of(args)?;
    let lists = Lists::of(args, 0, &converter(item.data_type())?, item.data_type())?;
    let texts = to_text(lists.list.values(), &SqlType::of_arrow(item.data_type()), args.context.time_zone)?;
    let separator = args.text(1)?;
    let null_text = if args.len() > 2 { Some(args.text(2)?) } else { None };
    text_rows(args.rows, args.rows * 16, |row, out| {
        let null_text = null_text.as_ref().map(|null_text| null_text.get(row));
        let (Some(range), Some(separator)) = (lists.range(row), separator.get(row)) else {
            out.append_null();
            return Ok(());
        };
        if null_text == Some(None) {
            out.append_null();
            return Ok(());
        }
        let parts: Vec<&str> =
            range.filter_map(|index| if texts.is_null(index) { null_text.flatten() } else { Some(texts.value(index)) }).collect();
        out.append_value(parts.join(separator));
        Ok(())
    })
}

/// The fields are called as Flink calls them.
fn row_type(planned: &Planned) -> Result<SqlType> {
    let fields = planned.fields.iter().enumerate();
    Ok(SqlType::Row(fields.map(|(index, field)| (format!("EXPR${index}"), SqlType::of_field(field))).collect()))
}

fn row(args: &Arguments) -> Result<ArrayRef> {
    let DataType::Struct(fields) = args.return_field.data_type() else {
        return Err(args.error("gives a ROW"));
    };
    let columns =
        (0..args.len()).map(|index| Ok(cast(&args.expanded(index)?, fields[index].data_type())?)).collect::<Result<Vec<_>>>()?;
    Ok(Arc::new(StructArray::try_new(fields.clone(), columns, None)?))
}

/// Pairs between commas, key and value at the first `=`; other separators may be given. The last of equal keys counts; a
/// pair without a value has null.
fn str_to_map(args: &Arguments) -> Result<ArrayRef> {
    let text = args.text(0)?;
    let separator = |index: usize| if index < args.len() { args.text(index).map(Some) } else { Ok(None) };
    let (pair_separator, value_separator) = (separator(1)?, separator(2)?);
    let mut out = MapBuilder::new(None, StringBuilder::new(), StringBuilder::new());
    for row in 0..args.rows {
        let pairs = pair_separator.as_ref().map_or(Some(","), |separator| separator.get(row));
        let values = value_separator.as_ref().map_or(Some("="), |separator| separator.get(row));
        let (Some(text), Some(pairs), Some(values)) = (text.get(row), pairs, values) else {
            out.append(false)?;
            continue;
        };
        if pairs.is_empty() || values.is_empty() {
            return Err(args.error("separators must not be empty"));
        }
        let mut map: Vec<(&str, Option<&str>)> = vec![];
        for pair in text.split(pairs).filter(|_| !text.is_empty()) {
            let (key, value) = pair.split_once(values).map_or((pair, None), |(key, value)| (key, Some(value)));
            match map.iter_mut().find(|(known, _)| *known == key) {
                Some(known) => known.1 = value,
                None => map.push((key, value)),
            }
        }
        for (key, value) in map {
            out.keys().append_value(key);
            out.values().append_option(value);
        }
        out.append(true)?;
    }
    let built = out.finish();
    let DataType::Map(field, sorted) = args.return_field.data_type() else {
        return Err(args.error("gives a MAP"));
    };
    let DataType::Struct(fields) = field.data_type() else {
        return Err(args.error("gives a MAP"));
    };
    let entries = StructArray::try_new(fields.clone(), vec![built.keys().clone(), built.values().clone()], None)?;
    Ok(Arc::new(MapArray::try_new(field.clone(), built.offsets().clone(), entries, built.nulls().cloned(), *sorted)?))
}
