//! Probes as the shell asks them, of real servers on real sockets: what is well, what is not, in what
//! words, and how often.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use agent_core::api::{Asking, Event};
use contract::run::{ProbeAsk, RunProbe};
use contract::status::ProbeKind;
use contract::{InstanceId, RunId};
use edge_agent::instance::Places;
use edge_agent::probe::Prober;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::{LocalSet, spawn_local};

const PATIENCE: Duration = Duration::from_secs(60);

fn on_one_thread(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn prober(exe: &str) -> (Prober, Receiver<Event>) {
    let (events, queue) = channel(16);
    (Prober::new(exe.into(), Places::new("/nowhere/run", "/nowhere/state"), events), queue)
}

/// Of what answers: however slow the machine is.
const PATIENT_MS: u64 = 30_000;

fn asking(ask: ProbeAsk, timeout_ms: u64) -> Asking {
    let probe = RunProbe {
        ask,
        initial_delay_ms: 0,
        period_ms: 50,
        timeout_ms,
        success_threshold: 1,
        failure_threshold: 2,
    };
    Asking { probe, delay_ms: 0 }
}

fn get(to: SocketAddr, path: &str, headers: &[(&str, &str)]) -> ProbeAsk {
    let headers: BTreeMap<_, _> = headers.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    ProbeAsk::Http { host: to.ip(), port: to.port(), path: path.into(), headers }
}

const RUN: RunId = RunId { boots: 1, number: 1 };

fn instance() -> InstanceId {
    "test/web/0".parse().unwrap()
}

async fn answer(queue: &mut Receiver<Event>) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, queue.recv()).await.expect("an answer").expect("it lives") {
        Event::Probed { instance: of, run: RUN, which: ProbeKind::Liveness, answer } if of == instance() => {
            answer
        }
        other => panic!("{other:?}"),
    }
}

/// The first answer to one question.
async fn asked(ask: ProbeAsk) -> Result<(), String> {
    asked_for(ask, PATIENT_MS).await
}

async fn asked_for(ask: ProbeAsk, timeout_ms: u64) -> Result<(), String> {
    let (mut prober, mut queue) = prober("/proc/self/exe");
    prober.ask(instance(), RUN, ProbeKind::Liveness, Some(asking(ask, timeout_ms)));
    answer(&mut queue).await
}

/// What a server saw, and how it answers: the request's head in, the answer's bytes out.
struct Server {
    address: SocketAddr,
    asked: Arc<AtomicUsize>,
}

async fn server(answers: impl Fn(&str) -> String + 'static) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    spawn_local(async move {
        let answers = std::rc::Rc::new(answers);
        while let Ok((mut stream, _)) = listener.accept().await {
            let (answers, count) = (answers.clone(), count.clone());
            spawn_local(async move {
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let mut byte = [0];
                    if stream.read_exact(&mut byte).await.is_err() {
                        return;
                    }
                    head.push(byte[0]);
                }
                count.fetch_add(1, Ordering::Relaxed);
                let answer = answers(&String::from_utf8_lossy(&head));
                let _ = stream.write_all(answer.as_bytes()).await;
                if answer.contains("X-Hold") {
                    std::future::pending::<()>().await;
                }
            });
        }
    });
    Server { address, asked }
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

