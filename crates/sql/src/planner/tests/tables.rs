//! The tables that the tests query.

use std::sync::Arc;

use datafusion::arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use thalweg_core::{Column, ColumnKind, Options, TableDefinition, WatermarkDefinition};

use super::Session;

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn instant() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn physical(name: &str, data_type: DataType) -> Column {
    let sql_type = super::super::type_name::sql_type_name(&data_type);
    TableDefinition::physical_column(Field::new(name, data_type, true), sql_type)
}

fn computed(name: &str, data_type: DataType, sql: &str) -> Column {
    Column { kind: ColumnKind::Computed { sql: sql.to_string() }, ..physical(name, data_type) }
}

fn table(name: &str, columns: Vec<Column>, watermark: Option<(&str, &str)>) -> TableDefinition {
    let mut options = Options::new();
    options.insert("connector", "kafka");
    options.insert("topic", name);
    TableDefinition {
        name: name.to_string(),
        columns,
        watermark: watermark.map(|(column, sql)| WatermarkDefinition {
            column: column.to_string(),
            sql: sql.to_string(),
            span: None,
        }),
        primary_key: vec![],
        partitioned_by: vec![],
        comment: None,
        options,
        temporary: false,
        span: None,
    }
}

pub(super) fn session() -> Session {
    let clicks = table(
        "clicks",
        vec![physical("id", DataType::Int32), physical("visitor", DataType::Utf8), physical("ts", timestamp())],
        Some(("ts", "ts - INTERVAL '1' SECOND")),
    );
    let orders = table(
        "orders",
        vec![
            physical("order_id", DataType::Int32),
            physical("customer", DataType::Utf8),
            physical("amount", DataType::Int32),
            physical("price", DataType::Decimal128(10, 2)),
            physical("big", DataType::Int64),
            physical("ratio", DataType::Float64),
            physical("plain_ts", timestamp()),
            physical("ts", timestamp()),
            Column {
                kind: ColumnKind::Metadata { key: "offset".to_string(), is_virtual: true },
                ..physical("position", DataType::Int64)
            },
            computed("twice", DataType::Int32, "amount * 2"),
            computed("four_times", DataType::Int32, "twice * 2"),
        ],
        Some(("ts", "ts - INTERVAL '5' SECOND")),
    );
    let bid = DataType::Struct(Fields::from(vec![
        Field::new("price", DataType::Int64, true),
        Field::new("extra", DataType::Struct(Fields::from(vec![Field::new("channel", DataType::Utf8, true)])), true),
    ]));
    let events = table(
        "events",
        vec![physical("bid", bid), physical("at", instant()), physical("note", DataType::Utf8)],
        Some(("at", "at")),
    );
    let mut files = table("files", vec![physical("id", DataType::Int32)], None);
    files.options = Options::new();
    files.options.insert("connector", "filesystem");
    files.options.insert("path", "/data/files");
    let mut strict = table("strict", vec![physical("id", DataType::Int64), physical("note", DataType::Utf8)], None);
    strict.columns[0].field = Arc::new(Field::new("id", DataType::Int64, false));
    let totals = table(
        "totals",
        vec![physical("window_end", timestamp()), physical("customer", DataType::Utf8), physical("total", DataType::Int64)],
        None,
    );
    let payments = table(
        "payments",
        vec![
            physical("order_id", DataType::Int32),
            physical("paid_by", DataType::Utf8),
            physical("paid", DataType::Int32),
            physical("big", DataType::Int64),
            physical("ts", timestamp()),
        ],
        Some(("ts", "ts - INTERVAL '1' SECOND")),
    );
    let shipments = table("shipments", vec![physical("order_id", DataType::Int32), physical("carrier", DataType::Utf8)], None);
    let mut rates = table(
        "rates",
        vec![physical("currency", DataType::Utf8), physical("rate", DataType::Int32), physical("ts", timestamp())],
        Some(("ts", "ts")),
    );
    rates.primary_key = vec!["currency".to_string()];
    let line = DataType::Struct(Fields::from(vec![
        Field::new("product", DataType::Utf8, true),
        Field::new("qty", DataType::Int32, true),
    ]));
    let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, true)));
    let entries = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Int32, true)]);
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false);
    let baskets = table(
        "baskets",
        vec![
            physical("order_id", DataType::Int32),
            physical("items", list(DataType::Utf8)),
            physical("prices", map),
            physical("lines", list(line)),
        ],
        None,
    );
    let all = [clicks, orders, events, files, strict, totals, payments, shipments, rates, baskets];
    Session { tables: all.into_iter().map(Arc::new).collect(), ..Session::default() }
}
