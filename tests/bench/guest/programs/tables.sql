-- Inserts, an index, joins, aggregates, updates, text search: all in memory.
PRAGMA temp_store = memory;
CREATE TABLE item(id INTEGER PRIMARY KEY, kind INTEGER, name TEXT, price REAL);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 25000)
  INSERT INTO item SELECT i, (i * 7919) % 97, 'item ' || (i * 31 % 10007), i * 0.25 FROM n;
CREATE INDEX item_name ON item(name);
SELECT kind, count(*), round(sum(price), 2) FROM item GROUP BY kind ORDER BY 3 DESC LIMIT 5;
SELECT count(*) FROM item a JOIN item b ON a.name = b.name WHERE a.id < b.id;
UPDATE item SET price = price * 1.1 WHERE kind % 3 = 0;
DELETE FROM item WHERE name LIKE '%77%';
SELECT count(*), round(sum(price), 2), max(name) FROM item;
