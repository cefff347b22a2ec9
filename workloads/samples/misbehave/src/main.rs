//! Does one bad thing, to show that it hurts nobody else.
//!
//! `misbehave spin | hog | oom | trap | exit N | flood | fill PATH | sleep`

use std::fs::File;
use std::hint::black_box;
use std::io::Write;
use std::process::exit;
use std::time::Duration;

const MIB: usize = 1 << 20;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        ["spin"] => spin(),
        ["hog"] => hog(),
        ["oom"] => oom(),
        ["trap"] => trap(),
        ["exit", code] => exit(code.parse().unwrap_or(2)),
        ["flood"] => flood(),
        ["fill", path] => fill(path),
        ["sleep"] => loop {
            std::thread::sleep(Duration::from_secs(3600));
        },
        _ => {
            eprintln!("misbehave spin | hog | oom | trap | exit N | flood | fill PATH | sleep");
            exit(2)
        }
    }
}

/// Uses up all the processor time there is.
fn spin() {
    println!("spinning");
    let mut n = 0u64;
    loop {
        n = black_box(n.wrapping_add(1));
    }
}

/// Asks for memory until it is told no, says how far it came, and ends in good order.
fn hog() {
    let mut held: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut block = Vec::new();
        if block.try_reserve_exact(MIB).is_err() {
            println!("refused after {} MiB", held.len());
            exit(3);
        }
        block.resize(MIB, 1);
        held.push(black_box(block));
    }
}

/// Touches memory without end and does not look at refusals: its allocator aborts, or it is killed.
fn oom() {
    let mut held = Vec::new();
    loop {
        held.push(black_box(vec![1u8; MIB]));
        println!("{} MiB", held.len());
    }
}

/// Reads where nothing is. In WebAssembly only an address beyond the memory's end is that.
fn trap() {
    println!("trapping");
    let wild = black_box(0xffff_fff0usize) as *const u32;
    // SAFETY: none; the point is that the sandbox holds.
    let value = unsafe { wild.read_volatile() };
    println!("read {value}: this must never be seen");
}

/// Prints as fast as it can.
fn flood() {
    let line = "all work and no play makes a dull log ".repeat(26);
    let mut out = std::io::stdout().lock();
    let mut count = 0u64;
    loop {
        count += 1;
        if writeln!(out, "{count} {line}").is_err() {
            exit(4);
        }
    }
}

/// Writes to one file until it may not.
fn fill(path: &str) {
    let mut file = File::create(path).unwrap_or_else(|e| {
        eprintln!("{path}: {e}");
        exit(5)
    });
    let block = vec![0xa5u8; MIB];
    let mut written = 0usize;
    loop {
        match file.write(&block) {
            Ok(0) => break,
            Ok(n) => written += n,
            Err(e) => {
                println!("stopped after {} MiB: {e}", written / MIB);
                break;
            }
        }
    }
    exit(6)
}
