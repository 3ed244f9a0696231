//! The clock: one value for all rows of a batch, never folded into a constant by the planner.

use datafusion::arrow::array::ArrayRef;
use datafusion::common::Result;

use super::arguments::Arguments;
use super::calendar::{MICROS_PER_DAY, local_of_micros};
use super::definition::{Changes, Definition, Kind, Returns, Run, define};
use super::sql_type::SqlType;
use super::time::moment_rows;

pub(super) fn definitions() -> Vec<Definition> {
    let moments: [(&'static str, SqlType, Run); 8] = [
        ("current_timestamp", SqlType::TimestampLtz(3), |args| at_clock(args, Part::Moment)),
        ("now", SqlType::TimestampLtz(3), |args| at_clock(args, Part::Moment)),
        ("current_row_timestamp", SqlType::TimestampLtz(3), |args| at_clock(args, Part::Moment)),
        ("proctime", SqlType::TimestampLtz(3), |args| at_clock(args, Part::Moment)),
        ("localtimestamp", SqlType::Timestamp(3), |args| at_clock(args, Part::Local)),
        ("current_date", SqlType::Date, |args| at_clock(args, Part::Local)),
        ("current_time", SqlType::Time(0), |args| at_clock(args, Part::TimeOfDay)),
        ("localtime", SqlType::Time(0), |args| at_clock(args, Part::TimeOfDay)),
    ];
    moments
        .into_iter()
        // A precision may be given, as in CURRENT_TIMESTAMP(3); the clock has milliseconds all the same.
        .map(|(name, sql_type, run)| {
            define(name, &[Kind::Integer], Returns::Sql(sql_type), run).optional(1).never_null().changes(Changes::PerBatch)
        })
        .collect()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// The moment itself.
    Moment,
    /// The date and time in the session's zone.
    Local,
    /// The time of day in the session's zone, in seconds.
    TimeOfDay,
}

fn at_clock(args: &Arguments, part: Part) -> Result<ArrayRef> {
    let micros = args.context.clock.wall_ms().saturating_mul(1_000);
    let local = || {
        local_of_micros(micros, Some(args.context.time_zone))
            .map(|local| local.and_utc().timestamp_micros())
            .ok_or_else(|| args.error("the clock is beyond the calendar"))
    };
    let value = match part {
        Part::Moment => micros,
        Part::Local => local()?,
        Part::TimeOfDay => {
            let time = local()?.rem_euclid(MICROS_PER_DAY);
            time - time % 1_000_000
        }
    };
    moment_rows(args, args.return_field.data_type(), |_| Ok(Some(value)))
}
