//! What does the store cost on this disk? Prints the time and bytes of commits, the time of an open,
//! memory, and wakeups at idle. `cargo run --profile ci -p skerry-kv --example figures [dir]`

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use skerry_kv::*;

const COMMITS: usize = 20_000;
const IDLE: Duration = Duration::from_secs(60);

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let place = std::env::args_os().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = place.join(format!("skerry-kv-figures-{}", std::process::id()));
    println!("store in {}; 50 records of 300 bytes", dir.display());
    println!("before the store:   {}", memory());

    let started = Instant::now();
    let mut kv = SledKv::open(&dir, &Options::default())?;
    println!("first open:         {:?}; {}", started.elapsed(), memory());
    commits(&mut kv)?;
    println!("size of the store:  {} KiB beside the reserve; {}", size(&dir)? >> 10, memory());
    drop(kv);
    let started = Instant::now();
    let kv = SledKv::open(&dir, &Options::default())?;
    println!("open again:         {:?}", started.elapsed());
    grouped(kv)?;
    let opened = Instant::now();
    let kv = SledKv::open(&dir, &Options::default())?;
    println!("open again:         {:?}; {}", opened.elapsed(), memory());
    idle();
    drop(kv);
    for entry in fs::read_dir(&place)?.flatten() {
        let path = entry.path();
        if path == dir {
            fs::remove_dir_all(path)?;
        } else if path.as_os_str() == format!("{}.lock", dir.display()).as_str() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

fn commits(kv: &mut SledKv) -> Result<(), KvError> {
    let mut times = Vec::with_capacity(COMMITS);
    let before = io("write_bytes");
    for n in 0..COMMITS {
        let mut batch = Batch::new();
        batch.put(format!("wl/{:04}/state", n % 50), vec![n as u8; 300]);
        let started = Instant::now();
        kv.commit(batch)?;
        times.push(started.elapsed());
    }
    times.sort();
    let at = |share: usize| times[COMMITS * share / 1000];
    println!("one commit:         p50 {:?}, p99 {:?}, p99.9 {:?}", at(500), at(990), at(999));
    println!("bytes to the disk:  {} a commit", (io("write_bytes") - before) / COMMITS as u64);
    Ok(())
}

/// The same through the store thread, a hundred waiting at any time.
fn grouped(kv: SledKv) -> Result<(), Box<dyn std::error::Error>> {
    let thread = StoreThread::start(Box::new(kv), 100)?;
    let (send, receive) = channel();
    let started = Instant::now();
    let mut waiting = 0;
    for n in 0..COMMITS {
        if waiting == 100 {
            receive.recv()?;
            waiting -= 1;
        }
        let (mut batch, send) = (Batch::new(), send.clone());
        batch.put(format!("wl/{:04}/state", n % 50), vec![n as u8; 300]);
        thread
            .submit(batch, move |answer| send.send(answer.is_ok()).unwrap_or(()))
            .map_err(|e| format!("{e:?}"))?;
        waiting += 1;
    }
    drop(thread);
    println!("grouped, 100 wait:  {:?} a commit", started.elapsed() / COMMITS as u32);
    Ok(())
}

fn idle() {
    let (switches, written) = (voluntary_switches(), io("write_bytes"));
    std::thread::sleep(IDLE);
    let (switches, written) = (voluntary_switches() - switches, io("write_bytes") - written);
    println!(
        "idle for {IDLE:?}:      {switches} voluntary switches of {} threads, {written} bytes",
        threads()
    );
}

fn threads() -> usize {
    fs::read_dir("/proc/self/task").map_or(0, Iterator::count)
}

fn voluntary_switches() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    tasks.map(|task| field(&task.path().join("status"), "voluntary_ctxt_switches")).sum::<u64>()
}

fn io(name: &str) -> u64 {
    field(Path::new("/proc/self/io"), name)
}

fn field(file: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|value| value.parse().ok()).unwrap_or(0)
}

fn memory() -> String {
    let rollup = Path::new("/proc/self/smaps_rollup");
    let (pss, dirty) = (field(rollup, "Pss:"), field(rollup, "Private_Dirty:"));
    format!("PSS {pss} KiB, private dirty {dirty} KiB, {} threads", threads())
}

fn size(dir: &Path) -> std::io::Result<u64> {
    let files = fs::read_dir(dir)?.flatten().filter(|file| file.file_name() != "reserve");
    Ok(files
        .filter_map(|file| file.metadata().ok())
        .filter(|file| file.is_file())
        .map(|file| file.len())
        .sum())
}
