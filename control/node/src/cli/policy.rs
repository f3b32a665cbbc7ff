//! `mizzen policy`: who may reach whom.

mod words;

use super::error::CliError;
use super::session::{Session, encode, print, print_json, understand};
use crate::args::{
    PolicyApplyArgs, PolicyCommand, PolicyDropsArgs, PolicyExplainArgs, PolicyRmArgs,
};
use crate::say;
use mizzen_plan::policy::document::{documents, read, show};
use mizzen_types::policy::{Policy, PolicyId};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;
use words::{Dropped, explained, render, rows_of, sentence};

const POLICIES: &str = "/v1/policies";
const DROPS: &str = "/v1/policy-drops";
/// Between two looks at what was refused.
const LOOK: Duration = Duration::from_millis(300);

pub(super) async fn run(session: &Session, command: &PolicyCommand) -> Result<(), CliError> {
    match command {
        PolicyCommand::Apply(args) => apply(session, args).await,
        PolicyCommand::Ls(output) => session.show(POLICIES, *output, render).await,
        PolicyCommand::Show(args) => print_json(&session.get(&path(&args.id)).await?),
        PolicyCommand::Rm(args) => remove(session, args).await,
        PolicyCommand::Explain(args) => explain(session, args).await,
        PolicyCommand::Drops(args) if args.watch => tokio::select! {
            ended = watch(session, args) => ended,
            _ = tokio::signal::ctrl_c() => Ok(()),
        },
        PolicyCommand::Drops(args) => drops(session, args).await,
    }
}

/// Sends policies when all of them have been read.
async fn apply(session: &Session, args: &PolicyApplyArgs) -> Result<(), CliError> {
    let mut policies = Vec::new();
    let mut places: BTreeMap<PolicyId, Vec<String>> = BTreeMap::new();
    for file in &args.files {
        for (at, (id, policy)) in policies_of(file, args.audit)?.into_iter().enumerate() {
            let place = format!("document {} of {}", at + 1, file.display());
            places.entry(id.clone()).or_default().push(place);
            policies.push((id, policy));
        }
    }
    refuse_twins(&policies, &places)?;
    let mut answers = Vec::new();
    for (id, policy) in &policies {
        let answer = session.send("PUT", &path(id), Some(&json!(show(id, policy)))).await?;
        if !args.output.json {
            print(&format!("{id}\n"))?;
            for note in answer["notes"].as_array().into_iter().flatten() {
                say(&format!("note: {id}: {}\n", note.as_str().unwrap_or_default()));
            }
        }
        answers.push(answer);
    }
    if args.output.json { print_json(&answers.into()) } else { Ok(()) }
}

/// No two policies may have one id: the last one would be all that is left of them.
fn refuse_twins(
    policies: &[(PolicyId, Policy)],
    places: &BTreeMap<PolicyId, Vec<String>>,
) -> Result<(), CliError> {
    let mut twins = Vec::new();
    for (id, _) in policies {
        let line = places.get(id).filter(|places| places.len() > 1);
        let line = line.map(|places| format!("{id}: {}", places.join(" and ")));
        twins.extend(line.filter(|line| !twins.contains(line)));
    }
    if twins.is_empty() { Ok(()) } else { Err(CliError::Twins { twins }) }
}

fn policies_of(file: &Path, audit: bool) -> Result<Vec<(PolicyId, Policy)>, CliError> {
    let text = super::files::read(file)?;
    let all = parsed(file, &text)?;
    let mut wrong = Vec::new();
    let mut policies = Vec::new();
    for (at, document) in documents(&all).into_iter().enumerate() {
        match read(document) {
            Ok((id, mut policy)) => {
                policy.audit |= audit;
                policies.push((id, policy));
            }
            Err(faults) => {
                let name = document["id"].as_str().map_or_else(|| format!("#{at}"), str::to_owned);
                wrong.extend(faults.0.iter().map(|fault| format!("policy {name}: {fault}")));
            }
        }
    }
    let path = file.to_owned();
    if wrong.is_empty() { Ok(policies) } else { Err(CliError::Policy { path, wrong }) }
}

