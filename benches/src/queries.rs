//! The measured queries, in Flink's dialect: the same text runs there.
//!
//! They are Nexmark's (github.com/nexmark/nexmark) over one table of nested rows and the view `bid`, into a sink that drops
//! its rows. In q14 the reference counts a letter by a user-defined function; here two built-in functions do it.

use std::path::Path;

pub struct Query {
    /// As on the command line.
    pub name: &'static str,
    pub exercises: &'static str,
    sink_columns: &'static str,
    select: &'static str,
}

pub const QUERIES: &[Query] = &[
    Query {
        name: "q0",
        exercises: "read, decode, pass on",
        sink_columns: "auction BIGINT, bidder BIGINT, price BIGINT, ts TIMESTAMP(3), extra STRING",
        select: "SELECT auction, bidder, price, ts, extra FROM bid",
    },
    Query {
        name: "q1",
        exercises: "decimal arithmetic",
        sink_columns: "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), ts TIMESTAMP(3), extra STRING",
        select: "SELECT auction, bidder, 0.908 * price AS price, ts, extra FROM bid",
    },
    Query {
        name: "q2",
        exercises: "selective filter",
        sink_columns: "auction BIGINT, price BIGINT",
        select: "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0",
    },
    Query {
        name: "tumble",
        exercises: "windowed count per auction",
        sink_columns: "auction BIGINT, window_start TIMESTAMP(3), window_end TIMESTAMP(3), bids BIGINT",
        select: "SELECT auction, window_start, window_end, COUNT(*) AS bids
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY auction, window_start, window_end",
    },
    Query {
        name: "q14",
        exercises: "calendar and text functions",
        sink_columns: "auction BIGINT, bidder BIGINT, price DECIMAL(23, 3), bid_time_type STRING, ts TIMESTAMP(3), \
                       extra STRING, c_count BIGINT",
        select: "SELECT auction, bidder, 0.908 * price AS price,
  CASE WHEN HOUR(ts) >= 8 AND HOUR(ts) <= 18 THEN 'dayTime'
       WHEN HOUR(ts) <= 6 OR HOUR(ts) >= 20 THEN 'nightTime'
       ELSE 'otherTime' END AS bid_time_type,
  ts, extra, CAST(CHAR_LENGTH(extra) - CHAR_LENGTH(REPLACE(extra, 'c', '')) AS BIGINT) AS c_count
FROM bid
WHERE 0.908 * price > 1000000 AND 0.908 * price < 50000000",
    },
    Query {
        name: "q21",
        exercises: "regular expressions",
        sink_columns: "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, channel_id STRING",
        select: "SELECT auction, bidder, price, channel,
  CASE LOWER(channel)
    WHEN 'apple' THEN '0' WHEN 'google' THEN '1' WHEN 'facebook' THEN '2' WHEN 'baidu' THEN '3'
    ELSE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) END AS channel_id
FROM bid
WHERE REGEXP_EXTRACT(url, '(&|^)channel_id=([^&]*)', 2) IS NOT NULL
  OR LOWER(channel) IN ('apple', 'google', 'facebook', 'baidu')",
    },
    Query {
        name: "q22",
        exercises: "splitting text",
        sink_columns: "auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, dir1 STRING, dir2 STRING, dir3 STRING",
        select: "SELECT auction, bidder, price, channel,
  SPLIT_INDEX(url, '/', 3) AS dir1, SPLIT_INDEX(url, '/', 4) AS dir2, SPLIT_INDEX(url, '/', 5) AS dir3
FROM bid",
    },
];

impl Query {
    /// A whole file: source, view, sink, INSERT.
    pub fn script(&self, data: &Path) -> String {
        format!(
            "{}\nCREATE TABLE dropped ({}) WITH ('connector' = 'blackhole');\n\nINSERT INTO dropped\n{};\n",
            source(data),
            self.sink_columns,
            self.select
        )
    }
}

/// A file whose trailing SELECT prints the number of bids in each window.
pub fn window_check_script(data: &Path) -> String {
    format!(
        "{}
SELECT window_start, window_end, COUNT(*) AS bids
FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(ts), INTERVAL '10' SECOND))
GROUP BY window_start, window_end;
",
        source(data)
    )
}

/// The table of nested rows and the view of its bids.
fn source(data: &Path) -> String {
    format!(
        "\
CREATE TABLE event (
  event_type INT,
  person ROW<id BIGINT, name STRING, emailAddress STRING, creditCard STRING, city STRING, state STRING,
             `dateTime` TIMESTAMP(3), extra STRING>,
  auction ROW<id BIGINT, itemName STRING, description STRING, initialBid BIGINT, reserve BIGINT,
              `dateTime` TIMESTAMP(3), expires TIMESTAMP(3), seller BIGINT, category BIGINT, extra STRING>,
  bid ROW<auction BIGINT, bidder BIGINT, price BIGINT, channel STRING, url STRING,
          `dateTime` TIMESTAMP(3), extra STRING>,
  ts AS CASE event_type WHEN 0 THEN person.`dateTime` WHEN 1 THEN auction.`dateTime` ELSE bid.`dateTime` END,
  WATERMARK FOR ts AS ts - INTERVAL '4' SECOND
) WITH ('connector' = 'filesystem', 'path' = {}, 'format' = 'json');

CREATE VIEW bid AS
SELECT bid.auction, bid.bidder, bid.price, bid.channel, bid.url, ts, bid.extra
FROM event WHERE event_type = 2;
",
        quoted(data)
    )
}

/// A path as a SQL string.
pub fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', "''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_one_source_one_view_one_sink_one_insert() {
        for query in QUERIES {
            let script = query.script(Path::new("/a/b"));
            assert_eq!(script.matches(';').count(), 4, "{}", query.name);
            assert!(script.contains("'path' = '/a/b'"), "{}", query.name);
        }
    }

    #[test]
    fn quotes_in_a_path_are_doubled() {
        assert_eq!(quoted(Path::new("/it's")), "'/it''s'");
    }
}
