//! Says hello, then counts, one line a second; ends when told to.
//!
//! `hello [--exit N] [--after MS] [--every MS] [words…]` and the environment variable `GREETING`.

use std::process::exit;
use std::time::{Duration, Instant};

fn main() {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_else(|| "hello".into());
    let (mut code, mut after, mut every, mut words) = (0, None, 1000, Vec::new());
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--exit" => {
                code = number(&arg, args.next()) as i32;
                after = after.or(Some(0));
            }
            "--after" => after = Some(number(&arg, args.next())),
            "--every" => every = number(&arg, args.next()).max(1),
            _ => words.push(arg),
        }
    }
    let greeting = std::env::var("GREETING").unwrap_or_else(|_| "hello".into());
    println!("{greeting} from {name} {}", words.join(" "));

    let end = after.map(|ms| Instant::now() + Duration::from_millis(ms));
    for count in 1u64.. {
        let pause = Duration::from_millis(every);
        let left = end.map(|end| end.saturating_duration_since(Instant::now()));
        match left {
            Some(left) if left <= pause => {
                std::thread::sleep(left);
                exit(code);
            }
            _ => std::thread::sleep(pause),
        }
        println!("{count}");
    }
}

fn number(option: &str, value: Option<String>) -> u64 {
    value.and_then(|v| v.parse().ok()).unwrap_or_else(|| {
        eprintln!("{option} needs a number");
        exit(2)
    })
}
