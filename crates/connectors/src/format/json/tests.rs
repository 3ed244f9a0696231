//! The recorded Flink cases of the json format, bad records with their messages, and round trips.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Int32Type, Schema, TimeUnit};
use proptest::prelude::*;
use thalweg_core::{Decoder, EncodedRows, Encoder, Error, ErrorKind, Options, RecordContext, Result};

use super::*;
use crate::format::test_rows::json_rows;
use crate::format::{self, RECORD_BYTES_MAX};

const CONTEXT: RecordContext<'_> = RecordContext { origin: "orders", partition: Some(0), offset: 17 };

fn field(name: &str, data_type: DataType) -> FieldRef {
    Arc::new(Field::new(name, data_type, true))
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn map(value: DataType) -> DataType {
    let fields = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(fields), false)), false)
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, None)
}

fn timestamp_ltz() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

fn options(options: &[(&str, &str)]) -> JsonOptions {
    let mut all = Options::new();
    for (name, value) in options {
        all.insert(*name, *value);
    }
    JsonOptions::new(&FormatOptions::new(&all, "")).unwrap()
}

fn json_decoder(fields: &[FieldRef], set: &[(&str, &str)]) -> JsonDecoder {
    JsonDecoder::new(fields.to_vec(), &options(set)).unwrap()
}

fn json_lines(batch: &RecordBatch, options: &JsonOptions) -> Vec<String> {
    let mut out = EncodedRows::default();
    JsonEncoder::new(&batch.schema(), options).encode(batch, &mut out).unwrap();
    out.iter().map(|row| String::from_utf8(row.to_vec()).unwrap()).collect()
}

/// Decodes records and prints the rows as a query's result.
fn read(fields: &[FieldRef], set: &[(&str, &str)], records: &[&str]) -> Result<Vec<String>> {
    let mut decoder = json_decoder(fields, set);
    for record in records {
        decoder.decode(record.as_bytes(), CONTEXT)?;
    }
    Ok(json_lines(&decoder.flush()?, &JsonOptions::default()))
}

fn check(fields: &[FieldRef], set: &[(&str, &str)], records: &[&str], expected: &[&str]) {
    assert_eq!(read(fields, set, records).unwrap(), expected);
}

/// Checks message and help of a record that cannot be read, and that it leaves no trace.
fn check_error(fields: &[FieldRef], set: &[(&str, &str)], record: &[u8], message: &str, help: &str) {
    let mut decoder = json_decoder(fields, set);
    let error = decoder.decode(record, CONTEXT).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Record);
    assert_eq!(error.message, format!("topic orders partition 0 offset 17: {message}"));
    assert_eq!(error.help.unwrap_or_default(), help);
    assert_eq!(decoder.rows(), 0);
    assert_eq!(decoder.flush().unwrap().num_rows(), 0);
}

const IGNORE: &[(&str, &str)] = &[("json.ignore-parse-errors", "true")];
const ISO: &[(&str, &str)] = &[("json.timestamp-format.standard", "ISO-8601")];
const SKIP_HELP: &str = "set 'json.ignore-parse-errors' = 'true' to skip such records";

#[test]
fn array_and_map() {
    let fields = [
        field("order_id", DataType::Int32),
        field("tags", list(DataType::Utf8)),
        field("prices", map(DataType::Int32)),
        field("grid", list(list(DataType::Int32))),
    ];
    let records = [
        r#"{"order_id":1,"tags":["a",null,""],"prices":{"tea":3,"cup":null},"grid":[[1,2],[],null]}"#,
        r#"{"order_id":2,"tags":[],"prices":{},"grid":[]}"#,
    ];
    check(&fields, &[], &records, &records);
}

