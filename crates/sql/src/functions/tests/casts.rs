use super::{check, check_error, check_rows, check_rows_in, check_type, table};

#[test]
fn to_text() {
    let row = table(
        &[
            ("g", "BOOLEAN"),
            ("f", "FLOAT"),
            ("d", "DOUBLE"),
            ("p", "DECIMAL(10, 3)"),
            ("ts", "TIMESTAMP(3)"),
            ("ts6", "TIMESTAMP(6)"),
            ("tz", "TIMESTAMP_LTZ(3)"),
        ],
        &[&["false", "1e10", "1e20", "-0.001", "1969-12-31 00:00:00", "2026-01-31 10:20:00", "2026-01-31 10:20:00.120Z"]],
    );
    check_rows("CAST(g AS STRING)", &row, &["FALSE"]);
    check_rows("CAST(f AS STRING)", &row, &["1.0E10"]);
    check_rows("CAST(d AS STRING)", &row, &["1.0E20"]);
    check_rows("CAST(p AS STRING)", &row, &["-0.001"]);
    check_rows("CAST(ts AS STRING)", &row, &["1969-12-31 00:00:00.000"]);
    check_rows("CAST(ts6 AS STRING)", &row, &["2026-01-31 10:20:00.000000"]);
    check_rows("CAST(tz AS STRING)", &row, &["2026-01-31 10:20:00.120"]);
    check("CAST(DATE '0099-01-01' AS STRING)", "0099-01-01");
    check("CAST(MAKE_ARRAY(1, NULL, 3) AS STRING)", "[1, NULL, 3]");
    check("CAST(ROW(1, 'z', CAST(NULL AS INT)) AS STRING)", "(1, z, NULL)");
    check("CAST(STR_TO_MAP('tea=3') AS STRING)", "{tea=3}");
    check("'[' || CAST('tea' AS CHAR(4)) || ']'", "[tea ]");
    check("CAST('teapot' AS VARCHAR(2))", "te");
}

