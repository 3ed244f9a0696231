//! Nexmark events as JSON lines, from a seed.
//!
//! The model is that of the reference generator (github.com/nexmark/nexmark): persons, auctions and bids 1 : 3 : 46, hot keys,
//! log-uniform prices, rows padded to 200, 500 and 100 bytes. One line holds one event: a type and three nested rows, two of
//! them null. Event time runs at [`EVENTS_PER_SECOND`]; each event is up to [`JITTER_MS_MAX`] older than its place in the
//! stream, which the queries' watermark of 4 s more than covers, so nothing is late.

use std::fmt::{self, Write};

use thalweg_core::{EventTime, Rand, SeededRand};

/// 2026-01-01 00:00:00 UTC.
pub const BASE_MS: i64 = 1_767_225_600_000;
pub const EVENTS_PER_SECOND: i64 = 10_000;
pub const JITTER_MS_MAX: u64 = 1_000;

const PERSONS: i64 = 1;
const AUCTIONS: i64 = 3;
const BIDS: i64 = 46;
const ROUND: i64 = PERSONS + AUCTIONS + BIDS;

/// The first person and the first auction.
const FIRST_ID: i64 = 1_000;
const FIRST_CATEGORY: u64 = 10;
const CATEGORIES: u64 = 5;
const AUCTIONS_IN_FLIGHT: i64 = 100;
const ACTIVE_PERSONS: i64 = 1_000;
/// Bids and auctions may name this many persons and auctions that come only later.
const LEAD: i64 = 10;
/// The hot one is the first of so many.
const HOT_BATCH: i64 = 100;
/// An auction is open for up to twice the time in which [`AUCTIONS_IN_FLIGHT`] more begin.
const AUCTION_MS_MAX: u64 = (AUCTIONS_IN_FLIGHT * ROUND / AUCTIONS * 1_000 / EVENTS_PER_SECOND * 2) as u64;
const CHANNELS: u64 = 10_000;

const STATES: [&str; 6] = ["AZ", "CA", "ID", "OR", "WA", "WY"];
const CITIES: [&str; 10] =
    ["Phoenix", "Los Angeles", "San Francisco", "Boise", "Portland", "Bend", "Redmond", "Seattle", "Kent", "Cheyenne"];
const GIVEN_NAMES: [&str; 11] = ["Ada", "Bo", "Cy", "Dee", "Eli", "Flo", "Gus", "Hal", "Ivy", "Jo", "Kit"];
const FAMILY_NAMES: [&str; 9] = ["Ash", "Birch", "Cedar", "Elm", "Fir", "Hazel", "Maple", "Oak", "Pine"];
const HOT_CHANNELS: [&str; 4] = ["Google", "Facebook", "Baidu", "Apple"];

/// The number of bids among the first `events` events.
pub fn bids_in(events: u64) -> u64 {
    let (round, before_bids) = (ROUND as u64, (PERSONS + AUCTIONS) as u64);
    events / round * BIDS as u64 + (events % round).saturating_sub(before_bids)
}