#[test]
fn array_line_and_empty_line() {
    let fields = [field("order_id", DataType::Int32)];
    let records = [r#"[{"order_id":1},{"order_id":2}]"#, "", " \n", "null", "[]", "[null]", r#"{"order_id":3}"#];
    check(&fields, &[], &records, &[r#"{"order_id":1}"#, r#"{"order_id":2}"#, r#"{"order_id":3}"#]);
}

#[test]
fn big_and_small_numbers() {
    let fields = [
        field("d", DataType::Float64),
        field("f", DataType::Float32),
        field("b", DataType::Int64),
        field("p", DataType::Decimal128(20, 10)),
    ];
    check(
        &fields,
        &[],
        &[
            r#"{"d":1e20,"f":1e20,"b":9223372036854775807,"p":1e-10}"#,
            r#"{"d":0.1,"f":0.1,"b":-9223372036854775808,"p":100}"#,
            r#"{"d":1e-7,"f":1e-7,"b":0,"p":0}"#,
            r#"{"d":100000000,"f":16777217,"b":1,"p":-12.5}"#,
            r#"{"d":12345678.9,"f":0.3333333333333,"b":2,"p":1234567890.0123456789}"#,
        ],
        &[
            r#"{"d":1.0E20,"f":1.0E20,"b":9223372036854775807,"p":0.0000000001}"#,
            r#"{"d":0.1,"f":0.1,"b":-9223372036854775808,"p":100.0000000000}"#,
            r#"{"d":1.0E-7,"f":1.0E-7,"b":0,"p":0.0000000000}"#,
            r#"{"d":1.0E8,"f":1.6777216E7,"b":1,"p":-12.5000000000}"#,
            r#"{"d":1.23456789E7,"f":0.33333334,"b":2,"p":1234567890.0123456789}"#,
        ],
    );
}

#[test]
fn date_and_time() {
    let time = || DataType::Time64(TimeUnit::Microsecond);
    let fields = [field("d", DataType::Date32), field("t", time()), field("t3", time())];
    let records =
        [r#"{"d":"2026-02-28","t":"10:20:30","t3":"10:20:30.123"}"#, r#"{"d":"1969-12-31","t":"00:00:00","t3":"23:59:59.999"}"#];
    check(&fields, &[], &records, &records);
}

#[test]
fn decimal_scale() {
    let fields = [
        field("id", DataType::Int32),
        field("p", DataType::Decimal128(5, 2)),
        field("q", DataType::Decimal128(5, 0)),
        field("r", DataType::Decimal128(38, 18)),
    ];
    check(
        &fields,
        &[],
        &[
            r#"{"id":1,"p":1.005,"q":2.5,"r":1.5}"#,
            r#"{"id":2,"p":1.004,"q":-2.5,"r":0.000000000000000001}"#,
            r#"{"id":3,"p":1234.5,"q":99999.5,"r":12345678901234567890.123456789012345678}"#,
            r#"{"id":4,"p":" 1.5 ","q":"1e2","r":1E-18}"#,
        ],
        &[
            r#"{"id":1,"p":1.01,"q":3,"r":1.500000000000000000}"#,
            r#"{"id":2,"p":1.00,"q":-3,"r":0.000000000000000001}"#,
            r#"{"id":3,"p":null,"q":null,"r":12345678901234567890.123456789012345678}"#,
            r#"{"id":4,"p":1.50,"q":100,"r":0.000000000000000001}"#,
        ],
    );
}

#[test]
fn fields_of_other_names_are_ignored_and_names_keep_their_case() {
    let fields = [field("order_id", DataType::Int32), field("customer", DataType::Utf8)];
    let record = r#"{"order_id":1,"customer":"ann","city":"york","x":{"y":[1,2]}}"#;
    check(&fields, &[], &[record], &[r#"{"order_id":1,"customer":"ann"}"#]);
    let fields = [field("id", DataType::Int32), field("Id", DataType::Int32), field("ID", DataType::Int32)];
    check(&fields, &[], &[r#"{"id":1,"Id":2,"ID":3}"#], &[r#"{"id":1,"Id":2,"ID":3}"#]);
    let fields = [field("größe", DataType::Utf8), field("it's", DataType::Int32), field("a\"b", DataType::Int32)];
    let records = [r#"{"größe":"L","it's":5,"a\"b":6}"#, r#"{"gr\u00f6\u00dfe":"L","it's":5,"a\u0022b":6}"#];
    check(&fields, &[], &records, &[records[0], records[0]]);
}

#[test]
fn fields_may_come_in_any_order_and_go_missing() {
    let fields = [field("a", DataType::Int32), field("b", DataType::Int32), field("c", DataType::Int32)];
    check(
        &fields,
        &[],
        &[
            r#"{"x":0,"a":1,"b":2,"y":0,"c":3}"#,
            r#"{"x":0,"a":1,"b":2,"y":0,"c":3}"#,
            r#"{"x":0,"b":2,"y":0,"c":3}"#,
            r#"{"c":3,"b":2,"a":1}"#,
            r#"{}"#,
            r#"{"y":0,"c":3}"#,
        ],
        &[
            r#"{"a":1,"b":2,"c":3}"#,
            r#"{"a":1,"b":2,"c":3}"#,
            r#"{"a":null,"b":2,"c":3}"#,
            r#"{"a":1,"b":2,"c":3}"#,
            r#"{"a":null,"b":null,"c":null}"#,
            r#"{"a":null,"b":null,"c":3}"#,
        ],
    );
}

#[test]
fn the_last_of_equal_names_counts() {
    let fields = [field("a", DataType::Int32), field("r", DataType::Struct(Fields::from(vec![field("x", DataType::Utf8)])))];
    let record = r#"{"a":1,"r":{"x":"1","x":"2"},"a":2,"r":{"x":"3"},"a":3}"#;
    check(&fields, &[], &[record], &[r#"{"a":3,"r":{"x":"3"}}"#]);
    let fields = [field("m", map(DataType::Int32))];
    check(&fields, &[], &[r#"{"m":{"a":1,"b":2,"a":3}}"#], &[r#"{"m":{"b":2,"a":3}}"#]);
    let many: Vec<String> = (0..40).map(|index| format!("\"k{}\":{index}", index % 20)).collect();
    let expected: Vec<String> = (20..40).map(|index| format!("\"k{}\":{index}", index % 20)).collect();
    let record = format!("{{\"m\":{{{}}}}}", many.join(","));
    check(&fields, &[], &[&record], &[&format!("{{\"m\":{{{}}}}}", expected.join(","))]);
}

#[test]
fn ignored_parse_errors() {
    let fields = [field("order_id", DataType::Int32), field("customer", DataType::Utf8), field("ts", timestamp())];
    let mut decoder = json_decoder(&fields, IGNORE);
    for record in [
        r#"{"order_id":1,"customer":"ann","ts":"2026-01-01 00:00:01"}"#,
        "not json",
        r#"{"order_id":"x","customer":"bob","ts":"2026-01-01T00:00:02"}"#,
        "[1,2]",
        r#"{"order_id":4}"#,
        r#"{"order_id":5,"customer":"eve""#,
    ] {
        decoder.decode(record.as_bytes(), CONTEXT).unwrap();
    }
    let rows = json_lines(&decoder.flush().unwrap(), &JsonOptions::default());
    let expected = [
        r#"{"order_id":1,"customer":"ann","ts":"2026-01-01 00:00:01"}"#,
        r#"{"order_id":null,"customer":"bob","ts":null}"#,
        r#"{"order_id":4,"customer":null,"ts":null}"#,
    ];
    assert_eq!(rows, expected);
    // Two records, and the two numbers of the array.
    assert_eq!(decoder.take_skipped(), 4);
    assert_eq!(decoder.take_skipped(), 0);
}

#[test]
fn ignored_parse_errors_within_nested_values() {
    let inner = Fields::from(vec![
        Field::new("x", DataType::Int32, true),
        Field::new("y", DataType::Int32, false),
        Field::new("z", DataType::Int32, true),
    ]);
    let fields = [
        field("r", DataType::Struct(inner)),
        field("l", list(DataType::Int32)),
        field("m", map(DataType::Int32)),
        field("end", DataType::Int32),
    ];
    check(
        &fields,
        IGNORE,
        &[
            r#"{"r":{"x":"?","y":2,"z":[]},"l":[1,"?",{"a":[1]},3],"m":{"a":"?","b":2},"end":9}"#,
            r#"{"r":{"x":1,"y":"?"},"l":{},"m":[1,{"a":"}"}],"end":"9"}"#,
            r#"{"r":{"x":1},"l":"[1]","m":true,"end":9.9}"#,
        ],
        &[
            r#"{"r":{"x":null,"y":2,"z":null},"l":[1,null,null,3],"m":{"a":null,"b":2},"end":9}"#,
            r#"{"r":null,"l":null,"m":null,"end":9}"#,
            r#"{"r":null,"l":null,"m":null,"end":9}"#,
        ],
    );
    // A bad value of a column that is NOT NULL takes the record with it; within an array of objects, only its object.
    let not_null: FieldRef = Arc::new(Field::new("id", DataType::Int32, false));
    let records = [r#"{"id":"x"}"#, r#"{"id":null}"#, "{}", r#"[{"id":1},{"id":"x"},{"id":3}]"#, r#"[{"id":1},{"id":2]"#];
    check(&[not_null], IGNORE, &records, &[r#"{"id":1}"#, r#"{"id":3}"#]);
}

#[test]
fn text_of_anything() {
    let fields = [field("order_id", DataType::Int32), field("body", DataType::Utf8)];
    check(
        &fields,
        &[],
        &[
            r#"{"order_id":1,"body":{"a": 1, "b":[true, null]}}"#,
            r#"{"order_id":2,"body":[1, 2]}"#,
            r#"{"order_id":3,"body":"text"}"#,
            r#"{"order_id":4,"body":1.50}"#,
            r#"{"order_id":5,"body":true}"#,
            r#"{"order_id":6,"body":"\u00e9\ud83d\ude00\"\\\n"}"#,
            r#"{"order_id":7,"body":null}"#,
        ],
        &[
            r#"{"order_id":1,"body":"{\"a\":1,\"b\":[true,null]}"}"#,
            r#"{"order_id":2,"body":"[1,2]"}"#,
            r#"{"order_id":3,"body":"text"}"#,
            r#"{"order_id":4,"body":"1.50"}"#,
            r#"{"order_id":5,"body":"true"}"#,
            r#"{"order_id":6,"body":"é😀\"\\\n"}"#,
            r#"{"order_id":7,"body":null}"#,
        ],
    );
}

#[test]
fn numbers_of_anything() {
    let fields = [
        field("b", DataType::Boolean),
        field("t", DataType::Int8),
        field("i", DataType::Int32),
        field("l", DataType::Int64),
        field("d", DataType::Float64),
    ];
    check(
        &fields,
        &[],
        &[
            r#"{"b":"TRUE","t":"-128","i":1.7,"l":-1.7e3,"d":"1.5"}"#,
            r#"{"b":"yes","t":127,"i":" +7 ","l":1e18,"d":"NaN"}"#,
            r#"{"b":1,"t":"1","i":-2147483648,"l":"9223372036854775807","d":1e999}"#,
            r#"{"b":false,"t":0,"i":0,"l":-0,"d":-0}"#,
        ],
        &[
            r#"{"b":true,"t":-128,"i":1,"l":-1700,"d":1.5}"#,
            r#"{"b":false,"t":127,"i":7,"l":1000000000000000000,"d":"NaN"}"#,
            r#"{"b":false,"t":1,"i":-2147483648,"l":9223372036854775807,"d":"Infinity"}"#,
            r#"{"b":false,"t":0,"i":0,"l":0,"d":-0.0}"#,
        ],
    );
    for bad in [
        r#"{"t":128}"#,
        r#"{"t":1.5}"#,
        r#"{"i":2147483648}"#,
        r#"{"i":"1.7"}"#,
        r#"{"i":true}"#,
        r#"{"i":{}}"#,
        r#"{"l":9223372036854775808}"#,
        r#"{"l":1e19}"#,
        r#"{"d":"inf"}"#,
        r#"{"b":[]}"#,
    ] {
        assert!(read(&fields, &[], &[bad]).is_err(), "{bad}");
    }
}

#[test]
fn timestamps_in_the_sql_standard() {
    let nanos = DataType::Timestamp(TimeUnit::Nanosecond, None);
    let fields = [field("t0", timestamp()), field("t3", timestamp()), field("t6", timestamp()), field("t9", nanos)];
    let records = [
        concat!(
            r#"{"t0":"2026-01-01 00:00:01.9","t3":"2026-01-01 00:00:01.1239","t6":"2026-01-01 00:00:01.12","#,
            r#""t9":"2026-01-01 00:00:01.123456789"}"#
        ),
        concat!(
            r#"{"t0":"2026-01-01 00:00:01","t3":"0001-01-01 00:00:00","t6":"1969-12-31 23:59:59.999999","#,
            r#""t9":"1700-01-01 00:00:00"}"#
        ),
    ];
    check(&fields, &[], &records, &records);
}

#[test]
fn timestamps_in_iso_8601() {
    let fields = [field("id", DataType::Int32), field("ts", timestamp()), field("tz", timestamp_ltz())];
    let records = [
        r#"{"id":1,"ts":"2026-01-01T00:00:01.5","tz":"2026-01-01T00:00:01.5Z"}"#,
        r#"{"id":2,"ts":"2026-01-01T00:00:01","tz":"2026-01-01T00:00:00Z"}"#,
    ];
    check(
        &fields,
        ISO,
        &records,
        &[
            r#"{"id":1,"ts":"2026-01-01 00:00:01.5","tz":"2026-01-01 00:00:01.5Z"}"#,
            r#"{"id":2,"ts":"2026-01-01 00:00:01","tz":"2026-01-01 00:00:00Z"}"#,
        ],
    );
    let mut decoder = json_decoder(&fields, ISO);
    decoder.decode(records[0].as_bytes(), CONTEXT).unwrap();
    assert_eq!(json_lines(&decoder.flush().unwrap(), &options(ISO)), [records[0]]);
}

#[test]
fn messages_about_bad_values() {
    let inner = Fields::from(vec![field("price", DataType::Decimal128(5, 2))]);
    let fields = [
        field("id", DataType::Int32),
        field("ts", timestamp()),
        field("tz", timestamp_ltz()),
        field("t9", DataType::Timestamp(TimeUnit::Nanosecond, None)),
        field("bytes", DataType::Binary),
        field("items", list(DataType::Struct(inner))),
        field("prices", map(DataType::Int32)),
    ];
    let check = |set, record: &str, message, help| check_error(&fields, set, record.as_bytes(), message, help);
    check(
        &[],
        r#"{"id":1,"ts":"2026-01-01T00:00:01"}"#,
        r#"field "ts" cannot be read as TIMESTAMP from "2026-01-01T00:00:01""#,
        "expected yyyy-MM-dd HH:mm:ss; set 'json.timestamp-format.standard' = 'ISO-8601' for text with T",
    );
    check(
        &[],
        r#"{"id":1,"ts":"2026-01-01 00:01"}"#,
        r#"field "ts" cannot be read as TIMESTAMP from "2026-01-01 00:01""#,
        "expected yyyy-MM-dd HH:mm:ss; set 'json.timestamp-format.standard' = 'ISO-8601' for text with T",
    );
    check(
        ISO,
        r#"{"ts":"2026-01-01 00:00:01"}"#,
        r#"field "ts" cannot be read as TIMESTAMP from "2026-01-01 00:00:01""#,
        "expected yyyy-MM-ddTHH:mm:ss; set 'json.timestamp-format.standard' = 'SQL' for text with a space",
    );
    check(
        &[],
        r#"{"tz":"2026-01-01 00:00:01"}"#,
        r#"field "tz" cannot be read as TIMESTAMP_LTZ from "2026-01-01 00:00:01""#,
        "expected yyyy-MM-dd HH:mm:ssZ; set 'json.timestamp-format.standard' = 'ISO-8601' for text with T",
    );
    check(
        &[],
        r#"{"t9":"0001-01-01 00:00:00"}"#,
        r#"field "t9" cannot be read as TIMESTAMP(9) from "0001-01-01 00:00:00""#,
        "expected yyyy-MM-dd HH:mm:ss; set 'json.timestamp-format.standard' = 'ISO-8601' for text with T; \
         precisions above 6 reach from 1677-09-22 to 2262-04-11",
    );
    check(
        &[],
        r#"{"id":3000000000}"#,
        r#"field "id" cannot be read as INT from 3000000000"#,
        "expected a whole number from -2147483648 to 2147483647",
    );
    check(
        &[],
        r#"{"bytes":"not base64 at all, and a good deal too long to be shown"}"#,
        r#"field "bytes" cannot be read as BYTES from "not base64 at all, and a good deal too …"#,
        "expected base64 text with padding",
    );
    check(
        &[],
        r#"{"items":[{"price":1},{"price":"cheap"}]}"#,
        r#"field "items[1].price" cannot be read as DECIMAL(5, 2) from "cheap""#,
        "expected a number in decimal digits",
    );
    check(
        &[],
        r#"{"prices":{"tea":1,"cup":"x"}}"#,
        r#"field "prices.cup" cannot be read as INT from "x""#,
        "expected a whole number from -2147483648 to 2147483647",
    );
    check(&[], r#"{"items":{}}"#, r#"field "items" cannot be read as ARRAY from {}"#, "expected an array");
}

#[test]
fn messages_about_bad_records() {
    let fields = [field("id", DataType::Int32)];
    let check = |record: &[u8], message| check_error(&fields, &[], record, message, SKIP_HELP);
    check(b"not json", r#"not JSON at byte 0: expected a value, found "not json""#);
    check(
        br#"{"id":1"#,
        "not JSON at byte 7: expected a comma or a closing brace, found the end of the record behind \"{\"id\":1\"",
    );
    check(br#"{"id":1} {"id":2}"#, r#"not JSON at byte 9: expected the end of the record, found "{"id":2}""#);
    check(br#"{"id":01}"#, r#"not JSON at byte 6: expected a number without leading zeros, found "01}""#);
    check(br#"{"x":"\ud800"}"#, r#"not JSON at byte 6: expected a surrogate pair, found "\ud800"}""#);
    check(b"{\"x\":\"\x01\"}", "not JSON at byte 6: expected an escape instead of a control character, found \"\u{fffd}\"}\"");
    check_error(&fields, &[], b"[1]", "1 is not a JSON object", "expected an object");
    check_error(&fields, &[], b"\"\xff\"", "the record is not UTF-8 at byte 1", "write JSON in UTF-8");
}

#[test]
fn missing_and_null_fields() {
    let fields = [field("order_id", DataType::Int32), field("customer", DataType::Utf8)];
    check_error(
        &fields,
        &[("json.fail-on-missing-field", "true")],
        br#"{"order_id":2}"#,
        r#"field "customer" is missing"#,
        "set 'json.fail-on-missing-field' = 'false' to read missing fields as null",
    );
    let not_null: [FieldRef; 1] = [Arc::new(Field::new("id", DataType::Decimal128(3, 0), false))];
    let help = "declare the column without NOT NULL to let it be null";
    check_error(&not_null, &[], b"{}", r#"field "id" is missing, but its column is NOT NULL"#, help);
    check_error(&not_null, &[], br#"{"id":null}"#, r#"field "id" is null, but its column is NOT NULL"#, help);
    check_error(
        &not_null,
        &[],
        br#"{"id":1000}"#,
        r#"field "id" cannot be read as DECIMAL(3, 0) from 1000"#,
        "expected a number in decimal digits",
    );
}

#[test]
fn hostile_records() {
    let fields = [field("a", list(DataType::Utf8)), field("s", DataType::Utf8)];
    let mut decoder = json_decoder(&fields, &[]);
    let mut message = |record: &[u8]| -> String {
        let error: Error = decoder.decode(record, CONTEXT).unwrap_err();
        assert_eq!(decoder.flush().unwrap().num_rows(), 0);
        error.message
    };
    // A field that nobody wants is read to its end all the same.
    for nested in
        [format!("{{\"x\":{}", "[".repeat(100_000)), format!("{{\"s\":{}", "[".repeat(100_000)), "{\"x\":".repeat(100_000)]
    {
        assert!(message(nested.as_bytes()).contains("expected at most 128 levels of nesting"));
    }
    assert!(message("[".repeat(100_000).as_bytes()).ends_with("[[[[[[[[… is not a JSON object"));
    assert!(message("{\"a\":".repeat(100_000).as_bytes()).contains("cannot be read as ARRAY"));
    let mut ignoring = json_decoder(&fields, IGNORE);
    assert_eq!(ignoring.decode("{\"a\":".repeat(100_000).as_bytes(), CONTEXT).unwrap(), 0);
    assert_eq!(ignoring.take_skipped(), 1);
    let long = format!("{{\"s\":\"{}\"}}", "x".repeat(64 << 20));
    assert!(message(long.as_bytes()).ends_with("the record has 67108872 bytes, more than the 8388608 allowed"));
    let longest = format!("{{\"s\":\"{}\"}}", "x".repeat(RECORD_BYTES_MAX - 8));
    assert_eq!(decoder.decode(longest.as_bytes(), CONTEXT).unwrap(), 1);
}

#[test]
fn a_bad_record_leaves_its_neighbours_whole() {
    let fields = [
        field("s", DataType::Utf8),
        field("l", list(DataType::Utf8)),
        field("m", map(DataType::Utf8)),
        field("end", DataType::Int32),
    ];
    let good = r#"{"s":"a","l":["b","c"],"m":{"d":"e"},"end":1}"#;
    for bad in [
        r#"{"s":"x","l":["y","z"],"m":{"v":"w"},"end":"?"}"#,
        r#"{"s":"x","l":["y","#,
        r#"{"m":{"v":{"w":"#,
        r#"[{"s":"x","l":["y"]},{"s":1,"m":{"a":"b"},"end":[]}]"#,
    ] {
        let mut decoder = json_decoder(&fields, &[]);
        decoder.decode(good.as_bytes(), CONTEXT).unwrap();
        assert!(decoder.decode(bad.as_bytes(), CONTEXT).is_err(), "{bad}");
        decoder.decode(good.as_bytes(), CONTEXT).unwrap();
        assert_eq!(decoder.rows(), 2);
        assert_eq!(json_lines(&decoder.flush().unwrap(), &JsonOptions::default()), [good, good]);
    }
}

#[test]
fn counters_and_tombstones() {
    let mut decoder = json_decoder(&[], &[]);
    assert_eq!(decoder.decode_null(CONTEXT).unwrap(), 0);
    decoder.decode(br#"{"a":1}"#, CONTEXT).unwrap();
    decoder.decode(br#"[{},{}]"#, CONTEXT).unwrap();
    assert_eq!((decoder.rows(), decoder.buffered_bytes()), (3, 14));
    assert_eq!(decoder.flush().unwrap().num_rows(), 3);
    assert_eq!((decoder.rows(), decoder.buffered_bytes()), (0, 0));
}

#[test]
fn encoder_options() {
    let fields = [field("a", DataType::Int32), field("b", DataType::Utf8)];
    let mut decoder = json_decoder(&fields, &[]);
    decoder.decode(br#"{"b":"x"}"#, CONTEXT).unwrap();
    let batch = decoder.flush().unwrap();
    assert_eq!(json_lines(&batch, &JsonOptions::default()), [r#"{"a":null,"b":"x"}"#]);
    assert_eq!(json_lines(&batch, &options(&[("json.encode.ignore-null-fields", "true")])), [r#"{"b":"x"}"#]);
}

#[test]
fn types_of_results_that_no_table_has() {
    use arrow::array::{ArrayRef, Int64Array, LargeStringArray, NullArray, TimestampSecondArray, UInt64Array};
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("n", Arc::new(UInt64Array::from(vec![u64::MAX]))),
        ("s", Arc::new(LargeStringArray::from(vec!["x"]))),
        ("t", Arc::new(TimestampSecondArray::from(vec![1]))),
        ("z", Arc::new(NullArray::new(1))),
        ("i", Arc::new(Int64Array::from(vec![-1]))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let expected = r#"{"n":18446744073709551615,"s":"x","t":"1970-01-01 00:00:01","z":null,"i":-1}"#;
    assert_eq!(json_lines(&batch, &JsonOptions::default()), [expected]);
}

#[test]
fn plan_time_findings() {
    let findings = |schema: Schema, set: &[(&str, &str)]| -> Vec<String> {
        let mut all = Options::new();
        set.iter().for_each(|(name, value)| all.insert(*name, *value));
        format::check("json", &schema, &FormatOptions::new(&all, "value.")).iter().map(|one| one.one_line()).collect()
    };
    let entries = Fields::from(vec![Field::new("key", DataType::Int32, false), Field::new("value", DataType::Utf8, true)]);
    let int_keys = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false);
    assert_eq!(
        findings(Schema::new(vec![field("m", list(int_keys))]), &[]),
        ["error[TW0108]: format \"json\" cannot hold column \"m\": a MAP whose keys are not STRING (use MAP<STRING, …>: the \
             names of a JSON object are text)"]
    );
    assert_eq!(
        findings(
            Schema::empty(),
            &[
                ("value.json.colour", "red"),
                ("value.json.ignore-parse-error", "true"),
                ("value.json.fail-on-missing-field", "maybe"),
                ("json.elsewhere", "1"),
            ]
        ),
        [
            "error[TW0302]: unknown option \"value.json.colour\" for format \"json\"",
            "error[TW0303]: option \"value.json.fail-on-missing-field\" cannot be \"maybe\" (use true or false)",
            "error[TW0302]: unknown option \"value.json.ignore-parse-error\" for format \"json\" (did you mean \
             \"value.json.ignore-parse-errors\"?)",
        ]
    );
    let both = [("value.json.fail-on-missing-field", "true"), ("value.json.ignore-parse-errors", "true")];
    assert!(findings(Schema::empty(), &both)[0].contains("contradict each other"));
}

#[test]
fn decoder_and_encoder_by_name() {
    let schema = Arc::new(Schema::new(vec![field("a", DataType::Int32)]));
    let fields = schema.fields.to_vec();
    let options = FormatOptions::default();
    let mut decoder = format::decoder("json", &options, fields.clone(), schema.clone()).unwrap();
    decoder.decode(br#"{"a":1}"#, CONTEXT).unwrap();
    let batch = decoder.flush().unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int32Type>().value(0), 1);
    let mut out = EncodedRows::default();
    format::encoder("csv", &options, schema.clone()).unwrap().encode(&batch, &mut out).unwrap();
    assert_eq!(out.row(0), b"1");
    let Err(finding) = format::decoder("jsn", &options, fields.clone(), schema.clone()) else { panic!() };
    assert_eq!(finding.one_line(), "error[TW0305]: unknown format \"jsn\" (did you mean \"json\"?)");
    let Err(finding) = format::decoder("parquet", &options, fields, schema) else { panic!() };
    assert!(finding.message.contains("whole files"));
}

fn any_fields() -> Vec<FieldRef> {
    let row = Fields::from(vec![field("x", DataType::Int64), field("y", timestamp())]);
    vec![
        field("a", DataType::Int32),
        field("b", DataType::Utf8),
        field("c", list(DataType::Decimal128(10, 2))),
        field("d", map(DataType::Float64)),
        field("e", DataType::Struct(row)),
        field("f", DataType::Binary),
        field("g", DataType::Boolean),
    ]
}

proptest! {
    #[test]
    fn rows_come_back(seed: u64, iso: bool) {
        let batch = json_rows(seed);
        let options = options(if iso { ISO } else { &[] });
        let mut decoder = JsonDecoder::new(batch.schema().fields.to_vec(), &options).unwrap();
        for line in json_lines(&batch, &options) {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{}", line);
            prop_assert_eq!(decoder.decode(line.as_bytes(), CONTEXT).map_err(|error| error.message), Ok(1));
        }
        prop_assert_eq!(decoder.flush().unwrap(), batch);
    }

    #[test]
    fn never_panics_on_bytes(records: Vec<Vec<u8>>, ignore: bool) {
        let mut decoder = json_decoder(&any_fields(), if ignore { IGNORE } else { &[] });
        let mut rows = 0;
        for record in &records {
            rows += decoder.decode(record, CONTEXT).unwrap_or(0);
        }
        prop_assert_eq!(decoder.flush().unwrap().num_rows(), rows);
    }

    #[test]
    fn never_panics_on_what_looks_like_json(record in r#"(\{|\[|\}|\]|,|:|"a"|"b"|"c"|"d"|"e"|"x"|"y"|null|true|1|-2\.5|"\\u00e9"| ){0,40}"#, ignore: bool) {
        let mut decoder = json_decoder(&any_fields(), if ignore { IGNORE } else { &[] });
        let rows = decoder.decode(record.as_bytes(), CONTEXT).unwrap_or(0);
        prop_assert_eq!(decoder.rows(), rows);
        prop_assert_eq!(decoder.flush().unwrap().num_rows(), rows);
    }

    #[test]
    fn damaged_records_leave_no_trace(seed: u64, at: prop::sample::Index, byte in 0x20_u8..0x7f, ignore: bool) {
        let batch = json_rows(seed);
        let fields = batch.schema().fields.to_vec();
        let mut decoder = json_decoder(&fields, if ignore { IGNORE } else { &[] });
        let lines = json_lines(&batch, &JsonOptions::default());
        for line in &lines {
            let mut damaged = line.clone().into_bytes();
            let index = at.index(damaged.len());
            damaged[index] = byte;
            let before = decoder.rows();
            if decoder.decode(&damaged, CONTEXT).unwrap_or(0) == 0 {
                prop_assert_eq!(decoder.rows(), before);
                decoder.decode(line.as_bytes(), CONTEXT).unwrap();
            }
        }
        prop_assert_eq!(decoder.flush().unwrap().num_rows(), lines.len());
    }
}
