CREATE TABLE clicks (url STRING) WITH (
  'connector' = 'kafka',
  'topic' = 'clicks',
  'format' = 'json'
);

SELECT url FROM clicks;
