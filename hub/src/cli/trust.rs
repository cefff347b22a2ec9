//! The commands about who may be a board: `ca`, `join-token`, and what `agents` does beside listing.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Subcommand;
use contract::identity::{Machine, Standing};
use contract::quantity::Duration;
use contract::time::Millis;
use contract::{AgentId, Digest, label};
use hub_core::api::Answer;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Serialize;

use super::client::{Client, escape};
use super::exit::{Code, Done, Failure};
use super::style::table;
use crate::api::trust::{
    Choose, Expected, IdentityList, Import, MadeToken, Named, NewToken, Replace, TokenList,
};
use crate::trust::wall_ms;

#[derive(Debug, Subcommand)]
pub enum AgentsAction {
    /// Boards that have joined, also those that wait to be approved
    Identities {
        #[arg(short, long)]
        output: Option<super::describe::JsonOnly>,
    },
    /// Let boards in that wait
    #[command(after_help = "Examples:\n  hub agents approve press-7 press-8\n  hub agents approve -l line=a")]
    Approve {
        names: Vec<AgentId>,
        /// All that wait and have these labels: k=v,k2!=v2,k3,!k4
        #[arg(short = 'l', long, conflicts_with = "names")]
        selector: Option<String>,
    },
    /// Let boards in no more; what they run goes on
    Revoke {
        #[arg(required = true)]
        names: Vec<AgentId>,
    },
    /// Give a board's labels, and with them its work, to another that has joined; the old one is let in no more
    Replace { old: AgentId, new: AgentId },
    /// Let boards in no more, and have each wipe its workloads, their data and its identity when it next asks
    Decommission {
        #[arg(required = true)]
        names: Vec<AgentId>,
    },
    /// Boards that are expected, from a file: they get these names and labels when they join
    #[command(after_help = "\
The file has one board a line and begins with the names of its columns:
  agent,serial,mac,machine-id,approve,line,site
  press-7,10000000abcdef01,,,yes,a,north
'agent' and at least one of 'serial', 'mac' and 'machine-id' are needed; every other column is a label.")]
    Import { file: PathBuf },
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown this once
    #[command(
        after_help = "Then, on a board:\n  edge-agent join <token>\nor put the token into a file 'skerry-join.json' on its boot partition."
    )]
    Create {
        /// How long it lets boards join
        #[arg(long, default_value = "1d")]
        ttl: Duration,
        /// How many boards may join with it; as many as come when left out
        #[arg(long)]
        uses: Option<u32>,
        /// Labels of boards that join with it: k=v,k2=v2
        #[arg(long, value_delimiter = ',', value_parser = pair)]
        labels: Vec<(String, String)>,
        /// Boards that join with it need no approval
        #[arg(long)]
        approve: bool,
        /// Print the token and nothing else
        #[arg(short, long)]
        quiet: bool,
    },
    /// Tokens, without their secrets
    List,
    /// Let nobody join with it any more; boards that have joined stay
    Revoke { name: String },
}

#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// The CA's fingerprint and certificate
    Show,
    /// Whether this is the CA's fingerprint; exit code 1 if not
    Verify { fingerprint: String },
}

pub fn agents(client: &Client, action: AgentsAction) -> Done {
    match action {
        AgentsAction::Identities { output } => identities(client, output.is_some()),
        AgentsAction::Approve { names, selector } => {
            let body = Choose { agents: names, selector };
            done("approved", &post(client, "approve", &body)?)
        }
        AgentsAction::Revoke { names } => done("revoked", &post(client, "revoke", &Named { agents: names })?),
        AgentsAction::Decommission { names } => {
            let done = done("decommissioned", &post(client, "decommission", &Named { agents: names })?);
            say!("each wipes itself when it next asks; 'hub delete agent' forgets it");
            done
        }
        AgentsAction::Replace { old, new } => {
            post(client, "replace", &Replace { old: old.clone(), new: new.clone() })?;
            say!(
                "{new} has the labels of {old}; {old} is let in no more ('hub delete agent {old}' frees its places)"
            );
            Ok(())
        }
        AgentsAction::Import { file } => {
            let text = std::fs::read_to_string(&file);
            let text = text.map_err(|e| Failure::usage(format!("cannot read {}: {e}", file.display())))?;
            let items = read_csv(&text)
                .map_err(|why| Failure::new(Code::Invalid, format!("{}: {why}", file.display())))?;
            done("expected", &post(client, "import", &Import { items })?)
        }
    }
}

