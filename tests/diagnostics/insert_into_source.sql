CREATE TABLE numbers (n BIGINT) WITH ('connector' = 'datagen');

INSERT INTO numbers SELECT n + 1 FROM numbers;