/// JSON, or TOML, by the file's name or else by its form.
fn parsed(file: &Path, text: &str) -> Result<Value, CliError> {
    let path = || file.to_owned();
    let is_toml = match file.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => true,
        Some("json") => false,
        _ => !text.trim_start().starts_with(['{', '[']) || text.trim_start().starts_with("[["),
    };
    match is_toml {
        true => toml::from_str(text).map_err(|source| CliError::Toml { path: path(), source }),
        false => {
            serde_json::from_str(text).map_err(|source| CliError::Json { path: path(), source })
        }
    }
}

async fn remove(session: &Session, args: &PolicyRmArgs) -> Result<(), CliError> {
    // Nothing is removed if one of them is not there.
    for id in &args.ids {
        session.get(&path(id)).await?;
    }
    for id in &args.ids {
        session.send("DELETE", &path(id), None).await?;
        print(&format!("{id}\n"))?;
    }
    Ok(())
}

async fn explain(session: &Session, args: &PolicyExplainArgs) -> Result<(), CliError> {
    let (from, to) = (encode(&args.from), encode(&args.to));
    let path = format!("/v1/policy-explain?from={from}&to={to}");
    let answer = session.get(&path).await?;
    if args.output.json {
        return print_json(&answer);
    }
    print(&explained(&understand(&path, answer)?, session.paint))
}

async fn drops(session: &Session, args: &PolicyDropsArgs) -> Result<(), CliError> {
    let mut answer = session.get(DROPS).await?;
    let rows = wanted(&mut answer, args);
    if args.output.json {
        return print_json(&answer);
    }
    let drops: Vec<Dropped> = understand(DROPS, rows)?;
    print(&rows_of(&drops, session.paint))?;
    match answer["untold"].as_u64() {
        Some(untold @ 1..) => {
            say(&format!("{untold} more were counted only, because there were too many at once\n"));
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Shows what is refused as it is refused.
async fn watch(session: &Session, args: &PolicyDropsArgs) -> Result<(), CliError> {
    let mut after = session.get(DROPS).await?["count"].as_u64().unwrap_or_default();
    loop {
        let path = format!("{DROPS}?after={after}");
        let mut answer = session.get(&path).await?;
        // A daemon that was started anew counts from the beginning.
        after = answer["count"].as_u64().unwrap_or_default();
        let rows = wanted(&mut answer, args);
        match args.output.json {
            true => {
                for row in rows.as_array().into_iter().flatten() {
                    print(&format!("{row}\n"))?;
                }
            }
            false => {
                for drop in understand::<Vec<Dropped>>(&path, rows)? {
                    print(&format!("{}\n", sentence(&drop)))?;
                }
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The rows that were asked for; they stay alone in the answer.
fn wanted(answer: &mut Value, args: &PolicyDropsArgs) -> Value {
    let Some(rows) = answer["drops"].as_array_mut() else { return Value::Array(Vec::new()) };
    if args.audit {
        rows.retain(|row| row["verdict"] == "would-refuse");
    }
    rows.clone().into()
}

fn path(id: &PolicyId) -> String {
    format!("{POLICIES}/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_either_form() {
        let json = r#"{"id": "a", "applies_to": {}, "ingress": []}"#;
        let toml = "id = \"a\"\napplies_to = {}\ningress = []\n";
        let several = "[[policies]]\nid = \"a\"\napplies_to = {}\ningress = []\n";
        for (name, text) in
            [("x.json", json), ("x.toml", toml), ("-", json), ("-", toml), ("-", several)]
        {
            let value = parsed(Path::new(name), text).unwrap();
            let all = documents(&value);
            assert_eq!(read(all[0]).unwrap().0.as_str(), "a", "{text}");
        }
        assert!(matches!(parsed(Path::new("x.toml"), "="), Err(CliError::Toml { .. })));
    }
}
