-- Bids with bidder and auction: a join of a join.
SELECT B.auction, B.bidder, B.price, B.channel, B.`dateTime`, P.name, P.city, P.state, A.itemName, A.category, A.expires
FROM bid AS B
JOIN person AS P ON B.bidder = P.id
JOIN auction AS A ON B.auction = A.id;
