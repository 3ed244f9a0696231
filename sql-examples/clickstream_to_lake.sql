-- Keep every page view for the analysts: Parquet files by day, complete or not there at all, each view exactly once.
--
-- Robots are left out on the way, and campaign visits get the name of their campaign.

CREATE TABLE page_views (
  view_id STRING,
  user_id BIGINT,
  url STRING,
  agent STRING,
  viewed_at TIMESTAMP(3),
  WATERMARK FOR viewed_at AS viewed_at - INTERVAL '2' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'page_views',
  'properties.bootstrap.servers' = 'localhost:9092',
  'scan.startup.mode' = 'earliest-offset',
  'scan.watermark.idle-timeout' = '5 s',
  'format' = 'json'
);

CREATE TABLE page_view_lake (
  view_id STRING,
  user_id BIGINT,
  page STRING,
  campaign STRING,
  viewed_at TIMESTAMP(3),
  `day` STRING
) PARTITIONED BY (`day`) WITH (
  'connector' = 'filesystem',
  'path' = '${LAKE}',
  'format' = 'parquet',
  'sink.rolling-policy.file-size' = '128 mb',
  'sink.rolling-policy.rollover-interval' = '1 min'
);

INSERT INTO page_view_lake
SELECT
  view_id,
  user_id,
  SPLIT_INDEX(url, '?', 0) AS page,
  REGEXP_EXTRACT(url, 'campaign=([a-z0-9_]+)', 1) AS campaign,
  viewed_at,
  DATE_FORMAT(viewed_at, 'yyyy-MM-dd') AS `day`
FROM page_views
WHERE agent <> 'robot';
