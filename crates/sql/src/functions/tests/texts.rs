use super::{check, check_error, check_rows, table};

#[test]
fn case_and_length() {
    let names = table(&[("s", "STRING")], &[&["hello wORLD"], &["straße éclair"], &["it's o'clock-now x2y"], &[""], &["NULL"]]);
    check_rows("UPPER(s)", &names, &["HELLO WORLD", "STRASSE ÉCLAIR", "IT'S O'CLOCK-NOW X2Y", "", "NULL"]);
    check_rows("INITCAP(s)", &names, &["Hello World", "StraßE éClair", "It'S O'Clock-Now X2y", "", "NULL"]);
    check_rows("LOWER(s)", &names, &["hello world", "straße éclair", "it's o'clock-now x2y", "", "NULL"]);
    check_rows("CHAR_LENGTH(s)", &names, &["11", "13", "20", "0", "NULL"]);
    check("CHARACTER_LENGTH('naïve 日本 😀')", "10");
    check("REVERSE('日本x')", "x本日");
    check_error("UPPER(1)", "function UPPER takes (STRING), got (BIGINT)");
    check_error("UPPER()", "function UPPER takes (STRING), got ()");
    check_error("UPPER('a', 'b')", "got (STRING, STRING)");
}

#[test]
fn parts() {
    let words = table(&[("s", "STRING")], &[&["teapot"], &["ab"], &["NULL"], &["日本語テ"]]);
    check_rows("SUBSTRING(s, 2, 3)", &words, &["eap", "b", "NULL", "本語テ"]);
    check_rows("SUBSTRING(s FROM 2)", &words, &["eapot", "b", "NULL", "本語テ"]);
    check_rows("SUBSTRING(s, -3)", &words, &["pot", "", "NULL", "本語テ"]);
    check_rows("SUBSTRING(s, 0, 2)", &words, &["te", "ab", "NULL", "日本"]);
    check_rows("SUBSTR(s, 5, 100)", &words, &["ot", "", "NULL", ""]);
    check_rows("SUBSTRING(s, 2, 0)", &words, &["", "", "NULL", ""]);
    check_rows("SUBSTRING(s FROM 1 FOR CHAR_LENGTH(s) - 1)", &words, &["teapo", "a", "NULL", "日本語"]);
    check("SUBSTRING('abc', 1, -1)", "NULL");
    check("SUBSTRING('abc', 9223372036854775807, 9223372036854775807)", "");
    check_rows("`left`(s, 3)", &words, &["tea", "ab", "NULL", "日本語"]);
    check_rows("`right`(s, 3)", &words, &["pot", "ab", "NULL", "本語テ"]);
    check("`left`('abc', -1)", "");
    check("`right`('abc', 100)", "abc");
    check("SPLIT_INDEX('a,b,,c', ',', 2)", "");
    check("SPLIT_INDEX('a,b,,c', ',', 4)", "NULL");
    check("SPLIT_INDEX('a,b', ',', -1)", "NULL");
    check("SPLIT_INDEX('', ',', 0)", "NULL");
    check("SPLIT_INDEX('abbc', 'bb', 1)", "c");
    check("SPLIT_INDEX('a b', '', 1)", "b");
    check("SPLIT_INDEX('a,b', 44, 1)", "b");
    check("SPLIT_INDEX('a', CAST(NULL AS STRING), 0)", "NULL");
    check("SPLIT('a,b,,c', ',')", "[a, b, , c]");
    check("SPLIT('日x', '')", "[日, x]");
    check("SPLIT('', ',')", "[]");
    check_error(
        "SPLIT_INDEX(1, ',', 0)",
        "function SPLIT_INDEX takes (STRING, STRING or INT, INT), got (BIGINT, STRING, BIGINT)",
    );
}

