//! The recorded Flink cases of the csv format, bad records with their messages, and round trips.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Field, FieldRef, TimeUnit};
use proptest::prelude::*;
use thalweg_core::{Decoder, EncodedRows, Encoder, ErrorKind, Options, RecordContext, Result};

use super::*;
use crate::format::json::{JsonEncoder, JsonOptions};
use crate::format::test_rows::csv_rows;

const CONTEXT: RecordContext<'_> = RecordContext { origin: "orders.csv", partition: None, offset: 3 };

fn field(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

fn options(set: &[(&str, &str)]) -> CsvOptions {
    let mut all = Options::new();
    set.iter().for_each(|(name, value)| all.insert(*name, *value));
    CsvOptions::new(&FormatOptions::new(&all, "")).unwrap()
}

fn csv_decoder(fields: &[FieldRef], set: &[(&str, &str)]) -> CsvDecoder {
    let schema = Schema::new(fields.to_vec());
    CsvDecoder::new(fields.to_vec(), &schema, options(set)).unwrap()
}

fn json_lines(batch: &RecordBatch) -> Vec<String> {
    let mut out = EncodedRows::default();
    JsonEncoder::new(&batch.schema(), &JsonOptions::default()).encode(batch, &mut out).unwrap();
    out.iter().map(|row| String::from_utf8(row.to_vec()).unwrap()).collect()
}

fn csv_lines(batch: &RecordBatch, options: CsvOptions) -> Vec<String> {
    let mut out = EncodedRows::default();
    CsvEncoder::new(options).encode(batch, &mut out).unwrap();
    out.iter().map(|row| String::from_utf8(row.to_vec()).unwrap()).collect()
}

fn read(fields: &[FieldRef], set: &[(&str, &str)], records: &[&str]) -> Result<Vec<String>> {
    let mut decoder = csv_decoder(fields, set);
    for record in records {
        decoder.decode(record.as_bytes(), CONTEXT)?;
    }
    Ok(json_lines(&decoder.flush()?))
}

fn check(fields: &[FieldRef], set: &[(&str, &str)], records: &[&str], expected: &[&str]) {
    assert_eq!(read(fields, set, records).unwrap(), expected);
}

fn check_error(fields: &[FieldRef], set: &[(&str, &str)], record: &[u8], message: &str, help: &str) {
    let mut decoder = csv_decoder(fields, set);
    let error = decoder.decode(record, CONTEXT).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Record);
    assert_eq!(error.message, format!("orders.csv:3: {message}"));
    assert_eq!(error.help.unwrap_or_default(), help);
    assert_eq!(decoder.flush().unwrap().num_rows(), 0);
}

fn orders() -> [FieldRef; 3] {
    [field("order_id", DataType::Int32), field("customer", DataType::Utf8), field("amount", DataType::Int32)]
}

