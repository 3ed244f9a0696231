CREATE TABLE sales (id BIGINT, price DOUBLE) WITH ('connector' = 'print');
INSERT INTO sales VALUES (1, 2.5), (2, 'three', 4);
