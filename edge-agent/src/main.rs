//! Which of its lives this process lives: a shim, started for one instance, or the command line.

use std::process::ExitCode;

fn main() -> ExitCode {
    // Before clap, tokio and everything else: a shim must be cheap to start and single-threaded.
    let mut args = std::env::args_os().skip(1);
    if args.next().is_some_and(|first| first == "shim") {
        return edge_agent::shim::main(args);
    }
    edge_agent::cli::main()
}
