CREATE TABLE sales (
  id BIGINT,
  PRIMARY KEY (id)
) WITH ('connector' = 'blackhole');
