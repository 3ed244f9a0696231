-- A card that pays four times or more, or more than 1,000 in all, within five minutes: have a look before the goods leave.
--
-- The last five minutes are looked at every half minute, so a burst shows up within half a minute of its last payment.

CREATE TABLE payments (
  payment_id STRING,
  order_id STRING,
  card STRING,
  amount DECIMAL(10, 2),
  country STRING,
  paid_at TIMESTAMP(3),
  WATERMARK FOR paid_at AS paid_at - INTERVAL '2' SECOND
) WITH (
  'connector' = 'kafka',
  'topic' = 'payments',
  'properties.bootstrap.servers' = 'localhost:9092',
  'scan.startup.mode' = 'earliest-offset',
  'scan.watermark.idle-timeout' = '5 s',
  'format' = 'json'
);

CREATE TABLE suspicious_cards (
  card STRING,
  window_start TIMESTAMP(3),
  window_end TIMESTAMP(3),
  payments BIGINT,
  countries BIGINT,
  amount DECIMAL(38, 2)
) WITH (
  'connector' = 'kafka',
  'topic' = 'suspicious_cards',
  'properties.bootstrap.servers' = 'localhost:9092',
  'format' = 'json',
  'sink.delivery-guarantee' = 'exactly-once',
  'sink.transactional-id-prefix' = 'fraud-velocity'
);

INSERT INTO suspicious_cards
SELECT card, window_start, window_end, COUNT(*), COUNT(DISTINCT country), SUM(amount)
FROM TABLE(HOP(TABLE payments, DESCRIPTOR(paid_at), INTERVAL '30' SECOND, INTERVAL '5' MINUTE))
GROUP BY card, window_start, window_end
HAVING COUNT(*) >= 4 OR SUM(amount) > 1000;
