CREATE TABLE clicks (url STRING) WITH (
  'topic' = 'clicks'
);

SELECT url FROM clicks;
