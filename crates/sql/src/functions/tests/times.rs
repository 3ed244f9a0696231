use datafusion::arrow::array::RecordBatch;

use super::{check, check_error, check_in, check_rows, check_type, table};

fn items() -> RecordBatch {
    table(
        &[("ts", "TIMESTAMP(3)"), ("d", "DATE"), ("t", "TIME")],
        &[
            &["2026-01-01 00:00:00.000", "2026-01-01", "00:00:00"],
            &["2026-08-09 13:04:05.678", "2026-08-09", "13:04:05"],
            &["2024-02-29 23:59:59.999", "2024-02-29", "22:59:59"],
            &["NULL", "NULL", "NULL"],
        ],
    )
}

#[test]
fn formats() {
    check_rows(
        "DATE_FORMAT(ts, 'yyyy-MM-dd HH:mm:ss.SSS')",
        &items(),
        &["2026-01-01 00:00:00.000", "2026-08-09 13:04:05.678", "2024-02-29 23:59:59.999", "NULL"],
    );
    check_rows(
        "DATE_FORMAT(ts, 'EEE, d MMM yyyy')",
        &items(),
        &["Thu, 1 Jan 2026", "Sun, 9 Aug 2026", "Thu, 29 Feb 2024", "NULL"],
    );
    check_rows("DATE_FORMAT(ts, 'h:mm a')", &items(), &["12:00 AM", "1:04 PM", "11:59 PM", "NULL"]);
    check_rows("DATE_FORMAT(ts, '''day'' dd')", &items(), &["day 01", "day 09", "day 29", "NULL"]);
    check("DATE_FORMAT('2026-01-31 10:20:30', 'yyyy/MM')", "2026/01");
    check("DATE_FORMAT('tea', 'yyyy/MM')", "NULL");
    check_in("DATE_FORMAT(TO_TIMESTAMP_LTZ(0, 3), 'HH')", chrono_tz::Asia::Shanghai, "08");
    check_error("DATE_FORMAT(TIMESTAMP '2026-01-01 00:00:00', 'yyyy-bb')", "unknown letter 'b'");
    check_error("DATE_FORMAT(1, 'yyyy')", "function DATE_FORMAT takes (TIMESTAMP or STRING, STRING), got (BIGINT, STRING)");
}

#[test]
fn fields() {
    let check = |field: &str, expected: &[&str]| check_rows(&format!("EXTRACT({field} FROM ts)"), &items(), expected);
    check("YEAR", &["2026", "2026", "2024", "NULL"]);
    check("QUARTER", &["1", "3", "1", "NULL"]);
    check("MONTH", &["1", "8", "2", "NULL"]);
    check("WEEK", &["1", "32", "9", "NULL"]);
    check("DAY", &["1", "9", "29", "NULL"]);
    check("DOW", &["5", "1", "5", "NULL"]);
    check("DOY", &["1", "221", "60", "NULL"]);
    check("ISOYEAR", &["2026", "2026", "2024", "NULL"]);
    check("ISODOW", &["4", "7", "4", "NULL"]);
    check("HOUR", &["0", "13", "23", "NULL"]);
    check("MINUTE", &["0", "4", "59", "NULL"]);
    check("SECOND", &["0", "5", "59", "NULL"]);
    check("EPOCH", &["1767225600", "1786280645", "1709251199", "NULL"]);
    check("CENTURY", &["21", "21", "21", "NULL"]);
    check("DECADE", &["202", "202", "202", "NULL"]);
    check("MILLENNIUM", &["3", "3", "3", "NULL"]);
    check_rows("HOUR(t)", &items(), &["0", "13", "22", "NULL"]);
    check_rows("DAYOFMONTH(d)", &items(), &["1", "9", "29", "NULL"]);
    check_rows("EXTRACT(DAY FROM CAST('1969-12-31 23:00:00' AS TIMESTAMP(3)))", &super::one_row(), &["31"]);
    check_in("HOUR(TO_TIMESTAMP_LTZ(0, 3))", chrono_tz::Asia::Shanghai, "8");
    check_error("EXTRACT(YEAR FROM TIME '10:00:00')", "a TIME has no YEAR");
    check_error("YEAR('2026-01-01')", "function YEAR takes (DATE, TIME or TIMESTAMP), got (STRING)");
}