#[test]
fn positions() {
    let pairs = table(
        &[("s", "STRING"), ("t", "STRING")],
        &[&["hello world", "o"], &["hello", "xyz"], &["hello", ""], &["", ""], &["NULL", "a"], &["日本日本", "本"]],
    );
    check_rows("POSITION(t IN s)", &pairs, &["5", "0", "1", "1", "NULL", "2"]);
    check_rows("LOCATE(t, s)", &pairs, &["5", "0", "1", "1", "NULL", "2"]);
    check_rows("LOCATE(t, s, 6)", &pairs, &["8", "0", "1", "1", "NULL", "0"]);
    check_rows("INSTR(s, t)", &pairs, &["5", "0", "1", "1", "NULL", "2"]);
    check_rows("STARTSWITH(s, t)", &pairs, &["FALSE", "FALSE", "TRUE", "TRUE", "NULL", "FALSE"]);
    check_rows("ENDSWITH(s, t)", &pairs, &["FALSE", "FALSE", "TRUE", "TRUE", "NULL", "TRUE"]);
    check("ELT(2, 'a', 'b')", "b");
    check("ELT(3, 'a', 'b')", "NULL");
    check("ELT(0, 'a')", "NULL");
}

#[test]
fn joining() {
    let pairs = table(&[("s", "STRING"), ("t", "STRING")], &[&["tea", "pot"], &["tea", "NULL"], &["NULL", "NULL"], &["", ""]]);
    check_rows("s || t", &pairs, &["teapot", "NULL", "NULL", ""]);
    check_rows("CONCAT(s, '-', t)", &pairs, &["tea-pot", "NULL", "NULL", "-"]);
    check_rows("CONCAT_WS(',', s, t, 'z')", &pairs, &["tea,pot,z", "tea,z", "z", ",,z"]);
    check_rows("CONCAT_WS(t, s, 'z')", &pairs, &["teapotz", "NULL", "NULL", "z"]);
    check("REPEAT('ab', 3)", "ababab");
    check("REPEAT('ab', -3)", "");
    check_error("REPEAT('ab', 9223372036854775807)", "longer than");
    check("LPAD('hi', 4, '??')", "??hi");
    check("RPAD('hi', 5, 'xy')", "hixyx");
    check("LPAD('hi', 1, '??')", "h");
    check("LPAD('hi', 4, '')", "NULL");
    check("LPAD('hi', -1, 'x')", "NULL");
    check("RPAD('hi', 0, 'x')", "");
    check_error("LPAD('hi', 9000000000, 'x')", "is more than");
}

#[test]
fn trimming() {
    let texts = table(
        &[("s", "STRING"), ("t", "STRING")],
        &[&["  tea  ", "xxteaxx"], &["\ttea\n", "xyteayx"], &["", "xyx"], &["NULL", "NULL"]],
    );
    check_rows("'[' || TRIM(s) || ']'", &texts, &["[tea]", "[\ttea\n]", "[]", "NULL"]);
    check_rows("'[' || LTRIM(s) || ']'", &texts, &["[tea  ]", "[\ttea\n]", "[]", "NULL"]);
    check_rows("'[' || RTRIM(s) || ']'", &texts, &["[  tea]", "[\ttea\n]", "[]", "NULL"]);
    check_rows("TRIM(LEADING 'x' FROM t)", &texts, &["teaxx", "yteayx", "yx", "NULL"]);
    check_rows("TRIM(BOTH 'xy' FROM t)", &texts, &["tea", "tea", "", "NULL"]);
    check_rows("TRIM(TRAILING 'x' FROM t)", &texts, &["xxtea", "xyteay", "xy", "NULL"]);
    check_rows("BTRIM(t, 'xy')", &texts, &["tea", "tea", "", "NULL"]);
    check_rows("LTRIM(t, 'yx')", &texts, &["teaxx", "teayx", "", "NULL"]);
}

#[test]
fn replacing() {
    let texts = table(&[("s", "STRING")], &[&["hello"], &["l"], &[""], &["NULL"]]);
    check_rows("REPLACE(s, 'l', 'LL')", &texts, &["heLLLLo", "LL", "", "NULL"]);
    check_rows("REPLACE(s, '', 'x')", &texts, &["xhxexlxlxox", "xlx", "x", "NULL"]);
    check_rows("TRANSLATE(s, 'elo', 'ip')", &texts, &["hipp", "p", "", "NULL"]);
    check_rows("OVERLAY(s PLACING 'XX' FROM 2 FOR 3)", &texts, &["hXXo", "l", "", "NULL"]);
    check_rows("OVERLAY(s PLACING 'XX' FROM 2)", &texts, &["hXXlo", "l", "", "NULL"]);
}

