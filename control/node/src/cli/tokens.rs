//! `mizzen join-token`.

use super::error::CliError;
use super::session::{Session, print, print_json};
use super::table::{Paint, Tone, age, plain, render as table, toned};
use crate::args::{JoinTokenArgs, Output};
use serde::Deserialize;
use serde_json::json;
use std::io::IsTerminal;

const TOKENS: &str = "/v1/cluster/tokens";

/// A token as it is listed.
#[derive(Debug, Deserialize)]
struct Token {
    id: String,
    uses: u32,
    used_by: Vec<String>,
    expires_in_seconds: u64,
    open: bool,
}

pub(super) async fn run(session: &Session, args: &JoinTokenArgs) -> Result<(), CliError> {
    match &args.revoke {
        Some(id) => session.send("DELETE", &format!("{TOKENS}/{id}"), None).await.map(drop),
        None if args.list => list(session, args.output).await,
        None => make(session, args).await,
    }
}

async fn list(session: &Session, output: Output) -> Result<(), CliError> {
    session.show(TOKENS, output, |tokens: &Vec<Token>, paint| render(tokens, paint)).await
}

async fn make(session: &Session, args: &JoinTokenArgs) -> Result<(), CliError> {
    let wanted = json!({ "ttl_seconds": args.ttl.as_secs(), "uses": args.uses });
    let answer = session.send("POST", TOKENS, Some(&wanted)).await?;
    if args.output.json {
        return print_json(&answer);
    }
    let token = answer["token"].as_str().unwrap_or_default();
    if std::io::stdout().is_terminal() {
        let address = answer["address"].as_str().unwrap_or("HOST");
        crate::say(&format!("On the other machine: mizzen node --join {address} --token …\n"));
    }
    print(&format!("{token}\n"))
}

fn render(tokens: &[Token], paint: Paint) -> String {
    if tokens.is_empty() {
        return "no token lets anybody in\n".to_owned();
    }
    let row = |token: &Token| {
        let (tone, state) = match token {
            Token { open: true, .. } => (Tone::Good, "open"),
            Token { expires_in_seconds: 0, .. } => (Tone::Faint, "expired"),
            Token { .. } => (Tone::Faint, "used"),
        };
        let left = match token.expires_in_seconds {
            0 => "-".to_owned(),
            seconds => age(seconds),
        };
        vec![
            plain(&token.id),
            toned(tone, state),
            plain(format!("{} of {}", token.used_by.len(), token.uses)),
            plain(left),
        ]
    };
    table(&["ID", "STATE", "USED", "ENDS IN"], tokens.iter().map(row).collect(), paint)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_as_a_table() {
        let token = |id: &str, used_by: &[&str], left, open| Token {
            id: id.to_owned(),
            uses: 2,
            used_by: used_by.iter().map(|node| (*node).to_owned()).collect(),
            expires_in_seconds: left,
            open,
        };
        let tokens = [
            token("aaa", &["n1"], 7200, true),
            token("bbb", &["n1", "n2"], 60, false),
            token("ccc", &[], 0, false),
        ];
        let want = "\
ID    STATE     USED     ENDS IN
aaa   open      1 of 2   2h00m
bbb   used      2 of 2   1m00s
ccc   expired   0 of 2   -
";
        assert_eq!(render(&tokens, Paint::Plain), want);
        assert_eq!(render(&[], Paint::Plain), "no token lets anybody in\n");
    }
}
