//! A restart under another plan: told apart, refused, or carried over as far as operators are the same.

use std::collections::{HashMap, HashSet};

use thalweg_core::{Code, Diagnostic, Error};

use crate::{Manifest, PlanIdentity};

/// How many differences are spelled out.
const DIFFERENCES_SHOWN: usize = 5;

/// What differs between the plan of a checkpoint and the current one: `new: …` in the order of the current plan, then
/// `gone: …` in the order of the stored one. Empty when the fingerprints agree.
pub fn plan_differences(stored: &PlanIdentity, current: &PlanIdentity) -> Vec<String> {
    if stored.fingerprint == current.fingerprint {
        return vec![];
    }
    let only_in = |plan: &PlanIdentity, other: &PlanIdentity, word: &str| -> Vec<String> {
        let known: HashMap<&String, &String> = other.operators.iter().map(|(id, what)| (id, what)).collect();
        let unknown = plan.operators.iter().filter(|(id, _)| !known.contains_key(id));
        unknown.map(|(id, what)| format!("{word}: {id} ({what})")).collect()
    };
    let mut differences = only_in(current, stored, "new");
    differences.extend(only_in(stored, current, "gone"));
    if differences.is_empty() {
        differences.push(format!("fingerprint {} instead of {}", current.fingerprint, stored.fingerprint));
    }
    differences
}

/// The refusal of a restart under another plan.
pub(crate) fn refusal(differences: &[String]) -> Error {
    let mut help =
        vec!["run the SQL that made the checkpoint, or start fresh with another checkpoint directory; what differs:".to_string()];
    help.extend(differences.iter().take(DIFFERENCES_SHOWN).cloned());
    if differences.len() > DIFFERENCES_SHOWN {
        help.push(format!("and {} more", differences.len() - DIFFERENCES_SHOWN));
    }
    Diagnostic::error(Code::PLAN_CHANGED, "the checkpoint belongs to another plan").help(help.join("\n")).into()
}

/// Puts `manifest` under another plan: state and source positions of operators that both plans have are kept, the rest is
/// dropped. An operator's state may be stored under its id or under `<id>/<part>`.
pub(crate) fn carry_over(manifest: &mut Manifest, plan: &PlanIdentity) {
    let ids: HashSet<&str> = plan.operators.iter().map(|(id, _)| id.as_str()).collect();
    let is_kept = |name: &str| ids.contains(name.split_once('/').map_or(name, |(id, _)| id));
    manifest.state.retain(|state| is_kept(&state.operator));
    manifest.sources.retain(|source| is_kept(&source.operator));
    manifest.plan = plan.clone();
    manifest.finished = false;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(fingerprint: &str, operators: &[&str]) -> PlanIdentity {
        let operators = operators.iter().map(|id| (id.to_string(), format!("does {id}"))).collect();
        PlanIdentity { fingerprint: fingerprint.to_string(), operators }
    }

    #[test]
    fn differences_are_named() {
        let stored = plan("a", &["source-1", "filter-2", "sink-3"]);
        assert_eq!(plan_differences(&stored, &stored), Vec::<String>::new());
        assert_eq!(
            plan_differences(&stored, &plan("b", &["source-1", "filter-9", "sink-3"])),
            ["new: filter-9 (does filter-9)", "gone: filter-2 (does filter-2)"]
        );
        assert_eq!(plan_differences(&stored, &plan("c", &["source-1", "filter-2", "sink-3"])), ["fingerprint c instead of a"]);
    }

    #[test]
    fn the_refusal_has_a_code_and_names_the_first_differences() {
        let differences: Vec<String> = (0..8).map(|n| format!("new: op-{n}")).collect();
        let error = refusal(&differences);
        assert_eq!(error.kind, thalweg_core::ErrorKind::User);
        assert!(error.help.as_ref().is_some_and(|help| help.ends_with("new: op-4\nand 3 more")), "{:?}", error.help);
        assert!(!error.message.contains('\n'));
        assert_eq!(error.diagnostic.unwrap().code, Code::PLAN_CHANGED);
    }

    #[test]
    fn state_of_unchanged_operators_is_kept() {
        let mut manifest = crate::test_support::sample_manifest(4);
        let kept_id = manifest.state[0].operator.clone();
        manifest.state[1].operator = format!("{kept_id}/timers");
        manifest.state.push(crate::StateRef { operator: format!("{kept_id}.1"), ..manifest.state[0].clone() });
        carry_over(&mut manifest, &plan("other", &[&kept_id]));
        assert_eq!(manifest.state.len(), 2, "`{kept_id}.1` is another operator");
        assert_eq!(manifest.sources, vec![]);
        assert_eq!(manifest.plan.fingerprint, "other");
    }
}