fn post<T: Serialize>(client: &Client, verb: &str, body: &T) -> Done<Answer> {
    let body = serde_json::to_vec(body).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
    client.post(&format!("/v1/identities/{verb}"), "application/json", &body)
}

fn done(word: &str, answer: &Answer) -> Done {
    let Answer::Agents { agents, .. } = answer else { return Ok(()) };
    for agent in agents {
        say!("{agent} {word}");
    }
    if agents.is_empty() {
        say!("no board is {word}: none waits that has these labels");
    }
    Ok(())
}

fn identities(client: &Client, json: bool) -> Done {
    let list: IdentityList = client.get("/v1/identities")?;
    if json {
        say!("{}", serde_json::to_string_pretty(&list).unwrap_or_default());
        return Ok(());
    }
    let row = |i: &hub_core::trust::view::IdentityView| {
        let standing = match i.standing {
            Standing::Waits => format!("waits: hub agents approve {}", i.agent),
            Standing::Good if i.ends_wall_ms.is_some_and(|ends| ends < wall_ms()) => {
                "certificate ended".into()
            }
            _ if i.reason.is_empty() => word(i.standing),
            _ => format!("{}: {}", word(i.standing), i.reason),
        };
        let ends = i.ends_wall_ms.map_or_else(|| "-".to_string(), left);
        vec![i.agent.to_string(), i.key.clone(), labels(&i.labels), i.source.clone(), ends, standing]
    };
    let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
    say!("{}", table(&["AGENT", "KEY", "LABELS", "FROM", "ENDS IN", "STANDING"], &rows).trim_end());
    Ok(())
}

fn word(standing: Standing) -> String {
    let word = serde_json::to_value(standing).ok();
    word.and_then(|w| w.as_str().map(str::to_string)).unwrap_or_default()
}

pub fn token(client: &Client, command: &TokenCommand) -> Done {
    match command {
        TokenCommand::Create { ttl, uses, labels, approve, quiet } => {
            let labels = labels.iter().cloned().collect();
            let new = NewToken { ttl_ms: Some(ttl.ms), uses: *uses, labels, approve: *approve };
            let body = serde_json::to_vec(&new).map_err(|e| Failure::new(Code::Internal, e.to_string()))?;
            let made: MadeToken = client.post("/v1/join-tokens", "application/json", &body)?;
            say!("{}", made.token);
            if !quiet {
                eprintln!(
                    "token {}, good for {}; on a board: edge-agent join <token>",
                    made.name,
                    left(made.ends_wall_ms)
                );
            }
            Ok(())
        }
        TokenCommand::List => {
            let list: TokenList = client.get("/v1/join-tokens")?;
            let row = |t: &hub_core::trust::view::TokenView| {
                let uses = t.uses_left.map_or_else(|| "any".to_string(), |n| n.to_string());
                let approve = if t.approve { "approves" } else { "-" };
                vec![t.name.clone(), left(t.ends_wall_ms), uses, approve.into(), labels(&t.labels)]
            };
            let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
            say!("{}", table(&["NAME", "ENDS IN", "USES LEFT", "APPROVES", "LABELS"], &rows).trim_end());
            Ok(())
        }
        TokenCommand::Revoke { name } => {
            let _: Answer = client.delete(&format!("/v1/join-tokens/{}", escape(name)))?;
            say!("token {name} revoked");
            Ok(())
        }
    }
}

