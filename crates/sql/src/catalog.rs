//! The tables and views of a session. Names keep their case and share one namespace.

pub(crate) mod like;
pub(crate) mod resolve;
pub(crate) mod validate;

use indexmap::IndexMap;

use datafusion::sql::sqlparser::ast;
use thalweg_core::{Code, Diagnostic, Registry, SourceText, Span, TableDefinition};

use crate::statement::{Drop, Name};

/// The catalog that Flink's names may begin with; there is no other.
pub const DEFAULT_CATALOG: &str = "default_catalog";
/// The database that Flink's names may begin with; there is no other.
pub const DEFAULT_DATABASE: &str = "default_database";

/// The name of a table without the default catalog and database; `None` for a name in another one.
pub fn base_name<'a>(parts: &[&'a str]) -> Option<&'a str> {
    match parts {
        [name] | [DEFAULT_DATABASE, name] | [DEFAULT_CATALOG, DEFAULT_DATABASE, name] => Some(name),
        _ => None,
    }
}

/// [`base_name`] of a name in a query.
pub fn base_name_of(name: &ast::ObjectName) -> Option<&str> {
    let parts: Option<Vec<&str>> = name.0.iter().map(|part| part.as_ident().map(|ident| ident.value.as_str())).collect();
    base_name(&parts?)
}

/// A declared table.
#[derive(Clone, Debug)]
pub struct CatalogTable {
    pub definition: TableDefinition,
    /// The text that the spans of the definition point into.
    pub source: SourceText,
    /// What is missing before the table can be read or written. A table without it may still serve as a pattern for LIKE,
    /// so it is reported at the first use.
    pub missing: Vec<Diagnostic>,
}

/// A view: a query with a name.
#[derive(Clone, Debug)]
pub struct CatalogView {
    pub name: String,
    /// Names that replace those of the query; empty when its own are used.
    pub columns: Vec<String>,
    pub query: Box<ast::Query>,
    pub query_text: String,
    pub comment: Option<String>,
    pub temporary: bool,
    pub span: Span,
    /// The text that the spans of the query point into.
    pub source: SourceText,
}

#[derive(Clone, Debug)]
enum Entry {
    Table(Box<CatalogTable>),
    View(Box<CatalogView>),
}

/// What exists in a session.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    entries: IndexMap<String, Entry>,
}

impl Catalog {
    pub fn new() -> Self {
        Catalog::default()
    }

    pub fn table(&self, name: &str) -> Option<&CatalogTable> {
        match self.entries.get(name) {
            Some(Entry::Table(table)) => Some(table),
            _ => None,
        }
    }

    pub fn view(&self, name: &str) -> Option<&CatalogView> {
        match self.entries.get(name) {
            Some(Entry::View(view)) => Some(view),
            _ => None,
        }
    }

    pub fn contains(&self, name: &str) -> bool {
        self.entries.contains_key(name)
    }

    /// In order of name.
    pub fn table_names(&self) -> Vec<&str> {
        self.names(|entry| matches!(entry, Entry::Table(_)))
    }

    /// In order of name.
    pub fn view_names(&self) -> Vec<&str> {
        self.names(|entry| matches!(entry, Entry::View(_)))
    }

