-- Pass through: the cost of reading and decoding.
SELECT auction, bidder, price, `dateTime`, extra
FROM bid;
