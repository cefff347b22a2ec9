//! `hub exec`: a command in a container, as if it ran here.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;

use super::streams::{self, Taker};
use super::{connect, target, terminal};
use crate::api::session::{Ask, What};
use crate::cli::client::Client;
use crate::cli::exit::{Done, Failure};

#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  hub exec -it press -- sh              a shell, until it ends
  hub exec press -- cat /etc/hosts      output and exit code are the command's
  hub exec -i press/0@board-1 -- tar x -C /data < data.tar
The exit code is the command's; 126 and 127 where it cannot be run, 125 where the container could not
be joined. What ends this program ends the command, with all that it started.")]
pub struct ExecArgs {
    /// [namespace/]workload[/slot][@agent]; slot or agent where several instances run
    #[arg(value_name = "INSTANCE")]
    target: String,
    #[arg(short, long)]
    namespace: Option<String>,
    /// Pass on what is given here to read
    #[arg(short = 'i', long)]
    stdin: bool,
    /// With a terminal
    #[arg(short, long)]
    tty: bool,
    /// As whom: a user of the image, or numbers; the container's own when left out
    #[arg(short, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Where; the container's own when left out
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<String>,
    /// A variable over the container's own
    #[arg(short, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Written without `--`: to say what would be right.
    #[arg(hide = true)]
    stray: Vec<String>,
    /// The command and its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
    /// Of other commands: to say that there is none here.
    #[arg(short, long, hide = true)]
    output: Option<String>,
}

pub fn exec(client: &Client, args: &ExecArgs) -> Done<ExitCode> {
    let ask = ask(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let ended = runtime.block_on(async {
        let stream = connect::connect(client, &ask).await?;
        let given = args.stdin.then(|| streams::give(std::io::stdin()));
        let raw = if args.tty { Some(terminal::Raw::take()?) } else { None };
        let taker = Taker::stdio();
        let ended = streams::carry(stream, given, &taker, args.tty).await;
        let written = taker.finish();
        drop(raw);
        written.and(ended)
    })?;
    if !ended.why.is_empty() {
        eprintln!("hub exec: {}", ended.why);
    }
    Ok(ExitCode::from(ended.code))
}

fn ask(args: &ExecArgs) -> Done<Ask> {
    if args.output.is_some() {
        return Err(Failure::usage("exec has no -o: what the command says is passed on as it is"));
    }
    if !args.stray.is_empty() {
        let command = args.stray.iter().chain(&args.command).cloned().collect::<Vec<_>>().join(" ");
        return Err(Failure::usage(format!(
            "the command comes after '--': hub exec {} -- {command}",
            args.target
        )));
    }
    if args.command.is_empty() {
        return Err(Failure::usage(format!("which command? hub exec -it {} -- sh", args.target)));
    }
    if args.tty && !terminal::is_one() {
        return Err(Failure::usage(
            "-t needs a terminal on both sides of this program; leave it out for pipes",
        ));
    }
    let target = target::parse(&args.target)?;
    let mut env: BTreeMap<_, _> = args.env.iter().map(|text| variable(text)).collect::<Done<_>>()?;
    if args.tty {
        let term = std::env::var("TERM").unwrap_or_else(|_| "xterm".into());
        env.entry("TERM".into()).or_insert(term);
    }
    let what = What::Exec {
        command: args.command.clone(),
        env,
        user: args.user.clone(),
        workdir: args.workdir.clone(),
        terminal: if args.tty { terminal::size() } else { None },
        input: args.stdin,
    };
    let (namespace, slot, agent) = (args.namespace.clone(), target.slot, target.agent);
    Ok(Ask { workload: target.workload, namespace, slot, agent, what })
}

fn variable(text: &str) -> Done<(String, String)> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.into(), value.into())),
        _ => Err(Failure::usage(format!("--env: '{text}' is not NAME=VALUE"))),
    }
}
