CREATE TABLE sales (
  id BIGINT,
  price DECIMAL(50, 2),
  note TEXT
) WITH ('connector' = 'blackhole');