pub fn ca(client: &Client, command: &CaCommand) -> Done {
    let pem = client.text("/v1/ca")?;
    let der = CertificateDer::from_pem_slice(pem.as_bytes());
    let der = der.map_err(|_| Failure::new(Code::Internal, "the hub's answer is not a certificate"))?;
    let fingerprint = Digest::of(&der).to_string();
    match command {
        CaCommand::Show => say!("{fingerprint}\n{}", pem.trim_end()),
        CaCommand::Verify { fingerprint: given } => {
            let bare = |text: &str| text.trim().trim_start_matches("sha256:").replace(':', "").to_lowercase();
            if bare(given) != bare(&fingerprint) {
                let text = format!("this hub's CA is {fingerprint}: another one");
                return Err(Failure::new(Code::Failed, text));
            }
            say!("this is the hub's CA");
        }
    }
    Ok(())
}

fn left(ends_ms: Millis) -> String {
    let secs = ends_ms.saturating_sub(wall_ms()) / 1000;
    match secs {
        0 => "ended".into(),
        1..=119 => format!("{secs} s"),
        120..=7_199 => format!("{} min", secs / 60),
        7_200..=172_799 => format!("{} h", secs / 3_600),
        _ => format!("{} d", secs / 86_400),
    }
}

fn labels(labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() {
        return "-".into();
    }
    labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>().join(",")
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| format!("'{text}' is not key=value"))?;
    label::check_key(key).and_then(|()| label::check_value(value)).map_err(|e| e.to_string())?;
    Ok((key.to_string(), value.to_string()))
}

/// Every mistake at once, each with its line.
fn read_csv(text: &str) -> Result<Vec<Expected>, String> {
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let head: Vec<&str> =
        lines.next().map(|(_, line)| line.split(',').map(str::trim).collect()).unwrap_or_default();
    if !head.contains(&"agent") {
        return Err("line 1: names the columns; 'agent' is missing".into());
    }
    let (mut items, mut wrong) = (Vec::new(), Vec::new());
    for (n, line) in lines {
        match read_line(&head, line) {
            Ok(item) => items.push(item),
            Err(why) => wrong.push(format!("line {}: {why}", n + 1)),
        }
    }
    if wrong.is_empty() { Ok(items) } else { Err(wrong.join("\n  ")) }
}

fn read_line(head: &[&str], line: &str) -> Result<Expected, String> {
    let cells: Vec<&str> = line.split(',').map(str::trim).collect();
    if cells.len() != head.len() {
        return Err(format!("{} cells under {} columns", cells.len(), head.len()));
    }
    let (mut agent, mut approve) = (None, false);
    let (mut machine, mut labels) = (Machine::new(), BTreeMap::new());
    for (column, cell) in head.iter().zip(cells).filter(|(_, cell)| !cell.is_empty()) {
        match *column {
            "agent" => agent = Some(cell.parse::<AgentId>().map_err(|e| format!("agent: {e}"))?),
            "approve" => approve = matches!(cell, "yes" | "true" | "1"),
            "serial" | "mac" | "machine-id" => drop(machine.insert(column.to_string(), cell.to_lowercase())),
            label => labels.extend([pair(&format!("{label}={cell}"))?]),
        }
    }
    let agent = agent.ok_or("agent: is empty")?;
    if machine.is_empty() {
        return Err("one of serial, mac and machine-id is needed to know the board by".into());
    }
    Ok(Expected { agent, machine, labels, approve })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_boards_is_read_and_its_mistakes_are_named() {
        let items =
            read_csv("agent,serial,mac,approve,line\npress-7,ABC1,,yes,a\n\npress-8,,02:00:00:00:00:01,,\n")
                .unwrap();
        assert_eq!(
            (items[0].agent.as_str(), items[0].machine["serial"].as_str(), items[0].approve),
            ("press-7", "abc1", true)
        );
        assert_eq!(items[0].labels["line"], "a");
        assert!(items[1].labels.is_empty() && !items[1].approve);
        let wrong = read_csv("agent,serial,line\nA B,1,a\npress-7,,a\npress-8,1\n").unwrap_err();
        for part in ["line 2: agent", "line 3: one of serial", "line 4: 2 cells"] {
            assert!(wrong.contains(part), "{wrong}");
        }
        assert!(read_csv("serial\n1").is_err());
    }
}
