-- A visitor put something into a cart and did not order within half a minute: send the reminder now, not tomorrow.
--
-- One row per cart event that no order of the same cart followed, 30 to 31 seconds after it. The window of 31 seconds
-- begins anew every second; a cart event lies in the first second of exactly one of them, so it is reported once.

CREATE TABLE cart_events (
  cart_id STRING,
  user_id BIGINT,
  product STRING,
  price DECIMAL(10, 2),
  added_at TIMESTAMP(3),
  WATERMARK FOR added_at AS added_at - INTERVAL '2' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'cart_events',
  'properties.bootstrap.servers' = 'localhost:9092',
  'scan.startup.mode' = 'earliest-offset',
  'scan.watermark.idle-timeout' = '5 s',
  'format' = 'json'
);

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

CREATE TABLE abandoned_carts (
  cart_id STRING,
  user_id BIGINT,
  items BIGINT,
  cart_value DECIMAL(38, 2),
  added_at TIMESTAMP(3),
  noticed_at TIMESTAMP(3)
) WITH (
  'connector' = 'kafka',
  'topic' = 'abandoned_carts',
  'properties.bootstrap.servers' = 'localhost:9092',
  'format' = 'json',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'cart-abandonment'
);

CREATE VIEW shopping AS
SELECT cart_id, user_id, price, added_at AS carted_at, CAST(NULL AS TIMESTAMP(3)) AS bought_at, added_at AS happened_at
FROM cart_events
UNION ALL
SELECT cart_id, user_id, CAST(NULL AS DECIMAL(10, 2)), CAST(NULL AS TIMESTAMP(3)), CAST(ordered_at AS TIMESTAMP(3)), ordered_at
FROM orders;

INSERT INTO abandoned_carts
SELECT cart_id, user_id, COUNT(price) AS items, SUM(price) AS cart_value, MIN(carted_at) AS added_at, window_end AS noticed_at
FROM TABLE(HOP(TABLE shopping, DESCRIPTOR(happened_at), INTERVAL '1' SECOND, INTERVAL '31' SECOND))
GROUP BY cart_id, user_id, window_start, window_end
HAVING MIN(carted_at) < window_start + INTERVAL '1' SECOND
  AND (MAX(bought_at) IS NULL OR MAX(bought_at) < MIN(carted_at));