#[test]
fn rounding_to_units() {
    let check = |unit: &str, expected: &[&str]| check_rows(&format!("FLOOR(ts TO {unit})"), &items(), expected);
    check("YEAR", &["2026-01-01 00:00:00.000", "2026-01-01 00:00:00.000", "2024-01-01 00:00:00.000", "NULL"]);
    check("QUARTER", &["2026-01-01 00:00:00.000", "2026-07-01 00:00:00.000", "2024-01-01 00:00:00.000", "NULL"]);
    check("MONTH", &["2026-01-01 00:00:00.000", "2026-08-01 00:00:00.000", "2024-02-01 00:00:00.000", "NULL"]);
    check("WEEK", &["2025-12-28 00:00:00.000", "2026-08-09 00:00:00.000", "2024-02-25 00:00:00.000", "NULL"]);
    check("DAY", &["2026-01-01 00:00:00.000", "2026-08-09 00:00:00.000", "2024-02-29 00:00:00.000", "NULL"]);
    check("HOUR", &["2026-01-01 00:00:00.000", "2026-08-09 13:00:00.000", "2024-02-29 23:00:00.000", "NULL"]);
    check("MINUTE", &["2026-01-01 00:00:00.000", "2026-08-09 13:04:00.000", "2024-02-29 23:59:00.000", "NULL"]);
    check("SECOND", &["2026-01-01 00:00:00.000", "2026-08-09 13:04:05.000", "2024-02-29 23:59:59.000", "NULL"]);
    check_rows(
        "CEIL(ts TO DAY)",
        &items(),
        &["2026-01-01 00:00:00.000", "2026-08-10 00:00:00.000", "2024-03-01 00:00:00.000", "NULL"],
    );
    check_rows("FLOOR(d TO YEAR)", &items(), &["2026-01-01", "2026-01-01", "2024-01-01", "NULL"]);
    check_rows("CEIL(d TO MONTH)", &items(), &["2026-01-01", "2026-09-01", "2024-03-01", "NULL"]);
    check_rows("FLOOR(d TO WEEK)", &items(), &["2025-12-28", "2026-08-09", "2024-02-25", "NULL"]);
    check_rows("FLOOR(t TO HOUR)", &items(), &["00:00:00", "13:00:00", "22:00:00", "NULL"]);
    check_rows("CEIL(t TO HOUR)", &items(), &["00:00:00", "14:00:00", "23:00:00", "NULL"]);
    check_rows("FLOOR(t TO MINUTE)", &items(), &["00:00:00", "13:04:00", "22:59:00", "NULL"]);
    let old = table(&[("ts", "TIMESTAMP(3)")], &[&["1969-12-31 23:59:59.001"], &["1900-01-01 12:00:00.000"]]);
    check_rows("FLOOR(ts TO DAY)", &old, &["1969-12-31 00:00:00.000", "1900-01-01 00:00:00.000"]);
    check_rows("FLOOR(ts TO YEAR)", &old, &["1969-01-01 00:00:00.000", "1900-01-01 00:00:00.000"]);
    check_rows("FLOOR(ts TO SECOND)", &old, &["1969-12-31 23:59:59.000", "1900-01-01 12:00:00.000"]);
    // 2026-01-01T20:00Z is the next day in Shanghai, which begins at 16:00Z.
    check_in("FLOOR(TO_TIMESTAMP_LTZ(1767297600, 0) TO DAY)", chrono_tz::Asia::Shanghai, "2026-01-02 00:00:00.000");
    check_error("FLOOR(TIME '10:00:00' TO YEAR)", "a TIME has no YEAR");
}

