//! Which types an INSERT converts without being asked, as Flink does.

use datafusion::arrow::datatypes::DataType;

/// Whether a value of type `from` may go into a column of type `to` without a CAST.
///
/// Source: Flink 2.3, `LogicalTypeCasts`, implicit rules.
pub(crate) fn is_implicit(from: &DataType, to: &DataType) -> bool {
    use DataType as Arrow;
    if from == to || *from == Arrow::Null {
        return true;
    }
    match (from, to) {
        (from, Arrow::Int16 | Arrow::Int32 | Arrow::Int64) => match (integer_rank(from), integer_rank(to)) {
            (Some(from), Some(to)) => from <= to,
            _ => false,
        },
        (from, Arrow::Decimal128(..)) => integer_rank(from).is_some() || matches!(from, Arrow::Decimal128(..)),
        (from, Arrow::Float32) => integer_rank(from).is_some() || matches!(from, Arrow::Decimal128(..)),
        (from, Arrow::Float64) => from.is_numeric(),
        (Arrow::Timestamp(..), Arrow::Timestamp(..)) => true,
        (Arrow::Timestamp(_, None), Arrow::Date32 | Arrow::Time64(_)) => true,
        (Arrow::List(from), Arrow::List(to)) => is_implicit(from.data_type(), to.data_type()),
        (Arrow::Map(from, _), Arrow::Map(to, _)) => is_implicit(from.data_type(), to.data_type()),
        (Arrow::Struct(from), Arrow::Struct(to)) => {
            from.len() == to.len() && from.iter().zip(to).all(|(from, to)| is_implicit(from.data_type(), to.data_type()))
        }
        _ => false,
    }
}

fn integer_rank(data_type: &DataType) -> Option<u8> {
    match data_type {
        DataType::Int8 => Some(0),
        DataType::Int16 | DataType::UInt8 => Some(1),
        DataType::Int32 | DataType::UInt16 => Some(2),
        DataType::Int64 | DataType::UInt32 => Some(3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: DataType, to: DataType, expected: bool) {
        assert_eq!(is_implicit(&from, &to), expected, "{from} to {to}");
    }

    #[test]
    fn numbers_widen_only() {
        check(DataType::Int32, DataType::Int64, true);
        check(DataType::Int64, DataType::Int32, false);
        check(DataType::Int64, DataType::Decimal128(10, 2), true);
        check(DataType::Decimal128(10, 2), DataType::Int64, false);
        check(DataType::Float64, DataType::Float32, false);
        check(DataType::Int32, DataType::Utf8, false);
        check(DataType::Utf8, DataType::Int32, false);
        check(DataType::Null, DataType::Utf8, true);
    }
}