#[test]
fn regular_expressions() {
    let urls = table(&[("s", "STRING")], &[&["a?id=12&id=13"], &["none"], &[""], &["NULL"]]);
    check_rows("REGEXP_EXTRACT(s, 'id=([0-9]+)', 1)", &urls, &["12", "NULL", "NULL", "NULL"]);
    check_rows("REGEXP_EXTRACT(s, 'id=([0-9]+)', 0)", &urls, &["id=12", "NULL", "NULL", "NULL"]);
    check_rows("REGEXP_EXTRACT(s, 'id=([0-9]+)')", &urls, &["id=12", "NULL", "NULL", "NULL"]);
    check_rows("REGEXP_EXTRACT(s, 'id=([0-9]+)', 2)", &urls, &["NULL"; 4]);
    check_rows("REGEXP_EXTRACT(s, '(x)?id', 1)", &urls, &["NULL"; 4]);
    check_rows("REGEXP_EXTRACT('k=' || s, '(&|^)k=([^&]*)', 2)", &urls, &["a?id=12", "none", "", "NULL"]);
    let texts = table(&[("s", "STRING")], &[&["a1b22c"], &["abc"], &[""], &["NULL"]]);
    check_rows("REGEXP_REPLACE(s, '[0-9]+', '#')", &texts, &["a#b#c", "abc", "", "NULL"]);
    check_rows(r"REGEXP_REPLACE(s, '(\w)(\d)', '$2$1')", &texts, &["$2$1$2$12c", "abc", "", "NULL"]);
    check_rows("REGEXP_REPLACE(s, '', '-')", &texts, &["-a-1-b-2-2-c-", "-a-b-c-", "-", "NULL"]);
    check_rows("REGEXP(s, '[0-9]')", &texts, &["TRUE", "FALSE", "FALSE", "NULL"]);
    check_rows("REGEXP(s, '^[a-z]+$')", &texts, &["FALSE", "TRUE", "FALSE", "NULL"]);
    check_rows("REGEXP_COUNT(s, '[0-9]+')", &texts, &["2", "0", "0", "NULL"]);
    check_rows("REGEXP_INSTR(s, '[0-9]+')", &texts, &["2", "0", "0", "NULL"]);
    check_rows("REGEXP_SUBSTR(s, '[0-9]+')", &texts, &["1", "NULL", "NULL", "NULL"]);
    check_rows("REGEXP_EXTRACT_ALL(s, '([a-z])([0-9])', 2)", &texts, &["[1, 2]", "[]", "[]", "NULL"]);
    check_rows("REGEXP_EXTRACT_ALL(s, '[0-9]+', 0)", &texts, &["[1, 22]", "[]", "[]", "NULL"]);
    check(r"REGEXP_EXTRACT('é5', '\w+')", "5");
    check(r"REGEXP_EXTRACT('a.b', '\Qa.b\E')", "a.b");
    check_error("REGEXP('a', '(?<=x)a')", "cannot use the regular expression '(?<=x)a'");
    check_error("REGEXP_EXTRACT('a', '(')", "cannot use the regular expression '('");
}

