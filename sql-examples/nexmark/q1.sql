-- Currency conversion: exact decimal arithmetic.
SELECT auction, bidder, 0.908 * price AS price, `dateTime`, extra
FROM bid;
