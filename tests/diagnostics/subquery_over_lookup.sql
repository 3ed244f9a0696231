CREATE TABLE clicks (
  user_id BIGINT,
  seen AS PROCTIME()
) WITH ('connector' = 'filesystem', 'path' = 'clicks', 'format' = 'json');

CREATE TABLE users (
  id BIGINT,
  age INT
) WITH ('connector' = 'filesystem', 'path' = 'users', 'format' = 'json');

SELECT user_id, (SELECT COUNT(*) FROM users AS other WHERE other.age < c.age) AS younger
FROM (SELECT user_id, age FROM clicks JOIN users FOR SYSTEM_TIME AS OF clicks.seen ON users.id = clicks.user_id) AS c;
