CREATE TABLE sales (id BIGINT) WITH ('connector' = 'blackhole');
CREATE TABLE sales (id BIGINT) WITH ('connector' = 'blackhole');
