CREATE TABLE sales (
  id BIGINT,
  value DOUBLE,
  day STRING
) WITH ('connector' = 'blackhole');
