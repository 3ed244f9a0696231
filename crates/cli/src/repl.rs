//! A plain shell: statements until `;`, history, Ctrl-C stops the running query.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use rustyline::error::ReadlineError;
use thalweg_core::{Error, SourceText};
use thalweg_runtime::Stopper;
use thalweg_sql::{Outcome, Session, parse_script};

use crate::result::RowOutput;
use crate::script::{CommandVariables, Failure, ScriptOptions, new_session, run_plan};

const PROMPT: &str = "thalweg> ";
const CONTINUED: &str = "      -> ";

/// Reads statements until end of input or `quit;`.
pub fn run(options: &ScriptOptions, output: &RowOutput) -> Result<(), Failure> {
    let mut session = new_session(&options.sql, options.clock.clone())?;
    let mut editor = rustyline::DefaultEditor::new()
        .map_err(|error| Failure::Failed(Error::internal("the terminal cannot be read").with_cause(error)))?;
    let history = history_file();
    if let Some(history) = &history {
        // No history yet is no mistake.
        let _ = editor.load_history(history);
    }
    let running: Arc<Mutex<Option<Stopper>>> = Arc::default();
    stop_running_on_interrupt(running.clone())?;
    if std::io::stdin().is_terminal() {
        say("Thalweg streams SQL. Statements end with ;  Ctrl-C stops a query, Ctrl-D leaves.");
    }
    let mut text = String::new();
    loop {
        match editor.readline(if text.is_empty() { PROMPT } else { CONTINUED }) {
            Ok(line) => {
                if text.is_empty() && matches!(line.trim().trim_end_matches(';'), "quit" | "exit" | "\\q") {
                    break;
                }
                text.push_str(&line);
                text.push('\n');
                if !ends_statement(&text) {
                    continue;
                }
                let statement = std::mem::take(&mut text);
                if !holds_a_secret(&statement) {
                    let _ = editor.add_history_entry(statement.trim());
                }
                execute(&mut session, &statement, options, output, &running);
            }
            Err(ReadlineError::Interrupted) => text.clear(),
            Err(ReadlineError::Eof) => break,
            Err(error) => return Err(Failure::Failed(Error::internal("the terminal cannot be read").with_cause(error))),
        }
    }
    if let Some(history) = &history {
        let _ = editor.save_history(history);
    }
    Ok(())
}

/// Does what the text says; what is wrong is shown and the shell goes on.
fn execute(session: &mut Session, text: &str, options: &ScriptOptions, output: &RowOutput, running: &Mutex<Option<Stopper>>) {
    let source = SourceText::new("<shell>", text);
    let result = parse_script(&source, &CommandVariables(&options.sql.variables)).map_err(Failure::from).and_then(|statements| {
        for parsed in &statements {
            match session.execute(parsed)? {
                Outcome::Done(line) => say(&line),
                Outcome::Text(text) => output.write(format!("{}\n", text.trim_end()).as_bytes())?,
                Outcome::Rows(rows) => output.write_rows(&rows)?,
                Outcome::Query(plan) => run_stoppable(session, *plan, options, output, running)?,
                Outcome::Inserts(inserts) => {
                    let plan = session.plan_inserts(&inserts)?;
                    run_stoppable(session, plan, options, output, running)?;
                }
            }
        }
        Ok(())
    });
    if let Err(failure) = result {
        let _ = write!(std::io::stderr(), "{}", failure.render());
    }
}

fn run_stoppable(
    session: &Session,
    plan: thalweg_plan::Plan,
    options: &ScriptOptions,
    output: &RowOutput,
    running: &Mutex<Option<Stopper>>,
) -> Result<(), Failure> {
    let stopper = Stopper::default();
    *running.lock().expect("no holder of this lock panics") = Some(stopper.clone());
    let result = run_plan(session, plan, options, output, &stopper);
    *running.lock().expect("no holder of this lock panics") = None;
    Ok(result?)
}

fn stop_running_on_interrupt(running: Arc<Mutex<Option<Stopper>>>) -> Result<(), Failure> {
    let mut signals = signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT])
        .map_err(|error| Failure::Failed(Error::internal("signals cannot be watched").with_cause(error)))?;
    std::thread::spawn(move || {
        for _ in signals.forever() {
            if let Some(stopper) = running.lock().expect("no holder of this lock panics").as_ref() {
                stopper.stop();
            }
        }
    });
    Ok(())
}

/// Whether the text ends in a semicolon that is not inside a string, a quoted name or a comment.
fn ends_statement(text: &str) -> bool {
    let mut ended = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\'' | '`' => {
                if !chars.by_ref().any(|other| other == c) {
                    return false;
                }
                ended = false;
            }
            '-' if chars.peek() == Some(&'-') => while chars.next_if(|other| *other != '\n').is_some() {},
            '/' if chars.peek() == Some(&'*') => {
                let mut last = ' ';
                loop {
                    match chars.next() {
                        Some('/') if last == '*' => break,
                        Some(other) => last = other,
                        None => return false,
                    }
                }
            }
            ';' => ended = true,
            c if c.is_whitespace() => {}
            _ => ended = false,
        }
    }
    ended
}

/// Statements with passwords or keys in them are not written to the history.
fn holds_a_secret(statement: &str) -> bool {
    let lower = statement.to_lowercase();
    ["password", "secret", "token", "jaas", "credential", "access.key", "access-key", "private"]
        .iter()
        .any(|word| lower.contains(word))
}

fn history_file() -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".thalweg_history"))
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_ends_outside_of_strings_and_comments() {
        for (text, expected) in [
            ("SELECT 1;\n", true),
            ("SELECT 1; -- done\n", true),
            ("SELECT ';'\n", false),
            ("SELECT '\n;\n", false),
            ("SELECT `a;b` /* ; */\n", false),
            ("SELECT 1; SELECT\n", false),
        ] {
            assert_eq!(ends_statement(text), expected, "{text}");
        }
    }
}