#[test]
fn http_status_decides_and_the_words_say_what_was_asked() {
    on_one_thread(async {
        let server = server(|head| match head.split(' ').nth(1).unwrap() {
            "/ok" => ok("well"),
            "/old" => "HTTP/1.0 200 OK\r\n\r\nuntil the end".into(),
            "/204" => "HTTP/1.1 204 No Content\r\n\r\n".into(),
            "/304" => "HTTP/1.1 304 Not Modified\r\n\r\n".into(),
            "/503" => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 13\r\n\r\nout of\n paper".into(),
            "/404" => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".into(),
            "/noise" => "SSH-2.0-OpenSSH_9.2\r\n".into(),
            "/silent" => "HTTP/1.1 200 OK\r\nX-Hold: 1\r\nContent-Length: 50\r\n\r\nonly a part".into(),
            "/endless" => format!("HTTP/1.1 200 OK\r\nX-Hold: 1\r\n\r\n{}", "x".repeat(1 << 20)),
            "/heads" => format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(1 << 20)),
            other => panic!("{other}"),
        })
        .await;
        let ask = |path: &str| asked(get(server.address, path, &[]));
        for path in ["/ok", "/old", "/204", "/304", "/endless"] {
            assert_eq!(ask(path).await, Ok(()), "{path}");
        }
        let prefix = format!("GET http://{}", server.address);
        let said = |path: &str, words: &str| format!("{prefix}{path}: {words}");
        assert_eq!(ask("/503").await, Err(said("/503", "503 Service Unavailable: out of paper")));
        assert_eq!(ask("/404").await, Err(said("/404", "404 Not Found")));
        let silent = asked_for(get(server.address, "/silent", &[]), 300).await;
        assert_eq!(silent, Err(said("/silent", "no answer within 300ms")));
        for path in ["/noise", "/heads"] {
            let error = ask(path).await.unwrap_err();
            assert!(error.len() < 200 && error.starts_with(&prefix), "{error}");
        }
    });
}

#[test]
fn headers_are_sent_and_the_host_may_be_another() {
    on_one_thread(async {
        let server = server(|head| {
            let head = head.to_ascii_lowercase();
            let has = |line: &str| head.contains(line);
            match has("host: shop.example\r\n") && has("x-probe: 1\r\n") && has("user-agent: skerry-probe/") {
                true => ok("well"),
                false => "HTTP/1.1 421 Misdirected Request\r\n\r\n".into(),
            }
        })
        .await;
        let headers = [("Host", "shop.example"), ("X-Probe", "1")];
        assert_eq!(asked(get(server.address, "/", &headers)).await, Ok(()));
        let error = asked(get(server.address, "/", &[])).await.unwrap_err();
        assert!(error.ends_with("421 Misdirected Request"), "{error}");
    });
}

#[test]
fn redirects_are_followed_on_the_same_host_only() {
    on_one_thread(async {
        let server = server(|head| {
            let to =
                |place: &str| format!("HTTP/1.1 302 Found\r\nLocation: {place}\r\nContent-Length: 0\r\n\r\n");
            let host = head.lines().find_map(|l| l.strip_prefix("host: ")).unwrap_or_default();
            match head.split(' ').nth(1).unwrap() {
                "/ill" => "HTTP/1.1 500 Oops\r\n\r\n".into(),
                "/here" => to("/ill"),
                "/beside/x" => to("../ill"),
                "/beside/../ill" => "HTTP/1.1 500 Oops\r\n\r\n".into(),
                "/whole" => to(&format!("http://{host}/ill")),
                "/round" => to("/round"),
                // Where nobody answers, so that asking there would be seen.
                "/away" => to("http://192.0.2.1/ill"),
                "/secure" => to(&format!("https://{host}/ill")),
                "/nowhere" => "HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".into(),
                other => panic!("{other}"),
            }
        })
        .await;
        let ask = |path: &str| asked(get(server.address, path, &[]));
        for path in ["/here", "/whole", "/beside/x"] {
            assert!(ask(path).await.unwrap_err().contains("500"), "{path} is followed");
        }
        for path in ["/away", "/secure", "/nowhere"] {
            assert_eq!(ask(path).await, Ok(()), "{path} is an answer");
        }
        let before = server.asked.load(Ordering::Relaxed);
        assert!(ask("/round").await.unwrap_err().contains("more than 10 redirects"));
        let questions = server.asked.load(Ordering::Relaxed) - before;
        assert!((11..=22).contains(&questions), "{questions}: it has an end");
    });
}

