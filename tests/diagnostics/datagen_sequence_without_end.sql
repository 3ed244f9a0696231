CREATE TABLE numbers (n BIGINT) WITH (
  'connector' = 'datagen',
  'fields.n.kind' = 'sequence'
);

SELECT n FROM numbers;
