use super::{check, check_error, check_rows, table};

#[test]
fn arrays() {
    let a = "SPLIT(s, ',')";
    let items = table(&[("s", "STRING")], &[&["3,1,2,3"], &[""], &["NULL"]]);
    let check_array = |function: &str, expected: &[&str]| check_rows(&function.replace("{}", a), &items, expected);
    check_array("CARDINALITY({})", &["4", "0", "NULL"]);
    check_array("ARRAY_CONTAINS({}, '3')", &["TRUE", "FALSE", "NULL"]);
    check_array("ARRAY_CONTAINS({}, CAST(NULL AS STRING))", &["FALSE", "FALSE", "NULL"]);
    check_array("ARRAY_POSITION({}, '2')", &["3", "0", "NULL"]);
    check_array("ARRAY_DISTINCT({})", &["[3, 1, 2]", "[]", "NULL"]);
    check_array("ARRAY_REVERSE({})", &["[3, 2, 1, 3]", "[]", "NULL"]);
    check_array("ARRAY_SORT({})", &["[1, 2, 3, 3]", "[]", "NULL"]);
    check_array("ARRAY_SORT({}, FALSE)", &["[3, 3, 2, 1]", "[]", "NULL"]);
    check_array("ARRAY_MAX({})", &["3", "NULL", "NULL"]);
    check_array("ARRAY_MIN({})", &["1", "NULL", "NULL"]);
    check_array("ARRAY_JOIN({}, '+')", &["3+1+2+3", "", "NULL"]);
    check_array("ARRAY_UNION({}, SPLIT('1,7', ','))", &["[3, 1, 2, 7]", "[1, 7]", "NULL"]);
    check_array("ARRAY_INTERSECT({}, SPLIT('3,7', ','))", &["[3]", "[]", "NULL"]);
    check_array("ARRAY_EXCEPT({}, SPLIT('3', ','))", &["[1, 2]", "[]", "NULL"]);
    check("ARRAY_SORT(MAKE_ARRAY(7, NULL))", "[NULL, 7]");
    check("ARRAY_SORT(MAKE_ARRAY(7, NULL), FALSE)", "[7, NULL]");
    check("ARRAY_SORT(MAKE_ARRAY(NULL, 7), TRUE, FALSE)", "[7, NULL]");
    check("ARRAY_JOIN(MAKE_ARRAY('a', NULL), '+', '?')", "a+?");
    check("ARRAY_CONTAINS(MAKE_ARRAY(NULL, 7), CAST(NULL AS INT))", "TRUE");
    check("ELEMENT(SPLIT('a', ','))", "a");
    check("ELEMENT(SPLIT('', ','))", "NULL");
    check_error("ELEMENT(SPLIT('a,b', ','))", "more than one item");
    check_error("CARDINALITY(1)", "function CARDINALITY takes (ARRAY or MAP), got (BIGINT)");
    check("[10, 20][2]", "20");
    check("[10, 20][9]", "NULL");
}

#[test]
fn maps_and_rows() {
    check("STR_TO_MAP('a=1,b=2')", "{a=1, b=2}");
    check("STR_TO_MAP('a=1,a=2')", "{a=2}");
    check("STR_TO_MAP('x', ';', ':')", "{x=NULL}");
    check("STR_TO_MAP('x:1:2', ';', ':')", "{x=1:2}");
    check("STR_TO_MAP(CAST(NULL AS STRING))", "NULL");
    check("CARDINALITY(STR_TO_MAP('a=1,b=2'))", "2");
    check("STR_TO_MAP('a=1,b=2')['b']", "2");
    check("STR_TO_MAP('a=1,b=2')['c']", "NULL");
    check("TYPEOF(ROW(1, 'x'))", "ROW<`EXPR$0` BIGINT, `EXPR$1` STRING> NOT NULL");
    check("CAST(ROW(1, 'x') AS STRUCT<a INT, b STRING>)", "(1, x)");
    check("ROW(5, 1) = ROW(5, 1)", "TRUE");
}

#[test]
fn json() {
    let j = r#"{"name":"tea","price":2.50,"tags":["a","b"],"addr":{"city":"york"},"none":null,"ok":true}"#;
    let items = table(&[("j", "STRING")], &[&[j], &["[10, 20]"], &["\"text\""], &["{bad"], &["NULL"]]);
    check_rows("JSON_VALUE(j, '$.name')", &items, &["tea", "NULL", "NULL", "NULL", "NULL"]);
    check_rows("JSON_VALUE(j, '$.price')", &items, &["2.50", "NULL", "NULL", "NULL", "NULL"]);
    check_rows("JSON_VALUE(j, '$.addr.city')", &items, &["york", "NULL", "NULL", "NULL", "NULL"]);
    check_rows("JSON_VALUE(j, '$.addr')", &items, &["NULL"; 5]);
    check_rows("JSON_VALUE(j, '$.none')", &items, &["NULL"; 5]);
    check_rows("JSON_VALUE(j, '$[0]')", &items, &["NULL", "10", "NULL", "NULL", "NULL"]);
    check_rows("JSON_VALUE(j, 'lax $.ok')", &items, &["true", "NULL", "NULL", "NULL", "NULL"]);
    check_rows("JSON_QUERY(j, '$.addr')", &items, &["{\"city\":\"york\"}", "NULL", "NULL", "NULL", "NULL"]);
    check_rows("JSON_EXISTS(j, '$.none')", &items, &["TRUE", "FALSE", "FALSE", "FALSE", "NULL"]);
    check_rows("IS_JSON(j)", &items, &["TRUE", "TRUE", "TRUE", "FALSE", "FALSE"]);
    check_rows("IS_JSON_SCALAR(j)", &items, &["FALSE", "FALSE", "TRUE", "FALSE", "FALSE"]);
    check("JSON_VALUE('{\"n\":12345678901234567890}', '$.n')", "12345678901234567890");
    check("JSON_VALUE('{\"n\":1e3}', '$.n')", "1E+3");
    check("JSON_VALUE('{\"n\":0.00000001}', '$.n')", "1E-8");
    check("JSON_VALUE('{\"n\":1.10}', '$.n')", "1.10");
    check_error("JSON_VALUE('{}', 'name')", "cannot read the path 'name'");
    check("JSON_STRING(MAKE_ARRAY(1, 2))", "[1,2]");
    check("JSON_STRING(ROW(1, 'x'))", "{\"EXPR$0\":1,\"EXPR$1\":\"x\"}");
    check("JSON_STRING('te\"a')", "\"te\\\"a\"");
    check("JSON_STRING(CAST(2.50 AS DECIMAL(5, 2)))", "2.50");
    check("JSON_OBJECT('id' VALUE 1, 'j' VALUE CAST(NULL AS STRING))", "{\"id\":1,\"j\":null}");
    check("JSON_OBJECT('id' VALUE 1, 'j' VALUE CAST(NULL AS STRING) ABSENT ON NULL)", "{\"id\":1}");
    check("JSON_OBJECT('i' VALUE JSON_OBJECT('x' VALUE 1), 'l' VALUE JSON_ARRAY(1, 2))", "{\"i\":{\"x\":1},\"l\":[1,2]}");
    check("JSON_ARRAY(1, CAST(NULL AS STRING), 1.50, TRUE)", "[1,1.50,true]");
    check("JSON_OBJECT()", "{}");
}
