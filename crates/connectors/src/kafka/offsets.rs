//! Where reading of a Kafka partition starts and ends: options to numbers, by asking the cluster.

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use thalweg_core::{Position, ReadMode, Result};

use super::client::{QUESTION_TIMEOUT, Reports, kafka_error, offset_range};
use super::table::{OffsetReset, Place, ScanTable};

/// What is in front of the end offset in [`Position::detail`]: a bounded scan keeps its end over restarts, as Flink's does.
const END_DETAIL: &str = "end=";

/// The part of a partition that a run reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub start: i64,
    /// Excluded; `None` is never.
    pub end: Option<i64>,
    /// The end that [`Position::detail`] keeps: the declared one, not that of a run until caught up.
    pub declared_end: Option<i64>,
}

impl Range {
    pub fn position(&self, next: i64) -> Position {
        Position { next, detail: self.declared_end.map(|end| format!("{END_DETAIL}{end}")) }
    }
}

/// The end that a position of an earlier run carries.
pub fn kept_end(position: &Position) -> Option<i64> {
    position.detail.as_deref()?.strip_prefix(END_DETAIL)?.parse().ok()
}

/// Answers the questions about one cluster, or about embedded topics.
pub trait Offsets {
    /// The first offset, and the end of what is committed.
    fn range(&self, topic: &str, partition: i32) -> Result<(i64, i64)>;
    /// The first record at or after `timestamp_ms`, or the end.
    fn at_timestamp(&self, topic: &str, partition: i32, timestamp_ms: i64) -> Result<i64>;
    /// What the table's consumer group committed.
    fn of_group(&self, topic: &str, partition: i32) -> Result<Option<i64>>;
}

/// Start and end for a partition. `position` is where an earlier run stopped; `is_late` says that the partition was found
/// while the job ran, so that all of it is new.
pub fn resolve(
    table: &ScanTable,
    offsets: &dyn Offsets,
    (topic, partition): (&str, i32),
    position: Option<&Position>,
    is_late: bool,
) -> Result<Range> {
    let start = match position {
        Some(position) => position.next,
        None if is_late => offsets.range(topic, partition)?.0,
        None => place(table, offsets, topic, partition, &table.startup, true)?,
    };
    let declared_end = match (&table.bounded, position.and_then(kept_end)) {
        (None, _) => None,
        (Some(_), Some(kept)) => Some(kept),
        (Some(bounded), None) => Some(place(table, offsets, topic, partition, bounded, false)?),
    };
    let caught_up = match table.mode {
        ReadMode::AsDeclared => None,
        ReadMode::UntilCaughtUp => Some(offsets.range(topic, partition)?.1),
    };
    let end = match (declared_end, caught_up) {
        (Some(declared), Some(caught_up)) => Some(declared.min(caught_up)),
        (declared, caught_up) => declared.or(caught_up),
    };
    Ok(Range { start, end, declared_end })
}

fn place(table: &ScanTable, offsets: &dyn Offsets, topic: &str, partition: i32, place: &Place, is_start: bool) -> Result<i64> {
    Ok(match place {
        Place::Earliest => offsets.range(topic, partition)?.0,
        Place::Latest => offsets.range(topic, partition)?.1,
        Place::Timestamp(timestamp_ms) => offsets.at_timestamp(topic, partition, *timestamp_ms)?,
        // As in Flink: partitions without an entry start at the group's offset, and end at the latest one.
        Place::Offsets(by_partition) => match by_partition.get(&partition) {
            Some(offset) => *offset,
            None if is_start => group(table, offsets, topic, partition)?,
            None => offsets.range(topic, partition)?.1,
        },
        Place::Group => group(table, offsets, topic, partition)?,
    })
}

fn group(table: &ScanTable, offsets: &dyn Offsets, topic: &str, partition: i32) -> Result<i64> {
    if let Some(offset) = offsets.of_group(topic, partition)? {
        return Ok(offset);
    }
    match table.reset {
        OffsetReset::Earliest => Ok(offsets.range(topic, partition)?.0),
        OffsetReset::Latest => Ok(offsets.range(topic, partition)?.1),
        OffsetReset::Fail => Err(table.no_group_offset(topic, partition)),
    }
}

/// The answers of a cluster.
pub struct ClusterOffsets<'a> {
    pub client: &'a BaseConsumer<Reports>,
    pub table: &'a ScanTable,
}

impl ClusterOffsets<'_> {
    fn one(&self, topic: &str, partition: i32, offset: i64) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(topic, partition, Offset::Offset(offset.max(0)))
            .map_err(|error| kafka_error(&format!("name topic {topic} partition {partition}"), error))?;
        Ok(list)
    }
}

