CREATE TABLE lake (url STRING) WITH (
  'connector' = 'filesystem',
  'format' = 'parquet'
);

SELECT url FROM lake;
