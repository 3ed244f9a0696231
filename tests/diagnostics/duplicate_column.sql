CREATE TABLE sales (
  id BIGINT,
  price DOUBLE,
  id STRING
) WITH ('connector' = 'blackhole');