#[test]
fn adding_and_subtracting() {
    check_rows(
        "TIMESTAMPADD(SECOND, 61, ts)",
        &items(),
        &["2026-01-01 00:01:01.000", "2026-08-09 13:05:06.678", "2024-03-01 00:01:00.999", "NULL"],
    );
    check_rows(
        "TIMESTAMPADD(MONTH, 1, ts)",
        &items(),
        &["2026-02-01 00:00:00.000", "2026-09-09 13:04:05.678", "2024-03-29 23:59:59.999", "NULL"],
    );
    check_rows(
        "TIMESTAMPADD(QUARTER, -1, ts)",
        &items(),
        &["2025-10-01 00:00:00.000", "2026-05-09 13:04:05.678", "2023-11-29 23:59:59.999", "NULL"],
    );
    check_rows(
        "TIMESTAMPADD(YEAR, 1, ts)",
        &items(),
        &["2027-01-01 00:00:00.000", "2027-08-09 13:04:05.678", "2025-02-28 23:59:59.999", "NULL"],
    );
    check_rows("TIMESTAMPADD(DAY, 1, d)", &items(), &["2026-01-02", "2026-08-10", "2024-03-01", "NULL"]);
    check("TIMESTAMPADD(HOUR, 1, DATE '2026-01-01')", "2026-01-01 01:00:00.000");
    check_error("TIMESTAMPADD(DAY, 9223372036854775807, TIMESTAMP '2026-01-01 00:00:00')", "beyond the calendar");
    check_error("TIMESTAMPADD(TEA, 1, TIMESTAMP '2026-01-01 00:00:00')", "TEA");

    let pairs = table(
        &[("a", "TIMESTAMP(3)"), ("b", "TIMESTAMP(3)")],
        &[
            &["2026-01-31 00:00:00", "2026-02-28 00:00:00"],
            &["2024-02-29 00:00:00", "2025-02-28 23:59:59"],
            &["2026-03-01 00:00:00", "2026-01-31 00:00:00"],
            &["2026-01-01 00:00:00.999", "2026-01-01 00:00:01.000"],
            &["NULL", "2026-01-01 00:00:00"],
        ],
    );
    let diff = |unit: &str, expected: &[&str]| check_rows(&format!("TIMESTAMPDIFF({unit}, a, b)"), &pairs, expected);
    diff("SECOND", &["2419200", "31622399", "-2505600", "0", "NULL"]);
    diff("MINUTE", &["40320", "527039", "-41760", "0", "NULL"]);
    diff("HOUR", &["672", "8783", "-696", "0", "NULL"]);
    diff("DAY", &["28", "365", "-29", "0", "NULL"]);
    diff("WEEK", &["4", "52", "-4", "0", "NULL"]);
    diff("MONTH", &["1", "12", "-1", "0", "NULL"]);
    diff("QUARTER", &["0", "4", "0", "0", "NULL"]);
    diff("YEAR", &["0", "1", "0", "0", "NULL"]);
    check("TIMESTAMPDIFF(DAY, DATE '2026-01-01', DATE '2026-02-01')", "31");
    check_error("TIMESTAMPDIFF(SECOND, DATE '0001-01-01', DATE '2026-02-01')", "overflow of INT");
}

#[test]
fn intervals() {
    let items = table(
        &[("ts", "TIMESTAMP(3)"), ("d", "DATE"), ("i", "INT")],
        &[&["2026-01-31 10:00:00", "2026-01-31", "1"], &["2024-02-29 00:00:00", "2024-02-29", "-2"], &["NULL", "NULL", "NULL"]],
    );
    check_rows("ts + INTERVAL '1' MONTH", &items, &["2026-02-28 10:00:00.000", "2024-03-29 00:00:00.000", "NULL"]);
    check_rows("ts - INTERVAL '1' YEAR", &items, &["2025-01-31 10:00:00.000", "2023-02-28 00:00:00.000", "NULL"]);
    check_rows("ts + INTERVAL '1-2' YEAR TO MONTH", &items, &["2027-03-31 10:00:00.000", "2025-04-29 00:00:00.000", "NULL"]);
    check_rows(
        "ts + INTERVAL '1 02:03:04.005' DAY TO SECOND",
        &items,
        &["2026-02-01 12:03:04.005", "2024-03-01 02:03:04.005", "NULL"],
    );
    check_rows("ts - INTERVAL '36' HOUR", &items, &["2026-01-29 22:00:00.000", "2024-02-27 12:00:00.000", "NULL"]);
    check_rows("d + INTERVAL '1' DAY", &items, &["2026-02-01", "2024-03-01", "NULL"]);
    check_rows("d + INTERVAL '1' MONTH", &items, &["2026-02-28", "2024-03-29", "NULL"]);
    check_rows("ts + i * INTERVAL '1' HOUR", &items, &["2026-01-31 11:00:00.000", "2024-02-28 22:00:00.000", "NULL"]);
    check_rows("ts - INTERVAL '10' SECOND * i", &items, &["2026-01-31 09:59:50.000", "2024-02-29 00:00:20.000", "NULL"]);
    check("TIME '23:30:00' + INTERVAL '1' HOUR", "00:30:00");
    check("TO_TIMESTAMP_LTZ(0, 3) + INTERVAL '1' MONTH", "1970-02-01 00:00:00.000");
    check_error("INTERVAL '1' HOUR * 9000000000000", "overflow of INTERVAL");
}

