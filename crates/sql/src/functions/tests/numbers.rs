use super::{check, check_error, check_rows, check_type, one_row, table};

fn items() -> datafusion::arrow::array::RecordBatch {
    table(
        &[("i", "INT"), ("d", "DOUBLE"), ("p", "DECIMAL(6, 2)")],
        &[
            &["7", "2.5", "2.55"],
            &["-7", "-2.5", "-2.55"],
            &["0", "0.5", "0.45"],
            &["3", "3.49", "1.0"],
            &["NULL", "NULL", "NULL"],
        ],
    )
}

#[test]
fn rounding() {
    check_rows("ROUND(d)", &items(), &["3.0", "-3.0", "1.0", "3.0", "NULL"]);
    check_rows("ROUND(d, 1)", &items(), &["2.5", "-2.5", "0.5", "3.5", "NULL"]);
    check_rows("ROUND(p)", &items(), &["3", "-3", "0", "1", "NULL"]);
    check_rows("ROUND(p, 1)", &items(), &["2.6", "-2.6", "0.5", "1.0", "NULL"]);
    check_rows("ROUND(i, -1)", &items(), &["10", "-10", "0", "0", "NULL"]);
    check_rows("TRUNCATE(d, 1)", &items(), &["2.5", "-2.5", "0.5", "3.4", "NULL"]);
    check_rows("TRUNCATE(p, 1)", &items(), &["2.50", "-2.50", "0.40", "1.00", "NULL"]);
    check_rows("TRUNCATE(i, -1)", &items(), &["0", "0", "0", "0", "NULL"]);
    check_rows("CEIL(d)", &items(), &["3.0", "-2.0", "1.0", "4.0", "NULL"]);
    check_rows("FLOOR(d)", &items(), &["2.0", "-3.0", "0.0", "3.0", "NULL"]);
    check_rows("CEIL(p)", &items(), &["3", "-2", "1", "1", "NULL"]);
    check_rows("FLOOR(p)", &items(), &["2", "-3", "0", "1", "NULL"]);
    check_rows("CEILING(i)", &items(), &["7", "-7", "0", "3", "NULL"]);
    check_rows("TYPEOF(CEIL(p))", &items(), &["DECIMAL(6, 0)"; 5]);
    check_rows("TYPEOF(ROUND(p, 1))", &items(), &["DECIMAL(6, 1)"; 5]);
    check_rows("TYPEOF(CEIL(d))", &items(), &["DOUBLE"; 5]);
    check("ROUND(9223372036854775807, 1)", "9223372036854775807");
    check("ROUND(9223372036854775807, -30)", "0");
    check_error("ROUND(9223372036854775807, -1)", "overflow");
    check_error("ROUND('1')", "function ROUND takes (NUMERIC[, INT]), got (STRING)");
}

#[test]
fn functions() {
    check_rows("ABS(i)", &items(), &["7", "7", "0", "3", "NULL"]);
    check_rows("ABS(p)", &items(), &["2.55", "2.55", "0.45", "1.00", "NULL"]);
    check_rows("SIGN(p)", &items(), &["1.00", "-1.00", "1.00", "1.00", "NULL"]);
    check_rows("SIGN(d)", &items(), &["1.0", "-1.0", "1.0", "1.0", "NULL"]);
    check_rows("MOD(i, 3)", &items(), &["1", "-1", "0", "0", "NULL"]);
    check_rows("MOD(p, 2)", &items(), &["0.55", "-0.55", "0.45", "1.00", "NULL"]);
    check_rows("ROUND(DEGREES(d), 9)", &items(), &["143.239448783", "-143.239448783", "28.647889757", "199.962270501", "NULL"]);
    check_rows("GREATEST(i, 1, 2)", &items(), &["7", "2", "2", "3", "NULL"]);
    check_rows("LEAST(i, 1, 2)", &items(), &["1", "-7", "0", "1", "NULL"]);
    check_rows("GREATEST(i, d)", &items(), &["7.0", "-2.5", "0.5", "3.49", "NULL"]);
    check_rows("LEAST(p, 1.5, 0.1)", &items(), &["0.10", "-2.55", "0.10", "0.10", "NULL"]);
    check("LEAST('abc', 'abcd')", "abc");
    check("PI()", "3.141592653589793");
    check("E()", "2.718281828459045");
    check("LN(CAST(0 AS DOUBLE))", "-Infinity");
    check("LOG10(CAST(-1 AS DOUBLE))", "NaN");
    check("LOG(2, 8)", "3.0");
    check("POWER(2, 10)", "1024.0");
    check("SQRT(2.25)", "1.5");
    check_error("ABS(CAST('-9223372036854775808' AS BIGINT))", "overflow of BIGINT");
    check_error("ABS(CAST('-128' AS TINYINT))", "overflow of TINYINT");
    check_error("MOD(7, 0)", "division by zero");
    check_error("MOD(CAST(7 AS DECIMAL(3, 1)), 0)", "division by zero");
    check_error("SQRT('2')", "function SQRT takes (NUMERIC), got (STRING)");
    check_error("GREATEST(1, MAKE_ARRAY(1))", "cannot be compared");
}

#[test]
fn chance() {
    let rows = table(&[("i", "INT")], &[&["1"], &["2"], &["3"]]);
    let (uuids, _) = super::evaluate("UUID()", &rows, chrono_tz::UTC).unwrap();
    let shown = super::shown(&uuids, &super::SqlType::Text, chrono_tz::UTC);
    assert!(shown[0] != shown[1] && shown[1] != shown[2], "{shown:?}");
    assert!(shown.iter().all(|uuid| uuid.len() == 36 && uuid.as_bytes()[14] == b'4'), "{shown:?}");
    check_rows("RAND() < 1.0 AND RAND() >= 0.0", &rows, &["TRUE"; 3]);
    check_rows("RAND_INTEGER(1)", &rows, &["0"; 3]);
    check_error("RAND_INTEGER(0)", "bound 0 is not between");
}

