//! `edge-agent check`: can this board do its work, and if not, what is to be done? Needs neither hub nor
//! agent and disturbs neither. `gather` looks, `judge` decides; between them lie plain facts.

mod args;
pub(crate) mod facts;
mod finding;
mod gather;
mod judge;

use std::process::ExitCode;

use args::Output;
pub use args::{BoardArgs, CheckArgs};
pub use facts::Facts;
pub use finding::Report;
use finding::State;
pub(crate) use gather::{output_within, system};

/// Something fails; clap's own errors are 2.
const EXIT_FAILS: u8 = 1;

/// What the board is, and what that means.
pub fn look(args: &BoardArgs) -> (Facts, Report) {
    let facts = gather::gather(args);
    let report = Report::new(judge::judge(&facts));
    (facts, report)
}

pub fn main(args: CheckArgs) -> anyhow::Result<ExitCode> {
    let (_, report) = look(&args.board);
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&report)?),
        Output::Table => print(&report),
    }
    Ok(if report.failed { ExitCode::from(EXIT_FAILS) } else { ExitCode::SUCCESS })
}

fn print(report: &Report) {
    for check in &report.checks {
        let color = match check.state {
            State::Ok => 32,
            State::Warn => 33,
            State::Fail => 31,
            State::Skipped => 90,
        };
        let state = crate::status::paint(&format!("{:<8}", check.state.word()), color);
        println!("{state} {:<15} {}", check.name, check.found);
        if let Some(remedy) = &check.remedy {
            println!("{:<24} → {remedy}", "");
        }
    }
    let count = |state| report.checks.iter().filter(|c| c.state == state).count();
    let [ok, warn, fail, skipped] = [State::Ok, State::Warn, State::Fail, State::Skipped].map(count);
    println!("\n{ok} ok, {warn} warn, {fail} fail, {skipped} skipped");
}
