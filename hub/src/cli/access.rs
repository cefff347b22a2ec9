//! The commands about who may do what: `token`, `role`, `whoami`.

use std::collections::BTreeSet;

use clap::{Args, Subcommand};
use contract::Name;
use contract::quantity::Duration;
use contract::time::Millis;
use hub_core::access::rights::{Many, Role, Rule};
use hub_core::access::view::{RoleView, TokenView};
use hub_core::api::Answer;
use serde::Serialize;

use super::client::Client;
use super::describe::JsonOnly;
use super::exit::{Code, Done, Failure};
use super::style::table;
use crate::api::access::{Grant, MadeToken, NewToken, RoleList, TokenList, WhoAmI};
use crate::trust::wall_ms;

#[derive(Debug, Args)]
pub struct GrantArgs {
    /// viewer, operator, admin, or one of 'hub role list'; may be given several times
    #[arg(long = "role", required = true, value_name = "ROLE")]
    roles: Vec<Name>,
    /// Only within these namespaces; all when left out
    #[arg(long = "in", value_name = "NAMESPACE", value_delimiter = ',')]
    within: Vec<Name>,
}

impl GrantArgs {
    fn grant(&self) -> Grant {
        let namespaces = match self.within.is_empty() {
            true => Many::All,
            false => Many::These(self.within.iter().cloned().collect()),
        };
        Grant { roles: self.roles.iter().cloned().collect(), namespaces }
    }
}

#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; it is shown this once
    #[command(after_help = "\
Examples:
  hub token create alice --role admin
  hub token create ci --role operator --in plant --expires 30d
Then, where it is used:
  hub login https://hub:7711 --ca-pin sha256:…")]
    Create {
        name: Name,
        #[command(flatten)]
        grant: GrantArgs,
        /// How long it is good: 30d, 8h, or never
        #[arg(long, default_value = "90d", value_parser = expiry)]
        expires: Expiry,
        /// Print the token and nothing else
        #[arg(short, long)]
        quiet: bool,
    },
    /// Tokens, without their secrets
    #[command(visible_alias = "ls")]
    List {
        #[arg(short, long)]
        output: Option<JsonOnly>,
    },
    /// Give a token these roles and namespaces instead of those that it has
    Grant {
        name: Name,
        #[command(flatten)]
        grant: GrantArgs,
    },
    /// Let nobody in with it any more
    Revoke {
        #[arg(required = true)]
        names: Vec<Name>,
    },
}

#[derive(Debug, Subcommand)]
pub enum RoleCommand {
    /// Roles and their rules: verbs:kinds:namespaces
    #[command(visible_alias = "ls")]
    List {
        #[arg(short, long)]
        output: Option<JsonOnly>,
    },
    /// Make a role, or change one; tokens that have it follow at once
    #[command(after_help = "\
A rule is verbs:kinds or verbs:kinds:namespaces, each a list or *:
  verbs  get, apply, delete, exec, reveal
  kinds  workloads, logs, events, configs, secrets, namespaces, artifacts, agents,
         identities, join-tokens, tokens, roles, audit, hub
Example:
  hub role create deployer --rule get:* --rule apply:workloads,artifacts:plant")]
    Create {
        name: Name,
        #[arg(long = "rule", required = true, value_name = "RULE")]
        rules: Vec<Rule>,
    },
    /// Remove a role that no token has
    Delete { name: Name },
}

#[derive(Debug, Clone, Copy)]
pub struct Expiry(Option<Millis>);

fn expiry(text: &str) -> Result<Expiry, String> {
    match text {
        "never" => Ok(Expiry(None)),
        text => text.parse::<Duration>().map(|d| Expiry(Some(d.ms))).map_err(|e| format!("{e}; or never")),
    }
}

