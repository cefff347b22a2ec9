//! The program's command line: the operator's commands, which speak HTTP and nothing else, and the
//! two that are not a client (`serve`, `compile`).

/// Like `println!`, but a reader that went away (`| head`) is an error to return, not a panic.
macro_rules! say {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($text)*)?
    }};
}

mod access;
mod agents;
mod apply;
mod audit;
mod broker;
mod change;
mod client;
mod context;
mod data;
mod describe;
mod exit;
mod fetching;
mod files;
mod fleet;
mod get;
mod hub_cmd;
mod kinds;
mod login;
mod logs;
mod namespace;
mod progress;
mod push;
mod session;
mod sse;
mod style;
mod trust;
mod verbs;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};
use contract::manifest;

use crate::compile::command::CompileArgs;
use crate::compile::worker::WorkerArgs;
use crate::serve::args::ServeArgs;
use client::Client;
use context::{Context, ContextCommand, HubArgs};
use exit::{Code, Done, Failure, TABLE};

const FIRST_STEPS: &str = "\
First steps:
  hub serve                        run a hub on this machine
  hub push hello.wasm --tag hello:1
  hub example | hub apply -f -     apply a manifest and watch it become steady
  hub get all                      what should run, and what does
  hub describe workload hello      what it waits for, and why";

/// Skerry's hub: runs the control side of a fleet of boards, and talks to it.
#[derive(Parser)]
#[command(
    name = "hub",
    version,
    propagate_version = true,
    max_term_width = 100,
    arg_required_else_help = true
)]
#[command(after_help = format!("{FIRST_STEPS}\n\n{TABLE}"))]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
    #[command(flatten)]
    hub: HubArgs,
}

#[derive(Subcommand)]
enum Command {
    /// Apply manifests, and watch until the reachable boards have followed
    Apply(apply::ApplyArgs),
    /// Show what an apply would change
    Diff(apply::DiffArgs),
    /// List workloads, instances, agents, artifacts, images or events
    Get(get::GetArgs),
    /// Everything about one workload, agent or artifact, and what it waits for
    Describe(describe::DescribeArgs),
    /// What a field of a manifest means: hub explain workload.spec.mounts
    Explain {
        path: Option<String>,
    },
    /// Delete workloads, agents or artifacts
    Delete(change::DeleteArgs),
    /// Change the number of replicas; restarts nothing
    Scale(change::ScaleArgs),
    /// Restart a workload's instances
    Restart(change::RestartArgs),
    /// The boards: listed as by 'get agents', marked, drained, let in and sent away
    Agents(agents::AgentsArgs),
    /// Tokens with which boards join
    #[command(subcommand)]
    JoinToken(trust::TokenCommand),
    /// Tokens of operators and programs
    #[command(subcommand)]
    Token(access::TokenCommand),
    /// Roles: what a token may do
    #[command(subcommand)]
    Role(access::RoleCommand),
    /// How much a namespace may take, and what may not run in it
    #[command(subcommand, visible_alias = "ns")]
    Namespace(namespace::NamespaceCommand),
    /// Who did what, when, from where, and how it ended
    Audit(audit::AuditArgs),
    /// Keep a hub's address, its CA and a token as a context, and use it
    Login(login::LoginArgs),
    /// Whose token is used, and what it may do
    Whoami,
    /// The hub's certificate authority
    #[command(subcommand)]
    Ca(trust::CaCommand),
    /// What workloads said
    Logs(logs::LogsArgs),
    /// Run a command in a container: hub exec -it press -- sh
    Exec(session::ExecArgs),
    /// Copy files out of a container or into it: hub cp press:/data ./data
    Cp(session::CpArgs),
    /// What happened
    Events(logs::EventsArgs),
    /// Hand a WebAssembly module or component, or a container image, to the hub
    Push(push::PushArgs),
    /// What was pushed or fetched: the same as 'get artifacts'
    Artifacts(ArtifactsArgs),
    /// Container images, pushed or of other registries: what they are, for which boards, who uses them
    Images(ArtifactsArgs),
    /// Wait until workloads are steady or gone
    Wait(change::WaitArgs),
    /// A manifest to begin with: workload (the default), workload-full with every field, or container
    Example {
        name: Option<String>,
    },
    /// The JSON Schema of manifests, for editors
    Schema,
    /// The hub itself: store, broker, agents by state
    Status(hub_cmd::StatusArgs),
    /// After a lost or restored store
    #[command(subcommand)]
    Restore(hub_cmd::RestoreCommand),
    /// A broker of your own
    #[command(subcommand)]
    Broker(broker::BrokerCommand),
    /// Which hub is meant
    #[command(subcommand)]
    Context(ContextCommand),
    /// Completion for a shell: hub completion bash > /etc/bash_completion.d/hub
    Completion {
        shell: clap_complete::Shell,
    },
    /// The versions of this program and its contracts
    Version {
        #[arg(short, long)]
        output: Option<describe::JsonOnly>,
    },
    Serve(Box<ServeArgs>),
    Compile(CompileArgs),
    /// Compiles one file under limits and ends; started by the hub.
    #[command(hide = true)]
    CompileWorker(WorkerArgs),
    #[command(external_subcommand)]
    Unknown(Vec<String>),
}

