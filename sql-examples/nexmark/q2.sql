-- Selection: few auctions of many.
SELECT auction, price
FROM bid
WHERE MOD(auction, 123) = 0;