#[test]
fn tcp_is_a_connection_and_nothing_more() {
    on_one_thread(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        assert_eq!(asked(ProbeAsk::Tcp { host: to.ip(), port: to.port() }).await, Ok(()));
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0, "closed, nothing was said");
        drop(listener);
        let error = asked(ProbeAsk::Tcp { host: to.ip(), port: to.port() }).await.unwrap_err();
        assert_eq!(error, format!("tcp {to}: connection refused"));
    });
}

/// `shim exec` is another program here, which is told the same and ends as this test wants.
#[test]
fn a_command_ends_well_or_tells_why_not() {
    on_one_thread(async {
        let dir = tempfile::tempdir().unwrap();
        let exe = dir.path().join("joins");
        let script = "#!/bin/sh\n[ \"$1 $2 $4 $6\" = 'shim exec --timeout-ms --' ] || { echo \"$@\"; exit 99; }\n\
             [ \"$3\" = /nowhere/run/instances/test.web.0/1-1 ] || { echo \"$3\"; exit 98; }\n\
             limit=$5; shift 6; case $1 in well) ;; ill) echo not yet; echo really >&2; exit 7 ;;\n\
             late) exit 124 ;; stuck) sleep 100 & exec sleep 100 ;; left) sleep 600 & echo $! > ${0%/*}/left; exit 0 ;;\n\
             loud) yes | head -c 3000000; exit 1 ;; esac\n";
        std::fs::write(&exe, script).unwrap();
        std::fs::set_permissions(&exe, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let ask_for = async |word: &str, timeout_ms| {
            let (mut prober, mut queue) = prober(exe.to_str().unwrap());
            let command = vec![word.to_string(), "-q".to_string()];
            let asking = asking(ProbeAsk::Exec { command }, timeout_ms);
            prober.ask(instance(), RUN, ProbeKind::Liveness, Some(asking));
            answer(&mut queue).await
        };
        let ask = async |word: &str| ask_for(word, PATIENT_MS).await;
        assert_eq!(ask("well").await, Ok(()));
        assert_eq!(ask("ill").await, Err("exec ill -q: exit code 7: not yet really".into()));
        assert_eq!(ask("late").await, Err("exec late -q: no answer within 30s".into()));
        assert_eq!(ask("left").await, Ok(()), "what it left behind is not waited for");
        let left = std::fs::read_to_string(dir.path().join("left")).unwrap().trim().parse().unwrap();
        let left = rustix::process::Pid::from_raw(left).unwrap();
        rustix::process::kill_process(left, rustix::process::Signal::KILL).expect("it runs yet");
        let loud = ask("loud").await.unwrap_err();
        assert!(loud.starts_with("exec loud -q: exit code 1: y y") && loud.len() <= 1024, "{}", loud.len());
        assert_eq!(ask_for("stuck", 300).await, Err("exec stuck -q: no answer within 300ms".into()));
        let (mut prober, mut queue) = prober("/nowhere/at/all");
        let command = vec!["well".to_string()];
        let asking = asking(ProbeAsk::Exec { command }, PATIENT_MS);
        prober.ask(instance(), RUN, ProbeKind::Liveness, Some(asking));
        let silence = tokio::time::timeout(Duration::from_millis(500), queue.recv()).await;
        assert!(silence.is_err(), "that nobody could ask says nothing about the workload");
    });
}

#[test]
fn f30_what_goes_on_as_it_was_is_asked_and_not_told() {
    on_one_thread(async {
        let well = Arc::new(AtomicUsize::new(1));
        let now = well.clone();
        let server = server(move |_| match now.load(Ordering::Relaxed) {
            1 => ok("well"),
            _ => "HTTP/1.1 500 Oops\r\n\r\n".into(),
        })
        .await;
        let (mut prober, mut queue) = prober("/proc/self/exe");
        let asking = asking(get(server.address, "/", &[]), PATIENT_MS);
        prober.ask(instance(), RUN, ProbeKind::Liveness, Some(asking));
        assert_eq!(answer(&mut queue).await, Ok(()));
        let until = async |n: usize| {
            while server.asked.load(Ordering::Relaxed) < n {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        until(6).await;
        assert!(queue.try_recv().is_err(), "well, and well again");
        well.store(0, Ordering::Relaxed);
        for _ in 0..2 {
            assert!(answer(&mut queue).await.is_err(), "as often as the threshold says");
        }
        until(server.asked.load(Ordering::Relaxed) + 4).await;
        assert!(queue.try_recv().is_err(), "ill, and ill again");
        well.store(1, Ordering::Relaxed);
        assert_eq!(answer(&mut queue).await, Ok(()));
        prober.ask(instance(), RUN, ProbeKind::Liveness, None);
        let asked_no_more = async {
            let mut asked = 0;
            while asked != server.asked.load(Ordering::Relaxed) {
                asked = server.asked.load(Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        };
        tokio::time::timeout(PATIENCE, asked_no_more).await.expect("asked no more");
    });
}

#[test]
fn a_slow_server_is_asked_one_question_at_a_time() {
    on_one_thread(async {
        let open = Arc::new(AtomicUsize::new(0));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let to = listener.local_addr().unwrap();
        let (seen, most) = (open.clone(), Arc::new(AtomicUsize::new(0)));
        let highest = most.clone();
        spawn_local(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // Whoever was closed before this one was opened is seen to be so first.
                tokio::time::sleep(Duration::from_millis(20)).await;
                tokio::task::yield_now().await;
                highest.fetch_max(seen.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                let seen = seen.clone();
                spawn_local(async move {
                    while stream.read(&mut [0; 512]).await.is_ok_and(|n| n > 0) {}
                    seen.fetch_sub(1, Ordering::Relaxed);
                });
            }
        });
        let (mut prober, mut queue) = prober("/proc/self/exe");
        prober.ask(instance(), RUN, ProbeKind::Liveness, Some(asking(get(to, "/", &[]), 300)));
        for _ in 0..2 {
            assert!(answer(&mut queue).await.unwrap_err().ends_with("no answer within 300ms"));
        }
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert_eq!(most.load(Ordering::Relaxed), 1, "a period of 50 ms, a time-out of 300 ms");
    });
}

/// Of this thread, user and system.
fn cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// `cargo test cost -- --nocapture` shows what it measures.
#[test]
fn cost_of_a_hundred_http_probes() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = listener.local_addr().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    std::thread::spawn(move || {
        use std::io::{Read as _, Write as _};
        for mut stream in listener.incoming().flatten() {
            let mut head = [0; 1024];
            if stream.read(&mut head).is_ok_and(|n| n > 0) {
                count.fetch_add(1, Ordering::Relaxed);
                let _ = stream.write_all(ok("well").as_bytes());
            }
        }
    });
    on_one_thread(async {
        let (mut prober, mut queue) = prober("/proc/self/exe");
        for n in 0..100u64 {
            let mut asking = asking(get(to, "/healthz", &[]), PATIENT_MS);
            (asking.probe.period_ms, asking.delay_ms) = (500, n * 5);
            let run = RunId { boots: 1, number: n };
            prober.ask(instance(), run, ProbeKind::Liveness, Some(asking));
        }
        for _ in 0..100 {
            assert!(matches!(queue.recv().await, Some(Event::Probed { answer: Ok(()), .. })));
        }
        let (began, before) = (cpu(), asked.load(Ordering::Relaxed));
        let questions = || asked.load(Ordering::Relaxed) - before;
        let many = async {
            while questions() < 500 {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::time::timeout(PATIENCE * 2, many).await.expect("they are asked on and on");
        let each = (cpu() - began) / questions() as u32;
        println!("one HTTP probe: {each:?}; a hundred every 10 s: {:?} a minute", each * 600);
        assert!(queue.try_recv().is_err(), "well, and well again");
    });
}
