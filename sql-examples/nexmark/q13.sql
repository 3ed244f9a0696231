-- Bounded side input: each bid with what a small table has for its auction when the bid comes by.
CREATE TABLE side_input (
  key BIGINT,
  `value` STRING
) WITH ('connector' = 'filesystem', 'path' = '${NEXMARK_SIDE_INPUT}', 'format' = 'csv');

CREATE VIEW bid_by_clock AS
SELECT *, PROCTIME() AS p_time FROM bid;

SELECT B.auction, B.bidder, B.price, B.`dateTime`, S.`value`
FROM bid_by_clock AS B
JOIN side_input FOR SYSTEM_TIME AS OF B.p_time AS S ON MOD(B.auction, 10000) = S.key;