    fn names(&self, belongs: impl Fn(&Entry) -> bool) -> Vec<&str> {
        let mut names: Vec<&str> =
            self.entries.iter().filter(|(_, entry)| belongs(entry)).map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    /// The table `name`, fit to be read by a query.
    ///
    /// # Errors
    /// `UNKNOWN_TABLE`, `MISSING_OPTION`, `NOT_A_SOURCE`. `span` is where the query names it.
    pub fn readable(&self, name: &str, span: Option<Span>, registry: Registry) -> Result<&CatalogTable, Vec<Diagnostic>> {
        let table = self.usable(name, span)?;
        match table.definition.connector().and_then(|connector| registry.connector(connector)) {
            Some(connector) if !connector.is_source => Err(vec![
                Diagnostic::error(Code::NOT_A_SOURCE, format!("table \"{name}\" cannot be read"))
                    .label_opt(span, "read here")
                    .help(format!("connector \"{}\" only writes", connector.name)),
            ]),
            _ => Ok(table),
        }
    }

    /// The table `name`, fit to be the target of an INSERT.
    ///
    /// # Errors
    /// `UNKNOWN_TABLE`, `MISSING_OPTION`, `NOT_A_SINK`. `span` is where the INSERT names it.
    pub fn writable(&self, name: &str, span: Option<Span>, registry: Registry) -> Result<&CatalogTable, Vec<Diagnostic>> {
        if self.view(name).is_some() {
            return Err(vec![
                Diagnostic::error(Code::NOT_A_SINK, format!("\"{name}\" is a view and cannot be written"))
                    .label_opt(span, "a view")
                    .help("insert into the table that the rows should go to"),
            ]);
        }
        let table = self.usable(name, span)?;
        let not_a_sink = |help: String| {
            vec![
                Diagnostic::error(Code::NOT_A_SINK, format!("table \"{name}\" cannot be written"))
                    .label_opt(span, "written here")
                    .help(help),
            ]
        };
        match table.definition.connector().and_then(|connector| registry.connector(connector)) {
            Some(connector) if !connector.is_sink => Err(not_a_sink(format!("connector \"{}\" only reads", connector.name))),
            Some(connector) => match validate::read_only_metadata(&table.definition, connector) {
                Some(column) => Err(not_a_sink(format!(
                    "declare the metadata column \"{column}\" VIRTUAL: connector \"{}\" cannot write it",
                    connector.name
                ))),
                None => Ok(table),
            },
            None => Ok(table),
        }
    }

    fn usable(&self, name: &str, span: Option<Span>) -> Result<&CatalogTable, Vec<Diagnostic>> {
        let table = self.table(name).ok_or_else(|| vec![self.unknown_table(name, span)])?;
        if table.missing.is_empty() {
            return Ok(table);
        }
        Err(table
            .missing
            .iter()
            .map(|finding| Diagnostic { source: finding.source.clone().or(Some(table.source.clone())), ..finding.clone() })
            .collect())
    }

    /// The finding that there is no table or view `name`.
    pub fn unknown_table(&self, name: &str, span: Option<Span>) -> Diagnostic {
        let otherwise = if self.entries.is_empty() {
            "no table is declared before this statement".to_string()
        } else {
            "declare it with CREATE TABLE before this statement".to_string()
        };
        Diagnostic::error(Code::UNKNOWN_TABLE, format!("there is no table or view \"{name}\""))
            .label_opt(span, "unknown table")
            .help_nearest(name, self.entries.keys().map(String::as_str), Some(otherwise))
    }

    /// Says whether a new object may have this name: `Ok(false)` if it exists and that is fine.
    pub(crate) fn check_new(&self, name: &Name, if_not_exists: bool) -> Result<bool, Diagnostic> {
        match self.entries.get(&name.value) {
            None => Ok(true),
            Some(_) if if_not_exists => Ok(false),
            Some(entry) => {
                let kind = match entry {
                    Entry::Table(_) => "table",
                    Entry::View(_) => "view",
                };
                Err(Diagnostic::error(Code::TABLE_EXISTS, format!("{kind} \"{}\" exists already", name.value))
                    .label(name.span, "exists already")
                    .help(format!("choose another name, DROP {} first, or write IF NOT EXISTS", kind.to_uppercase())))
            }
        }
    }

    pub(crate) fn insert_table(&mut self, table: CatalogTable) {
        self.entries.insert(table.definition.name.clone(), Entry::Table(Box::new(table)));
    }

    pub(crate) fn insert_view(&mut self, view: CatalogView) {
        self.entries.insert(view.name.clone(), Entry::View(Box::new(view)));
    }

    /// Takes back what was just inserted.
    pub(crate) fn forget(&mut self, name: &str) {
        self.entries.shift_remove(name);
    }

    /// Returns whether there was something to drop.
    pub(crate) fn drop_table(&mut self, drop: &Drop) -> Result<bool, Diagnostic> {
        let found = self.table(&drop.name.value).map(|table| table.definition.temporary);
        self.drop_entry(drop, found, "table", "view")
    }

    /// Returns whether there was something to drop.
    pub(crate) fn drop_view(&mut self, drop: &Drop) -> Result<bool, Diagnostic> {
        let found = self.view(&drop.name.value).map(|view| view.temporary);
        self.drop_entry(drop, found, "view", "table")
    }

    fn drop_entry(&mut self, drop: &Drop, found: Option<bool>, kind: &str, other: &str) -> Result<bool, Diagnostic> {
        let name = &drop.name.value;
        match found {
            Some(temporary) if temporary || !drop.temporary => {
                self.entries.shift_remove(name);
                Ok(true)
            }
            Some(_) => Err(Diagnostic::error(Code::UNKNOWN_TABLE, format!("{kind} \"{name}\" is not temporary"))
                .label(drop.name.span, "not temporary")
                .help(format!("write DROP {}", kind.to_uppercase()))),
            None if drop.if_exists => Ok(false),
            None if self.entries.contains_key(name) => {
                Err(Diagnostic::error(Code::UNKNOWN_TABLE, format!("\"{name}\" is a {other}, not a {kind}"))
                    .label(drop.name.span, format!("a {other}"))
                    .help(format!("write DROP {}", other.to_uppercase())))
            }
            None => {
                let names: Vec<&str> = if kind == "table" { self.table_names() } else { self.view_names() };
                Err(Diagnostic::error(Code::UNKNOWN_TABLE, format!("there is no {kind} \"{name}\""))
                    .label(drop.name.span, format!("unknown {kind}"))
                    .help_nearest(name, names, Some(format!("write DROP {} IF EXISTS", kind.to_uppercase()))))
            }
        }
    }
}