#[test]
fn defaults() {
    let fields = [field("order_id", DataType::Int32), field("customer", DataType::Utf8), field("note", DataType::Utf8)];
    check(
        &fields,
        &[],
        &[r#"1,"ann, of uk","say ""hi""""#, "2,, x ", r#"3,"",null"#, ""],
        &[
            r#"{"order_id":1,"customer":"ann, of uk","note":"say \"hi\""}"#,
            r#"{"order_id":2,"customer":"","note":" x "}"#,
            r#"{"order_id":3,"customer":"","note":"null"}"#,
        ],
    );
}

#[test]
fn ignored_parse_errors() {
    let mut decoder = csv_decoder(&orders(), &[("csv.ignore-parse-errors", "true")]);
    for record in ["1,ann,10", "x,bob,20", "3,cid", "4,dee,40,50"] {
        decoder.decode(record.as_bytes(), CONTEXT).unwrap();
    }
    let expected = [
        r#"{"order_id":1,"customer":"ann","amount":10}"#,
        r#"{"order_id":null,"customer":"bob","amount":20}"#,
        r#"{"order_id":3,"customer":"cid","amount":null}"#,
    ];
    assert_eq!(json_lines(&decoder.flush().unwrap()), expected);
    assert_eq!(decoder.take_skipped(), 1);
}

#[test]
fn characters_of_ones_own() {
    let tags = DataType::List(Arc::new(Field::new("item", DataType::Utf8, true)));
    let fields = [field("order_id", DataType::Int32), field("customer", DataType::Utf8), field("tags", tags)];
    let set = [
        ("csv.field-delimiter", ";"),
        ("csv.quote-character", "'"),
        ("csv.null-literal", "n/a"),
        ("csv.array-element-delimiter", "|"),
        ("csv.allow-comments", "true"),
    ];
    check(
        &fields,
        &set,
        &["# the orders", "1;'ann; of uk';red|blue", "2;n/a;n/a", "3;n/a ;one"],
        &[
            r#"{"order_id":1,"customer":"ann; of uk","tags":["red","blue"]}"#,
            r#"{"order_id":2,"customer":null,"tags":[null]}"#,
            r#"{"order_id":3,"customer":"n/a ","tags":["one"]}"#,
        ],
    );
}

#[test]
fn options_of_reading() {
    let row = |customer: &str, amount: &str| format!(r#"{{"order_id":1,"customer":"{customer}","amount":{amount}}}"#);
    let check = |set: &[(&str, &str)], record: &str, expected: &str| check(&orders(), set, &[record], &[expected]);
    check(&[], "1,ann,10,", &row("ann", "10"));
    check(&[("csv.trim-spaces", "true")], " 1 ,  ann  , 10", &row("ann", "10"));
    check(&[("csv.trim-spaces", "true")], "1, \" ann \" ,10", &row(" ann ", "10"));
    check(&[("csv.ignore-trailing-unmappable", "true")], "1,ann,10,x,y", &row("ann", "10"));
    check(&[("csv.empty-string-as-null", "true")], "1,ann,", &row("ann", "null"));
    check(&[("csv.escape-character", "\\")], r"1,a\,n\n,10", &row(r"a,n\n", "10"));
    check(&[("csv.disable-quote-character", "true")], "1,\"ann,10", &row("\\\"ann", "10"));
    check(&[("csv.field-delimiter", "\\t")], "1\tann\t10\r\n", &row("ann", "10"));
    check(&[("csv.field-delimiter", "\\u0001")], "1\u{1}ann\u{1}10", &row("ann", "10"));
    check(&[("csv.field-delimiter", "§")], "1§ann§10", &row("ann", "10"));
}

#[test]
fn nested_and_temporal_values() {
    let row = DataType::Struct(vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8, true)].into());
    let fields = [
        field("r", row),
        field("d", DataType::Date32),
        field("t", DataType::Timestamp(TimeUnit::Microsecond, None)),
        field("z", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        field("p", DataType::Decimal128(5, 2)),
    ];
    check(
        &fields,
        &[],
        &[
            "1;a,2026-1-2,2026-01-01 00:00:01.5,2026-01-01 00:00:00Z, 1.005",
            "1;a,2026-01-02,2026-01-01 00:00:00,2026-01-01 00:00:00Z,9999",
        ],
        &[
            r#"{"r":{"x":1,"y":"a"},"d":"2026-01-02","t":"2026-01-01 00:00:01.5","z":"2026-01-01 00:00:00Z","p":1.01}"#,
            r#"{"r":{"x":1,"y":"a"},"d":"2026-01-02","t":"2026-01-01 00:00:00","z":"2026-01-01 00:00:00Z","p":null}"#,
        ],
    );
}

#[test]
fn only_wanted_fields_by_position() {
    let physical = Schema::new(orders().to_vec());
    let wanted = vec![field("amount", DataType::Int32), field("order_id", DataType::Int32)];
    let mut decoder = CsvDecoder::new(wanted, &physical, options(&[])).unwrap();
    decoder.decode(b"1,\xc3\xa9,10", CONTEXT).unwrap();
    assert_eq!(json_lines(&decoder.flush().unwrap()), [r#"{"amount":10,"order_id":1}"#]);
    let mut none = CsvDecoder::new(vec![], &physical, options(&[])).unwrap();
    none.decode(b"1,a,10", CONTEXT).unwrap();
    assert_eq!(none.flush().unwrap().num_rows(), 1);
}

#[test]
fn messages_about_bad_records() {
    let check = |set: &[(&str, &str)], record: &str, message: &str, help: &str| {
        check_error(&orders(), set, record.as_bytes(), message, help);
    };
    let whole = "expected a whole number from -2147483648 to 2147483647";
    check(&[], "x,bob,1", r#"field "order_id" cannot be read as INT from "x""#, whole);
    check(
        &[],
        "1,bob,",
        r#"field "amount" cannot be read as INT from """#,
        &format!("{whole}; set 'csv.empty-string-as-null' = 'true' to read it as null"),
    );
    check(
        &[],
        "3,cid",
        r#"the row has 2 fields, but the table has 3 columns: "3,cid""#,
        "set 'csv.ignore-parse-errors' = 'true' to read missing fields as null",
    );
    check(
        &[("csv.allow-trailing-comma", "false")],
        "4,dee,40,",
        r#"the row has 4 fields, but the table has 3 columns: "4,dee,40,""#,
        "set 'csv.ignore-trailing-unmappable' = 'true' to ignore fields at the end",
    );
    let skip = "set 'csv.ignore-parse-errors' = 'true' to skip such records";
    check(&[], "1,\"ann", r#"not CSV at byte 6: expected a closing quote, found """#, skip);
    check(&[], "1,\"ann\"x,1", r#"not CSV at byte 7: expected a delimiter behind the closing quote, found "x,1""#, skip);
    check(&[], "1,a,1\n2,b,2", "not CSV at byte 5: expected one row in a record, found \"\u{fffd}2,b,2\"", skip);
    check_error(&orders(), &[], b"1,\xff,1", "the record is not UTF-8 at byte 2", "write CSV in UTF-8");
    let not_null: [FieldRef; 1] = [Arc::new(Field::new("id", DataType::Utf8, false))];
    check_error(
        &not_null,
        &[("csv.null-literal", "-")],
        b"-",
        r#"field "id" is null, but its column is NOT NULL"#,
        "declare the column without NOT NULL to let it be null",
    );
    let missing = [("csv.fail-on-missing-columns", "true"), ("csv.ignore-parse-errors", "true")];
    assert_eq!(read(&orders(), &missing, &["1,ann"]).unwrap(), Vec::<String>::new());
}

#[test]
fn written_as_flink_writes() {
    let fields = [
        field("s", DataType::Utf8),
        field("t", DataType::Timestamp(TimeUnit::Microsecond, None)),
        field("p", DataType::Decimal128(10, 2)),
        field("n", DataType::Int32),
    ];
    let mut decoder = csv_decoder(&fields, &[("csv.null-literal", "-")]);
    for record in ["plain,2026-01-01 00:00:00,1000,-1", "\"a \"\"b\"\"\",-,12.50,-", "12345678901234567890123456,-,-,-"] {
        decoder.decode(record.as_bytes(), CONTEXT).unwrap();
    }
    let batch = decoder.flush().unwrap();
    assert_eq!(
        csv_lines(&batch, options(&[])),
        ["plain,\"2026-01-01 00:00:00\",1E+3,-1", "\"a \"\"b\"\"\",,12.5,", "\"12345678901234567890123456\",,,"]
    );
    let plain = [("csv.write-bigdecimal-in-scientific-notation", "false"), ("csv.null-literal", "NULL")];
    assert_eq!(csv_lines(&batch, options(&plain))[0], "plain,\"2026-01-01 00:00:00\",1000.00,-1");
    assert_eq!(csv_lines(&batch, options(&plain))[1], "\"a \"\"b\"\"\",NULL,12.50,NULL");
}

#[test]
fn plan_time_findings() {
    let map = DataType::Map(
        Arc::new(Field::new(
            "entries",
            DataType::Struct(vec![Field::new("key", DataType::Utf8, false), Field::new("value", DataType::Utf8, true)].into()),
            false,
        )),
        false,
    );
    let finding = &check_schema(&Schema::new(vec![field("m", map)]))[0];
    assert_eq!(
        finding.one_line(),
        "error[TW0108]: format \"csv\" cannot hold column \"m\": a MAP (use format 'json' for nested data)"
    );
    for (name, value) in [
        ("csv.field-delimiter", ",,"),
        ("csv.field-delimiter", ""),
        ("csv.quote-character", "é"),
        ("csv.escape-character", "ab"),
        ("csv.array-element-delimiter", ""),
        ("csv.trim-spaces", "perhaps"),
    ] {
        let mut all = Options::new();
        all.insert(name, value);
        let finding = CsvOptions::new(&FormatOptions::new(&all, "")).unwrap_err();
        assert_eq!(finding.message, format!("option \"{name}\" cannot be \"{value}\""));
    }
}

proptest! {
    #[test]
    fn rows_come_back(seed: u64, escape: bool, tab: bool) {
        let batch = csv_rows(seed);
        let mut set = vec![("csv.null-literal", "\\N")];
        if escape {
            set.push(("csv.escape-character", "/"));
        }
        if tab {
            set.push(("csv.field-delimiter", "\t"));
        }
        let mut decoder = CsvDecoder::new(batch.schema().fields.to_vec(), &batch.schema(), options(&set)).unwrap();
        // A null array reads as one with a null in it, as in Flink.
        let has_null_array = batch.columns().iter().any(|column| {
            matches!(column.data_type(), DataType::List(_)) && column.null_count() > 0
        });
        prop_assume!(!has_null_array);
        for line in csv_lines(&batch, options(&set)) {
            let added = decoder.decode(line.as_bytes(), CONTEXT).map_err(|error| error.message);
            prop_assert_eq!(added, Ok(1), "{}", line);
        }
        prop_assert_eq!(decoder.flush().unwrap(), batch);
    }

    #[test]
    fn never_panics(records: Vec<Vec<u8>>, text in r#"([,;"\\ \n1a#é]|"a"){0,30}"#, ignore: bool, trim: bool) {
        let flag = |value: bool| if value { "true" } else { "false" };
        let set = [
            ("csv.ignore-parse-errors", flag(ignore)),
            ("csv.trim-spaces", flag(trim)),
            ("csv.escape-character", "\\"),
        ];
        let mut decoder = csv_decoder(&orders(), &set);
        let mut rows = decoder.decode(text.as_bytes(), CONTEXT).unwrap_or(0);
        for record in &records {
            rows += decoder.decode(record, CONTEXT).unwrap_or(0);
        }
        prop_assert_eq!(decoder.flush().unwrap().num_rows(), rows);
    }
}
