#!/usr/bin/env python3
"""Records what Apache Flink answers to the queries of sql-examples/nexmark over the events in this folder.

  python3 -m venv V && V/bin/pip install apache-flink        (2.3.0 on Python 3.11 and Java 17 made what is here)
  V/bin/python record.py [q3 q4 ...]

One lane and a watermark after every record, so that what is late does not depend on time. Answers are the rows that are
left when the input has ended: JSON lines, sorted, the columns in order. Not recorded: q6, which Flink refuses, and q12, whose
windows depend on the clock. q10 is recorded as the rows that it writes; q13 as an ordinary join, which over a table that does
not change means the same.
"""
import json, os, re, sys, tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SQL = os.path.join(HERE, "..", "..", "sql-examples", "nexmark")
SKIPPED = ("q6", "q12")
# Flink sends no -U where a later row of the key says enough.
KEYS = {"q9": ("id",)}


def statements(name):
    text = open(os.path.join(SQL, name)).read()
    text = re.sub(r"^--.*$", "", text, flags=re.M)
    text = text.replace("${NEXMARK_EVENTS}", "file://" + os.path.join(HERE, "events"))
    text = text.replace("${NEXMARK_SIDE_INPUT}", "file://" + os.path.join(HERE, "side_input"))
    return [part.strip() for part in text.split(";") if part.strip()]


def type_text(data_type):
    from pyflink.table.types import DecimalType
    if isinstance(data_type, DecimalType):
        return "DECIMAL(%d, %d)" % (data_type.precision, data_type.scale)
    text = re.sub(r"\*(ROWTIME|PROCTIME)\*|NOT NULL", "", str(data_type)).strip()
    return "STRING" if text.startswith("VarChar") else text


def record(name):
    from pyflink.table import EnvironmentSettings, TableEnvironment
    env = TableEnvironment.create(EnvironmentSettings.in_streaming_mode())
    for key, value in (("parallelism.default", "1"), ("table.local-time-zone", "UTC"), ("pipeline.auto-watermark-interval", "0")):
        env.get_config().set(key, value)
    before, query = [], None
    for text in statements("tables.sql") + statements(name + ".sql"):
        if text.startswith("INSERT"):
            query = text[text.index("SELECT"):]
        elif text.startswith("SELECT"):
            query = text.replace("FOR SYSTEM_TIME AS OF B.p_time ", "")
        elif "NEXMARK_LAKE" not in text:
            before.append(text)
    for text in before:
        env.execute_sql(text)
    env.execute_sql("CREATE TEMPORARY VIEW answer AS " + query)
    changes = "SELECT * FROM TO_CHANGELOG(input => TABLE answer)"
    schema = env.sql_query(changes).get_schema()
    columns = ", ".join("`%s` %s" % (column, type_text(schema.get_field_data_type(index)))
                        for index, column in enumerate(schema.get_field_names()))
    left, by_key = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        env.execute_sql("CREATE TEMPORARY TABLE written (%s) WITH ('connector'='filesystem', 'path'='file://%s/out', "
                        "'format'='json')" % (columns, folder))
        env.execute_sql("INSERT INTO written " + changes).wait()
        for file in sorted(os.listdir(folder + "/out")):
            for line in open(folder + "/out/" + file):
                row = json.loads(line)
                sign = 1 if row.pop("op") in ("INSERT", "UPDATE_AFTER", "+I", "+U") else -1
                text = json.dumps(row, separators=(",", ":"))
                left[text] = left.get(text, 0) + sign
                by_key[tuple(row[key] for key in KEYS.get(name, ()))] = text if sign > 0 else None
    if name in KEYS:
        left = {text: 1 for text in by_key.values() if text}
    assert all(count >= 0 for count in left.values()), name
    rows = sorted(text for text, count in left.items() for _ in range(count))
    with open(os.path.join(HERE, name + ".jsonl"), "w") as out:
        out.write("".join(row + "\n" for row in rows))
    print(name, len(rows), "rows", flush=True)


if __name__ == "__main__":
    names = sys.argv[1:] or ["q%d" % number for number in range(24)]
    for name in names:
        if name not in SKIPPED:
            try:
                record(name)
            except Exception as error:
                print(name, "FAILED", str(error)[:3000], flush=True)
