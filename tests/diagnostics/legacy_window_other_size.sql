CREATE TABLE clicks (
  user_id BIGINT,
  at TIMESTAMP(3),
  WATERMARK FOR at AS at - INTERVAL '5' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'clicks',
  'properties.bootstrap.servers' = 'localhost:9092',
  'scan.startup.mode' = 'earliest-offset',
  'format' = 'json'
);

SELECT user_id, TUMBLE_START(at, INTERVAL '5' MINUTE), COUNT(*)
FROM clicks
GROUP BY user_id, TUMBLE(at, INTERVAL '1' MINUTE);
