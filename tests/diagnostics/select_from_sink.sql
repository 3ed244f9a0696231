CREATE TABLE output (n BIGINT) WITH ('connector' = 'print');

SELECT n FROM output;