#[derive(Debug, clap::Args)]
struct ArtifactsArgs {
    /// Only this one
    name: Option<String>,
    /// Go on showing changes until Ctrl-C
    #[arg(short, long)]
    watch: bool,
    #[arg(short, long, value_enum, default_value_t = get::Output::Table)]
    output: get::Output,
}

/// What the process has to do besides being a client.
pub enum Role {
    Serve(Box<ServeArgs>),
    Compile(CompileArgs),
    CompileWorker(WorkerArgs),
    Done(ExitCode),
}

pub fn main() -> Role {
    let cli = Cli::parse();
    match cli.command {
        Command::Serve(args) => Role::Serve(args),
        Command::Compile(args) => Role::Compile(args),
        Command::CompileWorker(args) => Role::CompileWorker(args),
        // What ends in the container ends here with the same code.
        Command::Exec(args) => ended(client(&cli.hub).and_then(|client| session::exec(&client, &args))),
        Command::Cp(args) => ended(client(&cli.hub).and_then(|client| session::cp(&client, &args))),
        command => Role::Done(report(perform(command, &cli.hub))),
    }
}

fn client(hub: &HubArgs) -> Done<Client> {
    Context::find(hub).and_then(Client::new)
}

fn ended(done: Done<ExitCode>) -> Role {
    Role::Done(done.unwrap_or_else(|failure| report(Err(failure))))
}

fn perform(command: Command, hub: &HubArgs) -> Done {
    let client = || client(hub);
    match command {
        Command::Apply(args) => apply::apply(client()?, &args),
        Command::Diff(args) => apply::diff(&client()?, &args),
        Command::Get(args) => get::main(client()?, &args),
        Command::Agents(args) => agents::main(client()?, args),
        Command::JoinToken(command) => trust::token(&client()?, &command),
        Command::Token(command) => access::token(&client()?, &command),
        Command::Role(command) => access::role(&client()?, &command),
        Command::Namespace(command) => namespace::main(&client()?, &command),
        Command::Audit(args) => audit::main(&client()?, &args),
        Command::Login(args) => login::main(&args, hub),
        Command::Whoami => access::whoami(&client()?),
        Command::Ca(command) => trust::ca(&client()?, &command),
        Command::Artifacts(args) => get::main(client()?, &args.list(kinds::Kind::Artifacts)),
        Command::Images(args) => get::main(client()?, &args.list(kinds::Kind::Images)),
        Command::Describe(args) => describe::main(&client()?, &args),
        Command::Delete(args) => change::delete(client()?, &args),
        Command::Scale(args) => change::scale(client()?, &args),
        Command::Restart(args) => change::restart(client()?, &args),
        Command::Logs(args) => logs::logs(client()?, &args),
        Command::Events(args) => logs::events(client()?, &args),
        Command::Push(args) => push::push(&client()?, &args),
        Command::Wait(args) => change::wait(client()?, &args),
        Command::Status(args) => hub_cmd::status(&client()?, &args),
        Command::Restore(command) => hub_cmd::restore(&client()?, &command),
        Command::Context(command) => context::main(&command, hub),
        other => offline(other),
    }
}

/// What needs no hub.
fn offline(command: Command) -> Done {
    match command {
        Command::Explain { path } => {
            let explained = manifest::explain(path.as_deref().unwrap_or("workload"));
            print(&explained.map_err(|why| Failure::new(Code::NotFound, why))?.to_string())
        }
        Command::Example { name } => {
            let name = name.as_deref().unwrap_or("workload");
            let known = || manifest::EXAMPLES.join(", ");
            let text = manifest::example(name);
            print(text.ok_or_else(|| {
                Failure::new(Code::NotFound, format!("no example '{name}'; there are: {}", known()))
            })?)
        }
        Command::Broker(command) => broker::run(command),
        Command::Schema => print(&serde_json::to_string_pretty(&manifest::schema()).unwrap_or_default()),
        Command::Completion { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "hub", &mut script);
            print(&String::from_utf8_lossy(&script))
        }
        Command::Version { output } => {
            let (version, contract) = (env!("CARGO_PKG_VERSION"), contract::message::CONTRACT_VERSION);
            match output {
                Some(_) => print(&serde_json::json!({"version": version, "contract": contract}).to_string()),
                None => print(&format!("hub {version}, contract {contract}")),
            }
        }
        Command::Unknown(words) => {
            let verb = words.first().map(String::as_str).unwrap_or_default();
            Err(Failure::usage(verbs::ours(verb).unwrap_or_else(|| unknown(verb))))
        }
        _ => unreachable!("performed before"),
    }
}

fn unknown(verb: &str) -> String {
    let command = Cli::command();
    let known =
        command.get_subcommands().map(|c| c.get_name().to_string()).filter(|name| name != "compile-worker");
    format!("no command '{verb}'; there are: {}", known.collect::<Vec<_>>().join(", "))
}

fn print(text: &str) -> Done {
    say!("{}", text.trim_end());
    Ok(())
}

fn report(done: Done) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() && failure.code != Code::Ok {
                eprintln!("hub: {failure}");
            }
            ExitCode::from(failure.code as u8)
        }
    }
}

impl ArtifactsArgs {
    fn list(self, kind: kinds::Kind) -> get::GetArgs {
        get::GetArgs::list(kind, self.name, None, self.watch, self.output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
