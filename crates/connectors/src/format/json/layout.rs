//! Finds the column of a field's name.

use std::collections::HashMap;

use super::scanner::{Scanner, SyntaxError};

/// Fields of one object whose places are remembered.
const REMEMBERED_MAX: usize = 256;

/// Names of a row's fields, and the order in which records lately had theirs.
///
/// Producers write an object's fields in the same order each time. So the names of the last record, wanted or not, are kept by
/// ordinal, and the next record's name is compared with the one remembered there before it is looked up: one comparison of
/// bytes a field, whatever the number of columns.
#[derive(Debug)]
pub struct Layout {
    columns: HashMap<String, usize>,
    remembered: Vec<Remembered>,
}

#[derive(Debug)]
struct Remembered {
    /// The name as it stands between its quotes; names with escapes are not remembered.
    raw: Vec<u8>,
    column: Option<usize>,
}

impl Layout {
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        let mut columns = HashMap::new();
        for (index, name) in names.enumerate() {
            columns.entry(name.to_string()).or_insert(index);
        }
        Layout { columns, remembered: vec![] }
    }

    /// Takes a name and gives its column, `None` for one that is not wanted. `ordinal` counts an object's fields; it is moved on.
    #[inline]
    pub fn take_name(
        &mut self,
        scanner: &mut Scanner<'_>,
        scratch: &mut String,
        ordinal: &mut usize,
    ) -> Result<Option<usize>, SyntaxError> {
        // The one after is tried too: records leave out optional fields.
        for candidate in *ordinal..*ordinal + 2 {
            if let Some(remembered) = self.remembered.get(candidate)
                && scanner.take_raw_string(&remembered.raw)
            {
                *ordinal = candidate + 1;
                return Ok(remembered.column);
            }
        }
        let start = scanner.position;
        let name = scanner.string(scratch)?;
        let column = self.columns.get(name).copied();
        // Between the quotes, the raw text of a name without escapes is the name.
        if *ordinal < REMEMBERED_MAX && scanner.position - start == name.len() + 2 {
            self.remember(*ordinal, name, column);
        }
        *ordinal += 1;
        Ok(column)
    }

    fn remember(&mut self, ordinal: usize, name: &str, column: Option<usize>) {
        if let Some(slot) = self.remembered.get_mut(ordinal) {
            slot.raw.clear();
            slot.raw.extend_from_slice(name.as_bytes());
            slot.column = column;
        } else if ordinal == self.remembered.len() {
            self.remembered.push(Remembered { raw: name.as_bytes().to_vec(), column });
        }
    }
}
