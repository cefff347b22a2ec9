//! A development tool that runs inside a container: what the kernel answers to system calls by name.

use std::process::ExitCode;

/// Name, number, arguments that are harmless where the call is allowed.
const CALLS: [(&str, i64, [i64; 4]); 23] = [
    ("mount", libc::SYS_mount, [0, 0, 0, 0]),
    ("umount2", libc::SYS_umount2, [0, 0, 0, 0]),
    ("unshare", libc::SYS_unshare, [libc::CLONE_NEWUSER as i64, 0, 0, 0]),
    ("setns", libc::SYS_setns, [-1, 0, 0, 0]),
    ("bpf", libc::SYS_bpf, [0, 0, 0, 0]),
    ("perf_event_open", libc::SYS_perf_event_open, [0, 0, 0, 0]),
    ("keyctl", libc::SYS_keyctl, [0, -3, 0, 0]),
    ("init_module", libc::SYS_init_module, [0, 0, 0, 0]),
    ("kexec_load", libc::SYS_kexec_load, [0, 0, 0, 0]),
    ("reboot", libc::SYS_reboot, [0, 0, 0, 0]),
    ("personality", libc::SYS_personality, [0x40000, 0, 0, 0]),
    ("getpid", libc::SYS_getpid, [0; 4]),
    ("getuid", libc::SYS_getuid, [0; 4]),
    ("getcpu", libc::SYS_getcpu, [0; 4]),
    ("sched_yield", libc::SYS_sched_yield, [0; 4]),
    ("umask", libc::SYS_umask, [0o22, 0, 0, 0]),
    ("personality-ask", libc::SYS_personality, [0xffff_ffff, 0, 0, 0]),
    ("socket", libc::SYS_socket, [libc::AF_INET as i64, libc::SOCK_STREAM as i64, 0, 0]),
    ("eventfd2", libc::SYS_eventfd2, [0; 4]),
    ("epoll_create1", libc::SYS_epoll_create1, [0; 4]),
    ("clone3", libc::SYS_clone3, [0; 4]),
    ("vsock", libc::SYS_socket, [libc::AF_VSOCK as i64, libc::SOCK_STREAM as i64, 0, 0]),
    ("newer", 600, [0; 4]),
];

fn main() -> ExitCode {
    for (name, number, [a, b, c, d]) in CALLS {
        // SAFETY: every pointer is null or a string, and no call keeps one.
        let answer = unsafe { libc::syscall(number, a, b, c, d) };
        let errno = if answer < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
        println!("{name} {errno}");
    }
    ExitCode::SUCCESS
}
