//! Replays one seed: `cargo run -p sim --profile ci -- --seed N [--trace] [--mutant NAME]`; or looks for
//! failing ones: `--from A --to B`.

use std::process::ExitCode;

use sim::{Mutant, Plan, World};

struct Args {
    from: u64,
    to: u64,
    trace: bool,
    mutant: Option<Mutant>,
}

fn args() -> Result<Args, String> {
    let mut found = Args { from: 0, to: 1, trace: false, mutant: None };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        let number = |text: String| text.parse::<u64>().map_err(|e| format!("'{text}' is no seed: {e}"));
        match arg.as_str() {
            "--seed" => {
                found.from = number(value()?)?;
                found.to = found.from + 1;
            }
            "--from" => found.from = number(value()?)?,
            "--to" => found.to = number(value()?)?,
            "--mutant" => found.mutant = Some(value()?.parse()?),
            "--trace" => found.trace = true,
            other => return Err(format!("'{other}': use --seed N, --from A --to B, --trace, --mutant NAME")),
        }
    }
    Ok(found)
}

fn main() -> ExitCode {
    let args = match args() {
        Ok(args) => args,
        Err(wrong) => {
            eprintln!("{wrong}");
            return ExitCode::from(2);
        }
    };
    let mut failed = 0;
    let mut by_name = std::collections::BTreeMap::<&str, Vec<u64>>::new();
    for seed in args.from..args.to {
        let mut world = World::new(seed, Plan::of(seed), args.mutant, args.trace);
        world.live();
        world.take_trace().iter().for_each(|line| println!("{line}"));
        if let Some(failure) = &world.failure {
            failed += 1;
            by_name.entry(failure.invariant).or_default().push(seed);
            println!("seed {seed}: {} at {} ms: {}", failure.invariant, failure.at, failure.text);
        } else if args.to == args.from + 1 {
            println!("seed {seed}: settled at {} ms after {} events", world.now, world.events);
            println!("{:#?}", world.plan);
        }
    }
    for (name, seeds) in &by_name {
        println!("{name}: {} seeds, the first {:?}", seeds.len(), &seeds[..seeds.len().min(8)]);
    }
    ExitCode::from(u8::from(failed > 0))
}
