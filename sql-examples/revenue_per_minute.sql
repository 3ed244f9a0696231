-- What did we sell in each minute, by country, and to how many different customers?
--
-- A minute is reported once, when it is certain: two seconds after its end by the clock of the orders themselves.

CREATE TABLE orders (
  order_id STRING,
  cart_id STRING,
  user_id BIGINT,
  country STRING,
  total DECIMAL(10, 2),
  ordered_at TIMESTAMP(3),
  WATERMARK FOR ordered_at AS ordered_at - INTERVAL '2' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'orders',
  'properties.bootstrap.servers' = 'localhost:9092',
  'scan.startup.mode' = 'earliest-offset',
  'scan.watermark.idle-timeout' = '5 s',
  'format' = 'json'
);

CREATE TABLE revenue_per_minute (
  minute_start TIMESTAMP(3),
  country STRING,
  orders BIGINT,
  customers BIGINT,
  revenue DECIMAL(38, 2),
  largest_order DECIMAL(10, 2)
) WITH (
  'connector' = 'kafka',
  'topic' = 'revenue_per_minute',
  'properties.bootstrap.servers' = 'localhost:9092',
  'format' = 'json',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'revenue-per-minute'
);

INSERT INTO revenue_per_minute
SELECT window_start, country, COUNT(*), COUNT(DISTINCT user_id), SUM(total), MAX(total)
FROM TABLE(TUMBLE(TABLE orders, DESCRIPTOR(ordered_at), INTERVAL '1' MINUTE))
GROUP BY country, window_start, window_end;