#[test]
fn parsing() {
    let texts = table(
        &[("s", "STRING")],
        &[&["2026-01-31"], &["31.01.2026"], &["tea"], &["NULL"], &["2026-1-5"], &["2026-01-31 10:00:00"], &["2026-02-30"], &[""]],
    );
    check_rows("TO_DATE(s)", &texts, &["2026-01-31", "NULL", "NULL", "NULL", "2026-01-05", "2026-01-31", "NULL", "NULL"]);
    check("TO_DATE('31.01.2026', 'dd.MM.yyyy')", "2026-01-31");
    check("TO_DATE('19691201', 'yyyyMMdd')", "1969-12-01");
    check("TO_TIMESTAMP('2026-01-31 10:20:30.1239')", "2026-01-31 10:20:30.123");
    check("TO_TIMESTAMP('tea')", "NULL");
    check("TO_TIMESTAMP('31/01/2026 10:20', 'dd/MM/yyyy HH:mm')", "2026-01-31 10:20:00.000");
    check_type("TO_TIMESTAMP('tea')", "TIMESTAMP(3)");
    check_in("CAST(TO_TIMESTAMP_LTZ(1767225600123, 3) AS STRING)", chrono_tz::Asia::Shanghai, "2026-01-01 08:00:00.123");
    check("TO_TIMESTAMP_LTZ(-1, 0)", "1969-12-31 23:59:59.000");
    check("TO_TIMESTAMP_LTZ(1767225600123, 0)", "NULL");
    check_type("TO_TIMESTAMP_LTZ(1, 0)", "TIMESTAMP_LTZ(3)");
    check("TO_TIMESTAMP_LTZ('2026-01-31 10:20:30', 'yyyy-MM-dd HH:mm:ss', 'Asia/Tokyo')", "2026-01-31 01:20:30.000");
    check_error("TO_TIMESTAMP_LTZ('tea')", "'tea' is not a timestamp");
    check_error("TO_TIMESTAMP_LTZ('2026-01-31 10:20:30', 'yyyy', 'Tea/Pot')", "unknown time zone 'Tea/Pot'");
    check_error("TO_TIMESTAMP_LTZ('2026-01-31', 3)", "takes a pattern behind a STRING");
    let shanghai = chrono_tz::Asia::Shanghai;
    check_in("FROM_UNIXTIME(0)", shanghai, "1970-01-01 08:00:00");
    check_in("FROM_UNIXTIME(-1, 'yyyy/MM/dd HH')", shanghai, "1970/01/01 07");
    check_error("FROM_UNIXTIME(9223372036854775807)", "beyond the calendar");
    let berlin = chrono_tz::Europe::Berlin;
    check_in("UNIX_TIMESTAMP('2026-01-01 00:00:00')", berlin, "1767222000");
    check_in("UNIX_TIMESTAMP('1969-12-31 23:59:59', 'yyyy-MM-dd HH:mm')", berlin, "-3660");
    check_in("UNIX_TIMESTAMP('2026-01-01 00:00')", berlin, "-9223372036854775808");
    check("CONVERT_TZ('1970-01-01 00:00:00', 'UTC', 'America/Los_Angeles')", "1969-12-31 16:00:00");
    check("CONVERT_TZ('tea', 'UTC', 'America/Los_Angeles')", "NULL");
}

#[test]
fn clock() {
    check("NOW()", "2026-01-31 03:04:05.678");
    check("CURRENT_TIMESTAMP", "2026-01-31 03:04:05.678");
    check("UNIX_TIMESTAMP()", "1769828645");
    let new_york = chrono_tz::America::New_York;
    check_in("LOCALTIMESTAMP", new_york, "2026-01-30 22:04:05.678");
    check_in("CURRENT_DATE", new_york, "2026-01-30");
    check_in("LOCALTIME", new_york, "22:04:05");
    check_in("PROCTIME()", new_york, "2026-01-30 22:04:05.678");
    check_type("PROCTIME()", "TIMESTAMP_LTZ(3)");
    check_type("CURRENT_TIME", "TIME(0)");
}

#[test]
fn periods() {
    check("(TIME '02:55:00', INTERVAL '1' HOUR) OVERLAPS (TIME '03:30:00', INTERVAL '2' HOUR)", "TRUE");
    check("(TIME '02:55:00', INTERVAL '1' HOUR) OVERLAPS (TIME '00:00:00', INTERVAL '2' HOUR)", "FALSE");
    check("(DATE '2026-01-01', DATE '2026-08-09') OVERLAPS (DATE '2026-08-09', DATE '2026-09-01')", "TRUE");
}