pub struct Generator {
    chance: Chance,
    letters: Letters,
    hot_urls: Vec<String>,
    channels: Vec<(String, String)>,
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        let mut chance = Chance(SeededRand::new(seed));
        let letters = Letters::new(&mut chance);
        let hot_urls = HOT_CHANNELS.iter().map(|_| letters.url(&mut chance)).collect();
        let channels = (0..CHANNELS)
            .map(|number| {
                let mut url = letters.url(&mut chance);
                if chance.unit() < 0.9 {
                    url.push_str(&format!("&channel_id={}", number * 2_654_435_761 % (1 << 31)));
                }
                (format!("channel-{number}"), url)
            })
            .collect();
        Generator { chance, letters, hot_urls, channels }
    }

    /// Appends the event and a line feed. Events must be asked for in order from 0: the state of the generator moves on.
    pub fn write_event(&mut self, number: u64, line: &mut String) -> fmt::Result {
        let number = number as i64;
        let at_ms = BASE_MS + number * 1_000 / EVENTS_PER_SECOND - self.chance.below(JITTER_MS_MAX) as i64;
        match number % ROUND {
            place if place < PERSONS => self.write_person(number, at_ms, line),
            place if place < PERSONS + AUCTIONS => self.write_auction(number, at_ms, line),
            _ => self.write_bid(number, at_ms, line),
        }
    }

    fn write_person(&mut self, number: i64, at_ms: i64, line: &mut String) -> fmt::Result {
        let (chance, letters) = (&mut self.chance, &self.letters);
        write!(line, r#"{{"event_type":0,"person":{{"id":{}"#, FIRST_ID + last_person(number))?;
        write!(line, r#","name":"{} {}""#, chance.one_of(&GIVEN_NAMES), chance.one_of(&FAMILY_NAMES))?;
        write!(line, r#","emailAddress":"{}@{}.com""#, letters.some(chance, 5), letters.some(chance, 4))?;
        let mut card = || chance.below(10_000);
        write!(line, r#","creditCard":"{:04} {:04} {:04} {:04}""#, card(), card(), card(), card())?;
        write!(line, r#","city":"{}","state":"{}""#, chance.one_of(&CITIES), chance.one_of(&STATES))?;
        write!(line, r#","dateTime":"{}","extra":"{}""#, EventTime(at_ms), letters.padding(chance, 60, 200))?;
        line.push_str("},\"auction\":null,\"bid\":null}\n");
        Ok(())
    }

    fn write_auction(&mut self, number: i64, at_ms: i64, line: &mut String) -> fmt::Result {
        let (chance, letters) = (&mut self.chance, &self.letters);
        let seller = match chance.unit() >= 0.25 {
            true => hot(last_person(number)),
            false => any_person(chance, number),
        };
        let initial_bid = chance.price();
        let reserve = initial_bid + chance.price();
        let expires_ms = at_ms + 1 + chance.below(AUCTION_MS_MAX) as i64;
        write!(line, r#"{{"event_type":1,"person":null,"auction":{{"id":{}"#, FIRST_ID + last_auction(number))?;
        write!(line, r#","itemName":"{}","description":"{}""#, letters.some(chance, 11), letters.some(chance, 50))?;
        write!(line, r#","initialBid":{initial_bid},"reserve":{reserve}"#)?;
        write!(line, r#","dateTime":"{}","expires":"{}""#, EventTime(at_ms), EventTime(expires_ms))?;
        write!(line, r#","seller":{},"category":{}"#, FIRST_ID + seller, FIRST_CATEGORY + chance.below(CATEGORIES))?;
        write!(line, r#","extra":"{}""#, letters.padding(chance, 110, 500))?;
        line.push_str("},\"bid\":null}\n");
        Ok(())
    }

    fn write_bid(&mut self, number: i64, at_ms: i64, line: &mut String) -> fmt::Result {
        let (chance, letters) = (&mut self.chance, &self.letters);
        let auction = match chance.unit() >= 0.5 {
            true => hot(last_auction(number)),
            false => any_auction(chance, number),
        };
        let bidder = match chance.unit() >= 0.25 {
            true => hot(last_person(number)) + 1,
            false => any_person(chance, number),
        };
        let (channel, url) = if chance.unit() < 0.5 {
            let index = chance.below(HOT_CHANNELS.len() as u64) as usize;
            (HOT_CHANNELS[index], self.hot_urls[index].as_str())
        } else {
            let (channel, url) = &self.channels[chance.below(CHANNELS) as usize];
            (channel.as_str(), url.as_str())
        };
        write!(line, r#"{{"event_type":2,"person":null,"auction":null,"bid":{{"auction":{}"#, FIRST_ID + auction)?;
        write!(line, r#","bidder":{},"price":{}"#, FIRST_ID + bidder, chance.price())?;
        write!(line, r#","channel":"{channel}","url":"{url}""#)?;
        write!(line, r#","dateTime":"{}","extra":"{}"}}}}"#, EventTime(at_ms), letters.padding(chance, 32, 100))?;
        line.push('\n');
        Ok(())
    }
}

/// The newest person when event `number` happens, counted from 0.
fn last_person(number: i64) -> i64 {
    number / ROUND * PERSONS + (number % ROUND).min(PERSONS - 1)
}

/// The newest auction when event `number` happens, counted from 0; -1 before the first.
fn last_auction(number: i64) -> i64 {
    let (round, place) = (number / ROUND, number % ROUND);
    if place < PERSONS { round * AUCTIONS - 1 } else { round * AUCTIONS + (place - PERSONS).min(AUCTIONS - 1) }
}

fn hot(last: i64) -> i64 {
    last / HOT_BATCH * HOT_BATCH
}

fn any_person(chance: &mut Chance, number: i64) -> i64 {
    let persons = last_person(number) + 1;
    let active = persons.min(ACTIVE_PERSONS);
    persons - active + chance.below((active + LEAD) as u64) as i64
}

fn any_auction(chance: &mut Chance, number: i64) -> i64 {
    let newest = last_auction(number);
    let oldest = (newest - AUCTIONS_IN_FLIGHT).max(0);
    oldest + chance.below((newest - oldest + 1 + LEAD) as u64) as i64
}

struct Chance(SeededRand);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// A number in `0.0..1.0`, from the upper 53 bits.
    fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn one_of(&mut self, words: &[&'static str]) -> &'static str {
        words[self.below(words.len() as u64) as usize]
    }

    /// 100 to 100,000,000; the logarithm is uniform.
    fn price(&mut self) -> i64 {
        (10_f64.powf(self.unit() * 6.0) * 100.0).round() as i64
    }
}

/// Random text is cut out of one long random text, which is much faster than drawing each letter.
struct Letters(String);

impl Letters {
    const LENGTH: u64 = 1 << 18;

    fn new(chance: &mut Chance) -> Self {
        Letters((0..Self::LENGTH).map(|_| char::from(b'a' + chance.below(26) as u8)).collect())
    }

    fn some(&self, chance: &mut Chance, length: u64) -> &str {
        let start = chance.below(Self::LENGTH - length) as usize;
        &self.0[start..start + length as usize]
    }

    /// What brings a row of `present` bytes to `wanted` ones on average, within a fifth of the difference.
    fn padding(&self, chance: &mut Chance, present: u64, wanted: u64) -> &str {
        let missing = wanted - present;
        let spread = (missing as f64 * 0.2).round() as u64;
        let length = missing - spread + chance.below(2 * spread);
        self.some(chance, length)
    }

    fn url(&self, chance: &mut Chance) -> String {
        let mut part = || self.some(chance, 4);
        format!("https://www.nexmark.example/{}/{}/{}/item.htm?query=1", part(), part(), part())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const EVENTS: u64 = 20_000;

    fn text(seed: u64, events: u64) -> String {
        let mut generator = Generator::new(seed);
        let mut text = String::new();
        for number in 0..events {
            generator.write_event(number, &mut text).expect("writing to a string");
        }
        text
    }

    fn rows(seed: u64, events: u64) -> Vec<Value> {
        text(seed, events).lines().map(|line| serde_json::from_str(line).expect("one JSON object a line")).collect()
    }

    fn share<'a>(rows: &[&'a Value], predicate: impl Fn(&'a Value) -> bool) -> f64 {
        rows.iter().filter(|row| predicate(row)).count() as f64 / rows.len() as f64
    }

    fn check_near(actual: f64, expected: f64, tolerance: f64, what: &str) {
        assert!((actual - expected).abs() <= tolerance, "{what}: {actual}, expected {expected} within {tolerance}");
    }

    #[test]
    fn one_seed_one_text() {
        assert_eq!(text(1, 1_000), text(1, 1_000));
        assert_ne!(text(1, 1_000), text(2, 1_000));
    }

    #[test]
    fn persons_auctions_and_bids_are_1_to_3_to_46() {
        let names = ["person", "auction", "bid"];
        let mut counts = [0_u64; 3];
        for row in rows(1, EVENTS) {
            let kind = row["event_type"].as_u64().expect("a number") as usize;
            counts[kind] += 1;
            for (index, name) in names.iter().enumerate() {
                assert_eq!(row[name].is_object(), index == kind, "{row}");
                assert_eq!(row[name].is_null(), index != kind, "{row}");
            }
        }
        assert_eq!(counts, [400, 1_200, 18_400]);
        assert_eq!(bids_in(EVENTS), 18_400);
    }

    #[test]
    fn bids_are_counted_within_a_round() {
        for (events, bids) in [(0, 0), (3, 0), (4, 0), (5, 1), (50, 46), (54, 46), (55, 47)] {
            assert_eq!(bids_in(events), bids, "{events} events");
            assert_eq!(rows(1, events).iter().filter(|row| row["event_type"] == 2).count() as u64, bids, "{events} events");
        }
    }

    #[test]
    fn keys_and_prices_are_as_hot_as_in_the_model() {
        let rows = rows(1, EVENTS);
        let bids: Vec<&Value> = rows.iter().map(|row| &row["bid"]).filter(|bid| bid.is_object()).collect();
        let price = |bid: &Value| bid["price"].as_i64().expect("a number");
        // A hundredth of the other half may meet the hot auction by chance.
        check_near(share(&bids, |bid| bid["auction"].as_i64().expect("a number") % 100 == 0), 0.5, 0.03, "hot auction");
        check_near(share(&bids, |bid| bid["bidder"].as_i64().expect("a number") % 100 == 1), 0.75, 0.03, "hot bidder");
        check_near(share(&bids, |bid| HOT_CHANNELS.contains(&bid["channel"].as_str().expect("text"))), 0.5, 0.02, "hot channel");
        check_near(share(&bids, |bid| price(bid) < 10_000), 1.0 / 3.0, 0.02, "small prices");
        check_near(share(&bids, |bid| price(bid) >= 1_000_000), 1.0 / 3.0, 0.02, "large prices");
        assert!(bids.iter().all(|bid| (100..=100_000_000).contains(&price(bid))));
    }

    #[test]
    fn a_million_events_are_about_338_megabytes() {
        check_near(text(1, EVENTS).len() as f64 / EVENTS as f64, 338.0, 10.0, "bytes an event");
    }

    #[test]
    fn event_time_follows_the_place_in_the_stream() {
        for (number, row) in rows(1, EVENTS).iter().enumerate() {
            let kind = ["person", "auction", "bid"][row["event_type"].as_u64().expect("a number") as usize];
            let latest = BASE_MS + number as i64 * 1_000 / EVENTS_PER_SECOND;
            // The text sorts as the time does.
            let (earliest, latest) = (EventTime(latest - JITTER_MS_MAX as i64).to_string(), EventTime(latest).to_string());
            let at = row[kind]["dateTime"].as_str().expect("text");
            assert!(*earliest < *at && *at <= *latest, "event {number} at {at}");
        }
    }

    #[test]
    fn the_fields_of_a_bid_are_in_the_order_of_the_table() {
        let text = text(1, 5);
        let bid = text.lines().last().expect("five lines");
        let mut rest = bid;
        for field in
            ["event_type", "person", "auction", "bid", "auction", "bidder", "price", "channel", "url", "dateTime", "extra"]
        {
            let quoted = format!("\"{field}\":");
            let at = rest.find(&quoted).unwrap_or_else(|| panic!("no {field} in its place in {bid}"));
            rest = &rest[at + quoted.len()..];
        }
    }
}
