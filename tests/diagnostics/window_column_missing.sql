CREATE TABLE clicks (
  user_id BIGINT,
  url STRING,
  amount DECIMAL(10, 2),
  at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'clicks',
  'properties.bootstrap.servers' = 'localhost:9092',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json'
);

CREATE TABLE counts (starts TIMESTAMP(3), clicks BIGINT) WITH (
  'connector' = 'filesystem',
  'path' = 'file:///tmp/counts',
  'format' = 'json'
);

INSERT INTO counts
SELECT window_start, COUNT(*)
FROM TABLE(TUMBLE(TABLE clicks, DESCRIPTOR(at), INTERVAL '1' MINUTE))
GROUP BY window_start;
