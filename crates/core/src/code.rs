//! The error codes. Each has a page `docs/errors/<code>.md`; a test checks that.

use std::fmt;

use serde::{Serialize, Serializer};

/// A stable name for a kind of finding, such as `TW0203`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Code(pub &'static str);

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl Serialize for Code {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

/// A code with a one-line title.
#[derive(Clone, Copy, Debug)]
pub struct CodeInfo {
    pub code: Code,
    pub title: &'static str,
}

macro_rules! codes {
    ($($name:ident = $code:literal, $title:literal;)*) => {
        impl Code {
            $(#[doc = $title] pub const $name: Code = Code($code);)*
        }

        /// Every code, in order.
        pub const CODES: &[CodeInfo] = &[$(CodeInfo { code: Code($code), title: $title },)*];
    };
}

codes! {
    SYNTAX = "TW0001", "the text is not SQL that Thalweg can read";
    NOT_YET = "TW0002", "a construct that is understood but does not run yet";
    TOO_COMPLEX = "TW0003", "the statement is too long or too deeply nested";
    UNKNOWN_VARIABLE = "TW0004", "a ${variable} has no value";
    UNKNOWN_SETTING = "TW0005", "a setting that does not exist";
    BAD_SETTING = "TW0006", "a setting has a value that it cannot take";
    NOT_IN_FLINK = "TW0007", "a construct that Flink refuses, and so do we";
    UNKNOWN_TABLE = "TW0101", "a table or view does not exist";
    UNKNOWN_COLUMN = "TW0102", "a column does not exist";
    UNKNOWN_FUNCTION = "TW0103", "a function does not exist";
    AMBIGUOUS_COLUMN = "TW0104", "a column name fits more than one input";
    DUPLICATE_NAME = "TW0105", "a name is used twice";
    TYPE_MISMATCH = "TW0106", "types do not fit together";
    BAD_ARGUMENTS = "TW0107", "a function is called with arguments that it cannot take";
    BAD_TYPE = "TW0108", "a data type that is unknown or out of range";
    BAD_GROUPING = "TW0109", "a column is neither grouped nor aggregated";
    TABLE_EXISTS = "TW0110", "a table or view exists already";
    BAD_TABLE = "TW0111", "a table declaration that contradicts itself";
    BAD_WATERMARK = "TW0201", "a watermark declaration that cannot work";
    BAD_WINDOW = "TW0202", "a window call with wrong arguments";
    WINDOW_NOT_MULTIPLE = "TW0203", "a window size is not a multiple of its slide or step";
    NO_TIME_ATTRIBUTE = "TW0204", "a window needs a time attribute";
    UNKNOWN_CONNECTOR = "TW0301", "a connector does not exist";
    UNKNOWN_OPTION = "TW0302", "a table option does not exist";
    BAD_OPTION = "TW0303", "a table option has a value that it cannot take";
    MISSING_OPTION = "TW0304", "a required table option is missing";
    UNKNOWN_FORMAT = "TW0305", "a format does not exist";
    NOT_A_SOURCE = "TW0306", "a table cannot be read";
    NOT_A_SINK = "TW0307", "a table cannot be written";
    UNKNOWN_METADATA = "TW0308", "a connector has no such metadata column";
    REFUSED_OPTION = "TW0309", "a client property that is not passed on for safety";
    SINK_SCHEMA = "TW0401", "a query does not fit the columns of its sink";
    SINK_CHANGELOG = "TW0402", "a sink cannot take the updates of its query";
    PLAN_CHANGED = "TW0501", "a checkpoint belongs to another plan";
    NEEDS_CHECKPOINTS = "TW0502", "exactly-once delivery needs a checkpoint directory";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_in_order_and_unique() {
        assert!(CODES.windows(2).all(|pair| pair[0].code < pair[1].code));
    }
}