#[test]
fn codes_and_hashes() {
    check("ASCII('A')", "65");
    check("ASCII('')", "0");
    check("ASCII('é')", "-61");
    check("CHR(321)", "A");
    check("CHR(-1)", "");
    check("CHR(161)", "¡");
    check("MD5('tea')", "7239ea2b5dc943f61f3c0a0276c20974");
    check("SHA1('tea')", "75490f32c06a50051804339453d3fe2f0cd5564b");
    check("SHA1('é')", "bf15be717ac1b080b4f1c456692825891ff5073d");
    check("SHA1('')", "da39a3ee5e6b4b0d3255bfef95601890afd80709");
    check("SHA1(REPEAT('a', 64))", "0098ba824b5c16427bd7a1122a5a442a25ec644d");
    check("SHA224('tea')", "ab2f614346b6ca34caf73da3b89fdf3988f06f87e9e990f7d51180d7");
    check("SHA2('tea', 256)", "a9f74d1ec36ebdeb2da3f6e5868090cd2a2d20b3dcca7b62f60304b1d3d9ef42");
    check("SHA256(CAST(NULL AS STRING))", "NULL");
    check_error("SHA2('tea', 1)", "is none of 224, 256, 384, 512");
    check("HASH_CODE(5)", "5");
    check("HASH_CODE(CAST(NULL AS STRING))", "NULL");
    check("TO_BASE64('é')", "w6k=");
    check("TO_BASE64('')", "");
    check("FROM_BASE64('dGVh')", "tea");
    check("FROM_BASE64(TO_BASE64('naïve 日本 😀'))", "naïve 日本 😀");
    check_error("FROM_BASE64('!')", "'!' is not base64");
    check("HEX('é')", "C3A9");
    check("HEX(1020)", "3FC");
    check("HEX(-1)", "FFFFFFFFFFFFFFFF");
    check("DECODE(UNHEX('746561'), 'UTF-8')", "tea");
    check("UNHEX('zz')", "NULL");
    check("BIN(5)", "101");
    check("HEX(DECODE(ENCODE('é', 'UTF-16'), 'UTF-16'))", "C3A9");
    check("TO_BASE64(ENCODE('tea', 'UTF-16'))", "/v8AdABlAGE=");
    check("TO_BASE64(ENCODE('é', 'US-ASCII'))", "Pw==");
    check_error("ENCODE('a', 'tea')", "'tea' is none of");
}

#[test]
fn urls() {
    check("URL_ENCODE('a b&c=é')", "a+b%26c%3D%C3%A9");
    check("URL_DECODE('a%20b+c')", "a b c");
    check("URL_DECODE('bad%zz')", "NULL");
    check("URL_DECODE('%')", "NULL");
    check("PARSE_URL('http://u:p@shop.io:80/a/b?x=1&y=2#top', 'HOST')", "shop.io");
    check("PARSE_URL('http://u:p@shop.io:80/a/b?x=1&y=2#top', 'PATH')", "/a/b");
    check("PARSE_URL('http://u:p@shop.io:80/a/b?x=1&y=2#top', 'QUERY')", "x=1&y=2");
    check("PARSE_URL('http://u:p@shop.io:80/a/b?x=1&y=2#top', 'QUERY', 'y')", "2");
    check("PARSE_URL('http://u:p@shop.io:80/a/b?x=1&y=2#top', 'REF')", "top");
    check("PARSE_URL('http://u:p@shop.io:80/a/b?x=1&y=2#top', 'USERINFO')", "u:p");
    check("PARSE_URL('http://u:p@shop.io:80/a/b?x=1&y=2#top', 'AUTHORITY')", "u:p@shop.io:80");
    check("PARSE_URL('http://shop.io', 'QUERY')", "NULL");
    check("PARSE_URL('tea', 'HOST')", "NULL");
}

#[test]
fn printf() {
    check("PRINTF('%s has %d', 'tea', 1)", "tea has 1");
    check("PRINTF('%s has %d', CAST(NULL AS STRING), 2)", "null has 2");
    check("PRINTF('%05d|%-5s|', -42, 'ab')", "-0042|ab   |");
    check("PRINTF('%,d %.2f %x %%', 1234567, CAST(2.345 AS DOUBLE), 255)", "1,234,567 2.35 ff %");
    check("PRINTF('%2$s %1$s', 'a', 'b')", "b a");
    check_error("PRINTF('%d', 'x')", "%d cannot show argument 1");
    check_error("PRINTF('%d')", "argument 1, which is not given");
    check_error("PRINTF('%999999999d', 1)", "cannot read the format");
}