#[test]
fn from_text() {
    let texts = table(&[("s", "STRING")], &[&["12"], &[" -3 "], &["2.75"], &["+5"], &["NULL"]]);
    check_rows("CAST(s AS INT)", &texts, &["12", "-3", "2", "5", "NULL"]);
    check_rows("CAST(s AS DOUBLE)", &texts, &["12.0", "-3.0", "2.75", "5.0", "NULL"]);
    check_rows("CAST(s AS DECIMAL(6, 1))", &texts, &["12.0", "-3.0", "2.8", "5.0", "NULL"]);
    let texts = table(
        &[("s", "STRING")],
        &[&["12"], &["tea"], &["true"], &["2026-01-31"], &["2026-01-31 10:20:30"], &[""], &["NULL"], &["3000000000"], &["1e2"]],
    );
    check_rows("TRY_CAST(s AS INT)", &texts, &["12", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL"]);
    check_rows("TRY_CAST(s AS BOOLEAN)", &texts, &["NULL", "NULL", "TRUE", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL"]);
    check_rows(
        "TRY_CAST(s AS DATE)",
        &texts,
        &["0012-01-01", "NULL", "NULL", "2026-01-31", "2026-01-31", "NULL", "NULL", "NULL", "NULL"],
    );
    check_rows("TRY_CAST(s AS DOUBLE)", &texts, &["12.0", "NULL", "NULL", "NULL", "NULL", "NULL", "NULL", "3.0E9", "100.0"]);
    check_error("CAST('' AS INT)", "cannot cast '' to INT; TRY_CAST gives null instead");
    check_error("CAST('tea' AS TIMESTAMP(3))", "cannot cast 'tea' to TIMESTAMP(3)");
    check_error("CAST('tea' AS DECIMAL(4, 2))", "cannot cast 'tea' to DECIMAL(4, 2)");
    check_error("TIMESTAMP 'tea'", "'tea' is not a TIMESTAMP");
    check("CAST('1000' AS DECIMAL(4, 2))", "NULL");
    check("CAST(CAST('é' AS BYTES) AS STRING)", "é");
}

#[test]
fn numbers() {
    let items = table(&[("d", "DOUBLE"), ("i", "INT")], &[&["99.994", "99"], &["99.996", "100"], &["-100.5", "-7"]]);
    check_rows("CAST(d AS DECIMAL(4, 2))", &items, &["99.99", "NULL", "NULL"]);
    check_rows("CAST(i AS DECIMAL(4, 2))", &items, &["99.00", "NULL", "-7.00"]);
    check_rows("CAST(d AS INT)", &items, &["99", "99", "-100"]);
    check_rows("CAST(i AS TINYINT)", &items, &["99", "100", "-7"]);
    check_rows("CAST(i > 99 AS INT)", &items, &["0", "1", "0"]);
    check_rows("CAST(i AS BOOLEAN)", &items, &["TRUE", "TRUE", "TRUE"]);
    check("CAST(2.7 AS INT)", "2");
    check("CAST(-2.7 AS INT)", "-2");
    check_error("CAST(300 AS TINYINT)", "cannot cast 300 to TINYINT");
    check("TRY_CAST(300 AS TINYINT)", "NULL");
    check_error("CAST(CAST(1e30 AS DOUBLE) AS BIGINT)", "to BIGINT");
    check_error("CAST(DATE '2026-01-01' AS INT)", "cannot cast DATE to INT");
    check("CAST(CAST(2.555 AS DECIMAL(4, 3)) AS DECIMAL(3, 2))", "2.56");
}

#[test]
fn times() {
    let items = table(
        &[("d", "DATE"), ("ts", "TIMESTAMP(3)"), ("tz", "TIMESTAMP_LTZ(3)")],
        &[
            &["2026-01-31", "2026-01-31 10:20:30", "2026-01-31 03:00:00Z"],
            &["2026-07-01", "2026-07-01 00:00:00", "2026-07-01 04:00:00Z"],
        ],
    );
    let new_york = chrono_tz::America::New_York;
    let check_there = |sql: &str, expected: &[&str]| check_rows_in(sql, &items, new_york, expected);
    check_there("CAST(d AS TIMESTAMP(3))", &["2026-01-31 00:00:00.000", "2026-07-01 00:00:00.000"]);
    check_there("UNIX_TIMESTAMP(CAST(CAST(ts AS TIMESTAMP_LTZ(3)) AS STRING))", &["1769872830", "1782878400"]);
    check_there("EXTRACT(EPOCH FROM CAST(ts AS TIMESTAMP_LTZ(3)))", &["1769872830", "1782878400"]);
    check_there("CAST(tz AS TIMESTAMP(3))", &["2026-01-30 22:00:00.000", "2026-07-01 00:00:00.000"]);
    check_there("CAST(tz AS DATE)", &["2026-01-30", "2026-07-01"]);
    check_there("EXTRACT(EPOCH FROM CAST(d AS TIMESTAMP_LTZ(3)))", &["1769835600", "1782878400"]);
    check_there("CAST(tz AS STRING)", &["2026-01-30 22:00:00.000", "2026-07-01 00:00:00.000"]);
    let precise = table(&[("t6", "TIMESTAMP(6)")], &[&["2026-01-31 23:59:59.999999"], &["1969-07-20 20:17:40.25"]]);
    check_rows("CAST(CAST(t6 AS TIMESTAMP(0)) AS STRING)", &precise, &["2026-01-31 23:59:59", "1969-07-20 20:17:40"]);
    check_rows("CAST(CAST(t6 AS TIMESTAMP(3)) AS STRING)", &precise, &["2026-01-31 23:59:59.999", "1969-07-20 20:17:40.250"]);
    check_rows(
        "CAST(CAST(t6 AS TIMESTAMP(9)) AS STRING)",
        &precise,
        &["2026-01-31 23:59:59.999999000", "1969-07-20 20:17:40.250000000"],
    );
    check_rows("CAST(t6 AS DATE)", &precise, &["2026-01-31", "1969-07-20"]);
    check_rows("CAST(t6 AS TIME)", &precise, &["23:59:59", "20:17:40"]);
    check_type("TIMESTAMP '2026-01-31 10:20:30.12'", "TIMESTAMP(2)");
    check("TRY_CAST('9999999-01-01' AS TIMESTAMP(9))", "NULL");
    check_error("CAST(TIMESTAMP '9999-01-01 00:00:00' AS TIMESTAMP(9))", "beyond the calendar");
}

#[test]
fn comparisons() {
    let items = table(
        &[("ts", "TIMESTAMP(3)"), ("d", "DATE")],
        &[&["2026-01-31 00:00:00", "2026-01-31"], &["2026-01-31 00:00:00.001", "2026-01-30"], &["NULL", "NULL"]],
    );
    check_rows("ts = TIMESTAMP '2026-01-31 00:00:00'", &items, &["TRUE", "FALSE", "NULL"]);
    check_rows("d = DATE '2026-01-31'", &items, &["TRUE", "FALSE", "NULL"]);
    check_rows("ts = '2026-01-31 00:00:00'", &items, &["TRUE", "FALSE", "NULL"]);
    check_rows(
        "ts BETWEEN TIMESTAMP '2026-01-30 00:00:00' AND TIMESTAMP '2026-01-31 00:00:00'",
        &items,
        &["TRUE", "FALSE", "NULL"],
    );
}