#[test]
fn integers() {
    check_rows("i / 2", &items(), &["3", "-3", "0", "1", "NULL"]);
    check_rows("i % 4", &items(), &["3", "-3", "0", "3", "NULL"]);
    check_rows("-i / 2", &items(), &["-3", "3", "0", "-1", "NULL"]);
    check_rows("-i + 2 * 3", &items(), &["-1", "13", "6", "3", "NULL"]);
    check_rows("2 + 3 * i % 4", &items(), &["3", "1", "2", "3", "NULL"]);
    check_rows("TYPEOF(i + 1)", &items(), &["INT"; 5]);
    check_rows("i IN (7, CAST(NULL AS INT))", &items(), &["TRUE", "NULL", "NULL", "NULL", "NULL"]);
    check_error("CAST(2147483647 AS INT) * CAST(2 AS INT)", "overflow of INT; cast a side");
    check_error("10 / (1 - 1)", "ivide by zero");
    check_error("9223372036854775807 + CAST(2 AS BIGINT)", "overflow of BIGINT");
}

#[test]
fn decimals() {
    check_rows("i + p", &items(), &["9.55", "-9.55", "0.45", "4.00", "NULL"]);
    check_rows("TYPEOF(i + 1.5)", &items(), &["DECIMAL(12, 1)"; 5]);
    check_rows("d + p", &items(), &["5.05", "-5.05", "0.95", "4.49", "NULL"]);
    check_rows("TYPEOF(d + p)", &items(), &["DOUBLE"; 5]);
    check_rows("0.908 * CAST(i AS BIGINT)", &items(), &["6.356", "-6.356", "0.000", "2.724", "NULL"]);
    check_type("0.908 * CAST(1 AS BIGINT)", "DECIMAL(23, 3)");
    check("CAST(10 AS DECIMAL(10, 2)) / 3", "3.3333333333333");
    let large = table(&[("p", "DECIMAL(38, 0)")], &[&["99999999999999999999999999999999999999"], &["5"]]);
    check_rows("p + 1", &large, &["NULL", "6"]);
    check_rows("p * 10", &large, &["NULL", "50"]);
    check_rows("TYPEOF(p * 10)", &large, &["DECIMAL(38, 0)"; 2]);
    check_rows("-p", &large, &["-99999999999999999999999999999999999999", "-5"]);
}

#[test]
fn floats() {
    check_rows("d + 0.1", &items(), &["2.6", "-2.4", "0.6", "3.5900000000000003", "NULL"]);
    check_rows(
        "d / 3",
        &items(),
        &["0.8333333333333334", "-0.8333333333333334", "0.16666666666666666", "1.1633333333333333", "NULL"],
    );
    check_rows("i = d", &items(), &["FALSE", "FALSE", "FALSE", "FALSE", "NULL"]);
    let pairs = table(
        &[("s", "DOUBLE"), ("t", "DOUBLE")],
        &[
            &["NaN", "NaN"],
            &["NaN", "1"],
            &["1", "NaN"],
            &["Infinity", "1"],
            &["Infinity", "Infinity"],
            &["-Infinity", "-1e308"],
            &["0.0", "-0.0"],
        ],
    );
    check_rows("s = t", &pairs, &["FALSE", "FALSE", "FALSE", "FALSE", "TRUE", "FALSE", "TRUE"]);
    check_rows("s <> t", &pairs, &["TRUE", "TRUE", "TRUE", "TRUE", "FALSE", "TRUE", "FALSE"]);
    check_rows("s > t", &pairs, &["FALSE", "FALSE", "FALSE", "TRUE", "FALSE", "FALSE", "FALSE"]);
    check_rows("s < t", &pairs, &["FALSE", "FALSE", "FALSE", "FALSE", "FALSE", "TRUE", "FALSE"]);
    check_rows("s - t", &pairs, &["NaN", "NaN", "NaN", "Infinity", "NaN", "-Infinity", "0.0"]);
    check_rows("1 / CAST(0 AS DOUBLE)", &one_row(), &["Infinity"]);
}

#[test]
fn conditions() {
    let items = table(&[("i", "INT"), ("s", "STRING")], &[&["5", "tea"], &["NULL", "42"], &["2", "NULL"], &["4", "-4.5"]]);
    check_rows("COALESCE(i, 0)", &items, &["5", "0", "2", "4"]);
    check_rows("COALESCE(s, CAST(i AS STRING), 'none')", &items, &["tea", "42", "2", "-4.5"]);
    check_rows("NULLIF(i, 5)", &items, &["NULL", "NULL", "2", "4"]);
    check_rows("IFNULL(s, '-')", &items, &["tea", "42", "-", "-4.5"]);
    check_rows("IF(i > 3, 'many', 'few')", &items, &["many", "few", "few", "many"]);
    check_rows("IS_ALPHA(s)", &items, &["TRUE", "FALSE", "FALSE", "FALSE"]);
    check_rows("IS_DIGIT(s)", &items, &["FALSE", "TRUE", "FALSE", "FALSE"]);
    check_rows("IS_DECIMAL(s)", &items, &["FALSE", "TRUE", "FALSE", "TRUE"]);
    check_rows("CASE WHEN i > 3 THEN 1 ELSE 2.5 END", &items, &["1.0", "2.5", "2.5", "1.0"]);
    check_rows("i IS DISTINCT FROM 5", &items, &["FALSE", "TRUE", "TRUE", "TRUE"]);
    check("TYPEOF(1 IS NULL)", "BOOLEAN NOT NULL");
}