impl Offsets for ClusterOffsets<'_> {
    fn range(&self, topic: &str, partition: i32) -> Result<(i64, i64)> {
        offset_range(self.client, &self.table.options, topic, partition)
    }

    fn at_timestamp(&self, topic: &str, partition: i32, timestamp_ms: i64) -> Result<i64> {
        let list = self.one(topic, partition, timestamp_ms)?;
        let action = format!("look up a timestamp in topic {topic} partition {partition}");
        let found = self.client.offsets_for_times(list, QUESTION_TIMEOUT).map_err(|error| kafka_error(&action, error))?;
        match found.elements().first().map(|element| (element.error(), element.offset())) {
            Some((Err(error), _)) => Err(kafka_error(&action, error)),
            Some((Ok(()), Offset::Offset(offset))) => Ok(offset),
            // No record is that young.
            _ => Ok(self.range(topic, partition)?.1),
        }
    }

    fn of_group(&self, topic: &str, partition: i32) -> Result<Option<i64>> {
        let list = self.one(topic, partition, 0)?;
        let action = format!("read the offsets of consumer group \"{}\"", self.table.effective_group_id());
        let found = self.client.committed_offsets(list, QUESTION_TIMEOUT).map_err(|error| kafka_error(&action, error))?;
        match found.elements().first().map(|element| (element.error(), element.offset())) {
            Some((Err(error), _)) => Err(kafka_error(&action, error)),
            Some((Ok(()), Offset::Offset(offset))) => Ok(Some(offset)),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use thalweg_core::{ManualClock, Options, ScanRequest};

    use super::*;

    /// A partition with the offsets 10..20, of which a group has read up to 15.
    struct Fixed {
        committed: Option<i64>,
    }

    impl Offsets for Fixed {
        fn range(&self, _: &str, _: i32) -> Result<(i64, i64)> {
            Ok((10, 20))
        }
        fn at_timestamp(&self, _: &str, _: i32, timestamp_ms: i64) -> Result<i64> {
            Ok(timestamp_ms.clamp(10, 20))
        }
        fn of_group(&self, _: &str, _: i32) -> Result<Option<i64>> {
            Ok(self.committed)
        }
    }

    fn table(pairs: &[(&str, &str)], mode: ReadMode) -> ScanTable {
        let mut options = Options::new();
        for (name, value) in [("topic", "orders"), ("format", "json")].iter().chain(pairs) {
            options.insert(*name, *value);
        }
        let request = ScanRequest {
            table: "orders".to_string(),
            options,
            fields: vec![],
            physical_schema: Arc::new(Schema::empty()),
            partitioned_by: vec![],
            primary_key: vec![],
            time_zone: "UTC".to_string(),
            mode,
            clock: Arc::new(ManualClock::default()),
        };
        ScanTable::from_scan(&request, Arc::new(|_, _, _, _, _| unreachable!("nothing is decoded"))).expect("a good table")
    }

    fn check(pairs: &[(&str, &str)], mode: ReadMode, position: Option<Position>, expected: Option<(i64, Option<i64>)>) {
        let range = resolve(&table(pairs, mode), &Fixed { committed: Some(15) }, ("orders", 0), position.as_ref(), false);
        assert_eq!(range.ok().map(|range| (range.start, range.end)), expected, "{pairs:?}");
    }

    #[test]
    fn modes() {
        let earliest = ("scan.startup.mode", "earliest-offset");
        check(&[earliest], ReadMode::AsDeclared, None, Some((10, None)));
        check(&[earliest], ReadMode::UntilCaughtUp, None, Some((10, Some(20))));
        check(&[("scan.startup.mode", "latest-offset")], ReadMode::AsDeclared, None, Some((20, None)));
        check(&[], ReadMode::AsDeclared, None, Some((15, None)));
        check(
            &[("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "12")],
            ReadMode::AsDeclared,
            None,
            Some((12, None)),
        );
        check(
            &[("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", "partition:0,offset:11")],
            ReadMode::AsDeclared,
            None,
            Some((11, None)),
        );
        check(&[earliest, ("scan.bounded.mode", "latest-offset")], ReadMode::AsDeclared, None, Some((10, Some(20))));
        check(&[earliest, ("scan.bounded.mode", "group-offsets")], ReadMode::UntilCaughtUp, None, Some((10, Some(15))));
    }

    #[test]
    fn positions_win_and_a_bounded_end_is_kept() {
        let earliest = ("scan.startup.mode", "earliest-offset");
        check(&[earliest], ReadMode::AsDeclared, Some(Position::at(17)), Some((17, None)));
        let kept = Position { next: 12, detail: Some("end=14".to_string()) };
        check(&[earliest, ("scan.bounded.mode", "latest-offset")], ReadMode::AsDeclared, Some(kept), Some((12, Some(14))));
        let range = Range { start: 0, end: Some(14), declared_end: Some(14) };
        assert_eq!(kept_end(&range.position(3)), Some(14));
    }

    #[test]
    fn without_a_committed_offset_the_reset_rule_decides() {
        let nothing = Fixed { committed: None };
        let start = |pairs: &[(&str, &str)]| {
            resolve(&table(pairs, ReadMode::AsDeclared), &nothing, ("orders", 0), None, false).map(|range| range.start)
        };
        assert_eq!(start(&[("properties.auto.offset.reset", "earliest")]).ok(), Some(10));
        assert_eq!(start(&[("properties.auto.offset.reset", "latest")]).ok(), Some(20));
        let error = start(&[]).expect_err("Flink fails here too");
        assert!(error.help.expect("has help").contains("earliest-offset"));
        // A partition found while the job runs is read from its first record.
        let late = resolve(&table(&[], ReadMode::AsDeclared), &nothing, ("orders", 9), None, true).expect("needs no group");
        assert_eq!(late.start, 10);
    }
}
