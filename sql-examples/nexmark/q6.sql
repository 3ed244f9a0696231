-- Average selling price by seller: over the last ten auctions that closed. Flink refuses this one, as its OVER takes no
-- input whose rows change; here each seller's auctions are in the order in which they expire.
SELECT seller, id, AVG(price) OVER (PARTITION BY seller ORDER BY expires, id ROWS BETWEEN 9 PRECEDING AND CURRENT ROW) AS final
FROM (
  SELECT A.id, A.seller, A.expires, B.price,
         ROW_NUMBER() OVER (PARTITION BY A.id ORDER BY B.price DESC, B.`dateTime` ASC) AS rownum
  FROM auction AS A, bid AS B
  WHERE A.id = B.auction AND B.`dateTime` BETWEEN A.`dateTime` AND A.expires
)
WHERE rownum <= 1;