pub fn token(client: &Client, command: &TokenCommand) -> Done {
    match command {
        TokenCommand::Create { name, grant, expires, quiet } => {
            let Grant { roles, namespaces } = grant.grant();
            let new = NewToken { name: name.clone(), roles, namespaces, ttl_ms: expires.0 };
            let made: MadeToken = post(client, "/v1/tokens", &new)?;
            say!("{}", made.token);
            if !quiet {
                let left =
                    made.ends_wall_ms.map_or("does not end".into(), |ends| format!("ends in {}", left(ends)));
                eprintln!("token {name} {left}; it is not shown again. Where it is used: hub login");
            }
            Ok(())
        }
        TokenCommand::List { output } => {
            let list: TokenList = client.get("/v1/tokens")?;
            if output.is_some() {
                return json(&list);
            }
            let rows: Vec<Vec<String>> = list.items.iter().map(token_row).collect();
            let head = ["NAME", "ROLES", "IN", "ENDS IN", "LAST USE", "FROM", "MADE BY"];
            say!("{}", table(&head, &rows).trim_end());
            Ok(())
        }
        TokenCommand::Grant { name, grant } => {
            let _: Answer = post(client, &format!("/v1/tokens/{name}/grant"), &grant.grant())?;
            say!("token {name} has {}", words(&grant.grant().roles));
            Ok(())
        }
        TokenCommand::Revoke { names } => {
            for name in names {
                let _: Answer = client.delete(&format!("/v1/tokens/{name}"))?;
                say!("token {name} revoked");
            }
            Ok(())
        }
    }
}

fn token_row(token: &TokenView) -> Vec<String> {
    let ago = |used: Millis| format!("{} ago", span(wall_ms().saturating_sub(used)));
    vec![
        token.name.to_string(),
        words(&token.roles),
        token.namespaces.to_string(),
        token.ends_wall_ms.map_or("never".into(), left),
        token.used_wall_ms.map_or("-".into(), ago),
        if token.used_from.is_empty() { "-".into() } else { token.used_from.clone() },
        token.made_by.clone(),
    ]
}

pub fn role(client: &Client, command: &RoleCommand) -> Done {
    match command {
        RoleCommand::List { output } => {
            let list: RoleList = client.get("/v1/roles")?;
            if output.is_some() {
                return json(&list);
            }
            let rules = |role: &RoleView| role.rules.iter().map(Rule::to_string).collect::<Vec<_>>();
            let row = |role: &RoleView| {
                let given = if role.given { "every hub" } else { "this hub" };
                vec![role.name.to_string(), given.into(), rules(role).join("  ")]
            };
            let rows: Vec<Vec<String>> = list.items.iter().map(row).collect();
            say!("{}", table(&["NAME", "OF", "RULES"], &rows).trim_end());
        }
        RoleCommand::Create { name, rules } => {
            let body = body(&Role { rules: rules.clone() })?;
            let _: Answer = client.put(&format!("/v1/roles/{name}"), "application/json", &body)?;
            say!("role {name} has {} rules", rules.len());
        }
        RoleCommand::Delete { name } => {
            let _: Answer = client.delete(&format!("/v1/roles/{name}"))?;
            say!("role {name} removed");
        }
    }
    Ok(())
}

pub fn whoami(client: &Client) -> Done {
    let who: WhoAmI = client.get("/v1/whoami")?;
    say!("{} at {} ({})", who.name, client.context.hub, client.context.hub_from);
    say!("in  {}", who.namespaces);
    for rule in who.rules {
        say!("may {rule}");
    }
    Ok(())
}

fn words(roles: &BTreeSet<Name>) -> String {
    roles.iter().map(Name::as_str).collect::<Vec<_>>().join(",")
}

fn left(ends: Millis) -> String {
    match ends.saturating_sub(wall_ms()) {
        0 => "ended".into(),
        ms => span(ms),
    }
}

pub fn span(ms: Millis) -> String {
    match ms / 1000 {
        secs @ 0..=119 => format!("{secs} s"),
        secs @ 120..=7_199 => format!("{} min", secs / 60),
        secs @ 7_200..=172_799 => format!("{} h", secs / 3_600),
        secs => format!("{} d", secs / 86_400),
    }
}

fn post<T: serde::de::DeserializeOwned>(client: &Client, path: &str, of: &impl Serialize) -> Done<T> {
    client.post(path, "application/json", &body(of)?)
}

fn body(of: &impl Serialize) -> Done<Vec<u8>> {
    serde_json::to_vec(of).map_err(|e| Failure::new(Code::Internal, e.to_string()))
}

pub fn json(of: &impl Serialize) -> Done {
    say!("{}", serde_json::to_string_pretty(of).unwrap_or_default());
    Ok(())
}
