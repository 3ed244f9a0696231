//! The demo's shop: page views, carts, orders and payments, with the faults that real events have.

use thalweg_core::Rand;

/// One event, ready for its topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShopEvent {
    pub topic: &'static str,
    /// The record key; events of one key keep their order.
    pub key: String,
    pub value: String,
    /// When it arrives, in milliseconds; events come out of order because this trails the time inside them.
    pub arrives_ms: i64,
}

pub const TOPICS: &[&str] = &["page_views", "cart_events", "orders", "payments"];

const COUNTRIES: &[&str] = &["DE", "FR", "PL", "ES", "NL"];
const PRODUCTS: &[(&str, u64)] =
    &[("teapot", 2_490), ("cup", 790), ("kettle", 3_950), ("green tea", 1_290), ("honey", 650), ("tray", 1_850)];
const CAMPAIGNS: &[&str] = &["spring_sale", "newsletter", "tea_week"];

/// Makes events second by second; the same seed gives the same shop.
pub struct Shop<R: Rand> {
    rand: R,
    views_per_second: u64,
    next_id: u64,
}

impl<R: Rand> Shop<R> {
    pub fn new(rand: R, views_per_second: u64) -> Self {
        Shop { rand, views_per_second, next_id: 1 }
    }

    /// All that begins in the second at `second_ms`, in no order; what follows from it may arrive a minute later.
    ///
    /// About 1 view in 4 leads to a cart, 2 carts in 3 to an order within 25 s; 1 event in 50 is up to 2 s late in arriving,
    /// 1 in 200 up to 20 s (a late row), 1 in 100 arrives twice. One card a minute or so goes on a spree.
    pub fn second(&mut self, second_ms: i64) -> Vec<ShopEvent> {
        let mut events = vec![];
        for _ in 0..self.views_per_second {
            let at = second_ms + self.below(1_000);
            self.visit(at, &mut events);
        }
        if self.rand.below(60) == 0 {
            self.spree(second_ms, &mut events);
        }
        events
    }

    fn visit(&mut self, at: i64, events: &mut Vec<ShopEvent>) {
        let user = 1 + self.rand.below(500);
        let product = PRODUCTS[self.index(PRODUCTS.len())];
        let campaign = match self.rand.below(3) {
            0 => format!("?campaign={}", CAMPAIGNS[self.index(CAMPAIGNS.len())]),
            _ => String::new(),
        };
        let agent = if self.rand.below(20) == 0 { "robot" } else { "browser" };
        let view = self.id("v");
        let page = product.0.replace(' ', "-");
        let value = format!(
            r#"{{"view_id":"{view}","user_id":{user},"url":"/tea/{page}{campaign}","agent":"{agent}","viewed_at":"{}"}}"#,
            time_text(at)
        );
        self.send(events, "page_views", user.to_string(), value, at);
        if agent == "browser" && self.rand.below(4) == 0 {
            let cart_at = at + 1_000 + self.below(4_000);
            self.cart(user, product, cart_at, events);
        }
    }

    fn cart(&mut self, user: u64, product: (&str, u64), at: i64, events: &mut Vec<ShopEvent>) {
        let cart = self.id("c");
        let (name, cents) = product;
        let value = format!(
            r#"{{"cart_id":"{cart}","user_id":{user},"product":"{name}","price":{},"added_at":"{}"}}"#,
            money(cents),
            time_text(at)
        );
        self.send(events, "cart_events", cart.clone(), value, at);
        if self.rand.below(3) == 0 {
            return;
        }
        let ordered_at = at + 2_000 + self.below(23_000);
        let order = self.id("o");
        let country = COUNTRIES[self.index(COUNTRIES.len())];
        let total = cents * (1 + self.rand.below(3));
        let value = format!(
            r#"{{"order_id":"{order}","cart_id":"{cart}","user_id":{user},"country":"{country}","total":{},"ordered_at":"{}"}}"#,
            money(total),
            time_text(ordered_at)
        );
        self.send(events, "orders", cart, value, ordered_at);
        let card = format!("card-{user}");
        self.payment(&card, &order, total, country, ordered_at + 500, events);
    }

    fn spree(&mut self, at: i64, events: &mut Vec<ShopEvent>) {
        let card = format!("card-{}", 9_000 + self.rand.below(1_000));
        for payment in 0..5 {
            let order = self.id("o");
            let country = COUNTRIES[self.index(COUNTRIES.len())];
            let cents = 9_900 + self.rand.below(40_000);
            self.payment(&card, &order, cents, country, at + payment * 3_000, events);
        }
    }

    fn payment(&mut self, card: &str, order: &str, cents: u64, country: &str, at: i64, events: &mut Vec<ShopEvent>) {
        let payment = self.id("p");
        let value = format!(
            r#"{{"payment_id":"{payment}","order_id":"{order}","card":"{card}","amount":{},"country":"{country}","paid_at":"{}"}}"#,
            money(cents),
            time_text(at)
        );
        self.send(events, "payments", card.to_string(), value, at);
    }

    fn send(&mut self, events: &mut Vec<ShopEvent>, topic: &'static str, key: String, value: String, at: i64) {
        let delay = match self.rand.below(200) {
            0 => 2_000 + self.below(18_000),
            1..=4 => self.below(2_000),
            _ => self.below(100),
        };
        let event = ShopEvent { topic, key, value, arrives_ms: at + delay };
        if self.rand.below(100) == 0 {
            let again = event.arrives_ms + self.below(1_000);
            events.push(ShopEvent { arrives_ms: again, ..event.clone() });
        }
        events.push(event);
    }

    fn id(&mut self, kind: &str) -> String {
        self.next_id += 1;
        format!("{kind}{}", self.next_id)
    }

    fn index(&mut self, length: usize) -> usize {
        usize::try_from(self.rand.below(length as u64)).expect("lists are short")
    }

    fn below(&mut self, bound: u64) -> i64 {
        i64::try_from(self.rand.below(bound)).expect("bounds are small")
    }
}

fn money(cents: u64) -> String {
    format!("{}.{:02}", cents / 100, cents % 100)
}

fn time_text(ms: i64) -> String {
    chrono::DateTime::from_timestamp_millis(ms)
        .expect("the demo lives in this millennium")
        .format("%Y-%m-%d %H:%M:%S%.3f")
        .to_string()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use thalweg_core::SeededRand;

    use super::*;

    #[test]
    fn the_shop_is_lively_and_repeatable() {
        let make = || {
            let mut shop = Shop::new(SeededRand::new(1), 20);
            (0..120).flat_map(|second| shop.second(1_000_000 + second * 1_000)).collect::<Vec<_>>()
        };
        let events = make();
        assert_eq!(events, make());
        let mut by_topic: BTreeMap<&str, usize> = BTreeMap::new();
        for event in &events {
            *by_topic.entry(event.topic).or_default() += 1;
        }
        assert_eq!(by_topic.keys().copied().collect::<Vec<_>>(), ["cart_events", "orders", "page_views", "payments"]);
        assert!(by_topic["orders"] > 100 && by_topic["cart_events"] > by_topic["orders"]);
    }
}
