//! What a start costs, how soon a death is noticed, what a shim weighs. Run by hand on a quiet machine:
//! `cargo test --profile ci -p edge-agent --test measure -- --ignored --nocapture`

mod common;

use std::time::{Duration, Instant};

use common::*;
use edge_agent::instance::Runtime;

const ROUNDS: u64 = 40;

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn ms(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

/// Time on a processor, from the scheduler.
fn cpu_ms(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e6
}

fn own_cpu_ms() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

fn rollup_kib(pid: u32, field: &str) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find(|l| l.starts_with(field)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

async fn start(agent: &Runtime, name: &str, run: u64) -> u32 {
    let id = instance(name);
    let job = assignment(&id, &["sleep"]);
    agent.start(&id, run_id(run), &job, &guest("misbehave")).await.unwrap().pid
}

#[tokio::test]
#[ignore = "figures, not a verdict"]
async fn figures() {
    let board = Board::new();
    let (agent, mut exits) = board.agent();
    let (mut starts, mut cpu, mut noticed, mut removed) = (vec![], vec![], vec![], vec![]);
    let id = instance("one");
    let own_before = own_cpu_ms();
    for run in 0..ROUNDS {
        let begin = Instant::now();
        let pid = start(&agent, "one", run).await;
        starts.push(ms(begin));
        cpu.push(cpu_ms(pid));
        let handle = rustix::process::Pid::from_raw(pid as i32).unwrap();
        let begin = Instant::now();
        rustix::process::kill_process(handle, rustix::process::Signal::KILL).unwrap();
        exit_of(&mut exits).await;
        noticed.push(ms(begin));
        let begin = Instant::now();
        agent.remove(&id, run_id(run)).await.unwrap();
        removed.push(ms(begin));
    }
    println!("start -> guest runs, wall   {:6.2} ms", median(starts));
    println!("  shim's own processor time {:6.2} ms", median(cpu));
    println!("kill -9 -> exit told        {:6.2} ms", median(noticed));
    println!("remove                      {:6.2} ms", median(removed));
    println!("agent's processor time      {:6.2} ms a round", (own_cpu_ms() - own_before) / ROUNDS as f64);

    let mut tens = vec![];
    for run in 0..10 {
        let begin = Instant::now();
        let each = (0..10).map(|n| {
            let agent = agent.clone();
            tokio::spawn(async move { start(&agent, &format!("t{n}"), run).await })
        });
        for started in each.collect::<Vec<_>>() {
            started.await.unwrap();
        }
        tens.push(ms(begin));
        for n in 0..10 {
            agent.remove(&instance(&format!("t{n}")), run_id(run)).await.unwrap();
            exit_of(&mut exits).await;
        }
    }
    println!("ten at once -> all run      {:6.2} ms", median(tens));

    let mut pids = vec![start(&agent, "s0", 1).await];
    tokio::time::sleep(Duration::from_millis(300)).await;
    weigh(&pids);
    for n in 1..50 {
        pids.push(start(&agent, &format!("s{n}"), 1).await);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    weigh(&pids);

    drop((agent, exits));
    let begin = Instant::now();
    for pid in pids {
        let stop = rustix::process::Pid::from_raw(pid as i32).unwrap();
        rustix::process::kill_process(stop, rustix::process::Signal::TERM).unwrap();
    }
    until("all are gone", || board.processes().is_empty());
    println!("50 shims stopped            {:6.2} ms", ms(begin));
}

fn weigh(pids: &[u32]) {
    let each = |field: &str| median(pids.iter().map(|pid| rollup_kib(*pid, field)).collect());
    println!(
        "{:3} shims: private dirty {:.0} KiB, PSS {:.0} KiB, RSS {:.0} KiB each",
        pids.len(),
        each("Private_Dirty:"),
        each("Pss:"),
        each("Rss:"),
    );
}
