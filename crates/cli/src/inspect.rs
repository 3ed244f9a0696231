//! Commands that look without running: `check`, `explain`, `checkpoint`, `check-store`.

use std::io::Write;
use std::sync::Arc;

use thalweg_connectors::store::{StoreSettings, block_on, open_store};
use thalweg_core::{Clock, Error, Result, Severity, SourceText, SystemRand};
use thalweg_runtime::plan_identity;
use thalweg_state::JobStore;

use crate::arguments::{CheckArguments, ExplainArguments, FindingFormat};
use crate::result::RowOutput;
use crate::script::{Failure, plan_file, read_sources};
use crate::{error_pages, is_code, secrets};

/// `thalweg check`: every finding of every file; 2 when one of them is an error.
pub fn check(arguments: &CheckArguments, clock: &Arc<dyn Clock>) -> Result<u8, Failure> {
    let mut wrong = false;
    for source in read_sources(&arguments.files)? {
        match plan_file(&source, &arguments.sql, clock.clone()) {
            Ok(plans) => {
                if let Some(url) = &arguments.against {
                    for plan in &plans {
                        let same = compare(url, plan)?;
                        wrong |= !same;
                    }
                } else {
                    say(&format!("{}: fine", source.name));
                }
            }
            Err(Failure::Findings(findings)) => {
                wrong |= findings.iter().any(|finding| finding.severity == Severity::Error);
                match arguments.format {
                    FindingFormat::Text => say(&Failure::Findings(findings).render()),
                    FindingFormat::Json => findings.iter().for_each(|finding| say(&json_line(finding))),
                }
            }
            Err(failure) => return Err(failure),
        }
    }
    Ok(if wrong { 2 } else { 0 })
}

/// A finding as one JSON object with the file it is in.
fn json_line(finding: &thalweg_core::Diagnostic) -> String {
    let mut value = serde_json::to_value(finding).unwrap_or_default();
    if let (Some(object), Some(source)) = (value.as_object_mut(), &finding.source) {
        object.insert("file".to_string(), source.name.as_ref().into());
    }
    value.to_string()
}

/// Says whether a plan can resume from a checkpoint directory.
fn compare(url: &str, plan: &thalweg_plan::Plan) -> Result<bool, Failure> {
    let Some(manifest) = open(url)?.latest()? else {
        say(&format!("{url} holds no checkpoint: the job starts anew"));
        return Ok(true);
    };
    let differences = thalweg_state::plan_differences(&manifest.plan, &plan_identity(plan));
    if manifest.plan.fingerprint == plan_identity(plan).fingerprint {
        say(&format!("all state of epoch {} is kept", manifest.epoch));
        return Ok(true);
    }
    say(&format!("the plan differs from that of {url}; it cannot resume from epoch {}:", manifest.epoch));
    for difference in differences {
        say(&format!("  {difference}"));
    }
    Ok(false)
}

/// `thalweg explain`: a plan, or the page of a code.
pub fn explain(arguments: &ExplainArguments, clock: Arc<dyn Clock>, output: &RowOutput) -> Result<u8, Failure> {
    if is_code(&arguments.subject) {
        let code = arguments.subject.to_uppercase();
        return match error_pages::page(&code) {
            Some(page) => {
                output.write(page.as_bytes())?;
                Ok(0)
            }
            None => Err(Failure::Failed(
                Error::user(format!("there is no error code {code}")).with_help("codes are listed in docs/errors"),
            )),
        };
    }
    let source: SourceText = read_sources(&[arguments.subject.clone().into()])?.remove(0);
    let plans = plan_file(&source, &arguments.sql, clock)?;
    if plans.is_empty() {
        say("the file has no INSERT and no query: nothing would run");
    }
    for (number, plan) in plans.iter().enumerate() {
        let separator = if number > 0 { "\n" } else { "" };
        output.write(format!("{separator}{}", plan.explain()).as_bytes())?;
    }
    Ok(0)
}

/// `thalweg checkpoint list`: one line a manifest.
pub fn list_checkpoints(url: &str, output: &RowOutput) -> Result<(), Failure> {
    for summary in open(url)?.list()? {
        let line = match &summary.content {
            Ok(content) => serde_json::json!({
                "sequence": summary.sequence,
                "epoch": content.epoch,
                "generation": content.generation,
                "created_ms": content.created_ms,
                "undelivered_epochs": content.undelivered_epochs,
            }),
            Err(problem) => serde_json::json!({ "sequence": summary.sequence, "problem": problem }),
        };
        output.write(format!("{line}\n").as_bytes())?;
    }
    Ok(())
}

/// `thalweg checkpoint show`: the newest manifest as JSON.
pub fn show_checkpoint(url: &str, output: &RowOutput) -> Result<(), Failure> {
    let manifest = open(url)?.latest()?.ok_or_else(|| {
        Error::user(format!("{url} holds no checkpoint")).with_help("name the folder given to --checkpoint-dir")
    })?;
    let text = serde_json::to_string_pretty(&manifest)
        .map_err(|error| Error::internal("the manifest has no JSON form").with_cause(error))?;
    output.write(format!("{text}\n").as_bytes())?;
    Ok(())
}

/// `thalweg check-store`: each rule with what was found; 1 when one is broken.
pub fn check_store(url: &str, output: &RowOutput) -> Result<u8, Failure> {
    let (store, prefix) = open_store(url, &StoreSettings::from_variables(std::env::vars()))?;
    let handle = block_on(async { tokio::runtime::Handle::current() });
    let mut broken = false;
    for result in thalweg_state::check_store(store, &prefix, &handle, &mut SystemRand) {
        broken |= result.problem.is_some();
        let verdict = result.problem.map_or("ok".to_string(), |problem| format!("BROKEN: {problem}"));
        output.write(format!("{:<55} {verdict}\n", result.rule).as_bytes())?;
    }
    Ok(u8::from(broken))
}

fn open(url: &str) -> Result<JobStore> {
    let (store, prefix) = open_store(url, &StoreSettings::from_variables(std::env::vars()))?;
    Ok(JobStore::new(store, prefix, block_on(async { tokio::runtime::Handle::current() })))
}

fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{}", secrets::scrub(text.trim_end_matches('\n')));
}
