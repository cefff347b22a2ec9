//! Which system calls a container may make: Docker's default profile (moby, `profiles/seccomp/default.json`
//! at commit 00f3d189e420d485e42d15fe494f96d272284e0e) in our own words, with three differences:
//! io_uring is not allowed (Docker took it out later, for its many holes), process_vm_* and ptrace
//! are allowed as on any kernel since 4.8, and calls of 32-bit programs are left out, for those are killed.
//!
//! By number where the C library may not know the name yet; from 424 on all architectures agree.

use std::collections::{BTreeMap, BTreeSet};

use libc as c;
macro_rules! calls {
    ($($name:ident)*) => { &[$(c::$name),*] };
}

/// Everywhere.
const COMMON: &[i64] = calls![
    SYS_accept SYS_accept4 SYS_adjtimex SYS_bind SYS_brk SYS_capget SYS_capset SYS_chdir SYS_clock_adjtime
    SYS_clock_getres SYS_clock_gettime SYS_clock_nanosleep SYS_close SYS_connect SYS_copy_file_range SYS_dup SYS_dup3
    SYS_epoll_create1 SYS_epoll_ctl SYS_epoll_pwait SYS_eventfd2 SYS_execve SYS_execveat SYS_exit SYS_exit_group
    SYS_faccessat SYS_fadvise64 SYS_fallocate SYS_fanotify_mark SYS_fchdir SYS_fchmod SYS_fchmodat SYS_fchown
    SYS_fchownat SYS_fcntl SYS_fdatasync SYS_fgetxattr SYS_flistxattr SYS_flock SYS_fremovexattr SYS_fsetxattr
    SYS_fstat SYS_fstatfs SYS_fsync SYS_ftruncate SYS_futex SYS_get_robust_list SYS_getcpu SYS_getcwd
    SYS_getdents64 SYS_getegid SYS_geteuid SYS_getgid SYS_getgroups SYS_getitimer SYS_getpeername SYS_getpgid
    SYS_getpid SYS_getppid SYS_getpriority SYS_getrandom SYS_getresgid SYS_getresuid SYS_getrusage
    SYS_getsid SYS_getsockname SYS_getsockopt SYS_gettid SYS_gettimeofday SYS_getuid SYS_getxattr
    SYS_inotify_add_watch SYS_inotify_init1 SYS_inotify_rm_watch SYS_io_cancel SYS_io_destroy SYS_io_getevents
    SYS_io_setup SYS_io_submit SYS_ioctl SYS_ioprio_get SYS_ioprio_set SYS_kill SYS_lgetxattr SYS_linkat SYS_listen
    SYS_listxattr SYS_llistxattr SYS_lremovexattr SYS_lseek SYS_lsetxattr SYS_madvise SYS_membarrier SYS_memfd_create
    SYS_mincore SYS_mkdirat SYS_mknodat SYS_mlock SYS_mlock2 SYS_mlockall SYS_mmap SYS_mprotect SYS_mq_getsetattr
    SYS_mq_notify SYS_mq_open SYS_mq_timedreceive SYS_mq_timedsend SYS_mq_unlink SYS_mremap SYS_msgctl SYS_msgget
    SYS_msgrcv SYS_msgsnd SYS_msync SYS_munlock SYS_munlockall SYS_munmap SYS_name_to_handle_at SYS_nanosleep
    SYS_newfstatat SYS_openat SYS_pipe2 SYS_pkey_alloc SYS_pkey_free SYS_pkey_mprotect SYS_ppoll SYS_prctl
    SYS_pread64 SYS_preadv SYS_preadv2 SYS_prlimit64 SYS_process_vm_readv SYS_process_vm_writev SYS_pselect6
    SYS_ptrace SYS_pwrite64 SYS_pwritev SYS_pwritev2 SYS_read SYS_readahead SYS_readlinkat SYS_readv SYS_recvfrom
    SYS_recvmmsg SYS_recvmsg SYS_remap_file_pages SYS_removexattr SYS_renameat2 SYS_restart_syscall
    SYS_rseq SYS_rt_sigaction SYS_rt_sigpending SYS_rt_sigprocmask SYS_rt_sigqueueinfo SYS_rt_sigreturn
    SYS_rt_sigsuspend SYS_rt_sigtimedwait SYS_rt_tgsigqueueinfo SYS_sched_get_priority_max
    SYS_sched_get_priority_min SYS_sched_getaffinity SYS_sched_getattr SYS_sched_getparam SYS_sched_getscheduler
    SYS_sched_rr_get_interval SYS_sched_setaffinity SYS_sched_setattr SYS_sched_setparam SYS_sched_setscheduler
    SYS_sched_yield SYS_seccomp SYS_semctl SYS_semget SYS_semop SYS_semtimedop SYS_sendfile SYS_sendmmsg SYS_sendmsg
    SYS_sendto SYS_set_robust_list SYS_set_tid_address SYS_setfsgid SYS_setfsuid SYS_setgid SYS_setgroups
    SYS_setitimer SYS_setpgid SYS_setpriority SYS_setregid SYS_setresgid SYS_setresuid SYS_setreuid SYS_setsid SYS_setsockopt SYS_setuid SYS_setxattr SYS_shmat SYS_shmctl SYS_shmdt SYS_shmget SYS_shutdown
    SYS_sigaltstack SYS_signalfd4 SYS_socketpair SYS_splice SYS_statfs SYS_statx SYS_symlinkat SYS_sync
    SYS_syncfs SYS_sysinfo SYS_tee SYS_tgkill SYS_timer_create SYS_timer_delete
    SYS_timer_getoverrun SYS_timer_gettime SYS_timer_settime SYS_timerfd_create SYS_timerfd_gettime
    SYS_timerfd_settime SYS_times SYS_tkill SYS_truncate SYS_umask SYS_uname SYS_unlinkat SYS_utimensat SYS_vmsplice
    SYS_wait4 SYS_waitid SYS_write SYS_writev
];

/// The calls that newer architectures do not have any more.
#[cfg(target_arch = "x86_64")]
const OWN: &[i64] = calls![
    SYS_access SYS_alarm SYS_arch_prctl SYS_chmod SYS_chown SYS_creat SYS_dup2 SYS_epoll_create SYS_epoll_wait
    SYS_eventfd SYS_fork SYS_futimesat SYS_get_thread_area SYS_getdents SYS_getpgrp SYS_inotify_init SYS_lchown
    SYS_link SYS_lstat SYS_mkdir SYS_mknod SYS_modify_ldt SYS_open SYS_pause SYS_pipe SYS_poll SYS_readlink
    SYS_rename SYS_rmdir SYS_select SYS_set_thread_area SYS_signalfd SYS_stat SYS_symlink SYS_time SYS_unlink
    SYS_utime SYS_utimes SYS_vfork SYS_renameat SYS_sync_file_range SYS_getrlimit SYS_setrlimit
];
/// renameat, sync_file_range, getrlimit, setrlimit: not all C libraries name them here.
#[cfg(target_arch = "aarch64")]
const OWN: &[i64] = &[38, 84, 163, 164];

const IO_PGETEVENTS: i64 = if cfg!(target_arch = "x86_64") { 333 } else { 292 };

/// pidfd_send_signal, pidfd_open, close_range, openat2, faccessat2, epoll_pwait2, landlock (3), memfd_secret,
/// process_mrelease, futex_waitv, cachestat, fchmodat2, map_shadow_stack, futex_wake, futex_wait, futex_requeue.
const NEW: [i64; 18] =
    [424, 434, 436, 437, 439, 441, 444, 445, 446, 447, 448, 449, 451, 452, 453, 454, 455, 456];
const CLONE3: i64 = 435;
/// The first number that the profile says nothing about.
const UNKNOWN: i64 = 457;

/// What a call gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    Allow,
    Refuse(i32),
    /// Any of them; else EPERM.
    AllowIf(Vec<Test>),
}

/// On the first argument's lower 32 bits, which are all that these calls read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Test {
    Is(u32),
    IsNot(u32),
    HasNoneOf(u32),
}

/// What a capability opens, for without it the kernel refuses anyway.
const WITH: [(&str, &[i64]); 13] = [
    ("CAP_DAC_READ_SEARCH", calls![SYS_open_by_handle_at]),
    (
        "CAP_SYS_ADMIN",
        calls![
            SYS_bpf SYS_clone SYS_fanotify_init SYS_mount SYS_perf_event_open SYS_quotactl SYS_setdomainname
            SYS_sethostname SYS_setns SYS_syslog SYS_umount2 SYS_unshare
        ],
    ),
    // open_tree, move_mount, fsopen, fsconfig, fsmount, fspick, clone3, mount_setattr, quotactl_fd
    ("CAP_SYS_ADMIN", &[428, 429, 430, 431, 432, 433, CLONE3, 442, 443]),
    ("CAP_SYS_BOOT", calls![SYS_reboot]),
    ("CAP_SYS_CHROOT", calls![SYS_chroot]),
    ("CAP_SYS_MODULE", calls![SYS_delete_module SYS_init_module SYS_finit_module]),
    ("CAP_SYS_PACCT", calls![SYS_acct]),
    // kcmp by name; pidfd_getfd, process_madvise
    ("CAP_SYS_PTRACE", &[c::SYS_kcmp, 438, 440]),
    ("CAP_SYS_TIME", calls![SYS_settimeofday SYS_clock_settime]),
    ("CAP_SYS_TTY_CONFIG", calls![SYS_vhangup]),
    // and set_mempolicy_home_node
    ("CAP_SYS_NICE", &[c::SYS_get_mempolicy, c::SYS_mbind, c::SYS_set_mempolicy, 450]),
    ("CAP_SYSLOG", calls![SYS_syslog]),
    ("CAP_BPF", calls![SYS_bpf]),
];

/// By number what is not refused with EPERM.
pub fn answers(capabilities: &BTreeSet<String>) -> BTreeMap<i64, Answer> {
    let plain = COMMON.iter().chain(OWN).chain(&NEW).copied().chain([IO_PGETEVENTS]);
    let mut answers: BTreeMap<i64, Answer> = plain.map(|call| (call, Answer::Allow)).collect();
    answers.insert(c::SYS_personality, Answer::AllowIf(PERSONALITIES.map(Test::Is).to_vec()));
    // Not to the hypervisor's own network.
    answers.insert(c::SYS_socket, Answer::AllowIf(vec![Test::IsNot(c::AF_VSOCK as u32)]));
    // Threads and processes, but no namespaces.
    answers.insert(c::SYS_clone, Answer::AllowIf(vec![Test::HasNoneOf(NEW_NAMESPACES)]));
    // Its arguments lie in memory, where no filter sees them; C libraries fall back to clone.
    answers.insert(CLONE3, Answer::Refuse(c::ENOSYS));
    for (_, calls) in WITH.iter().filter(|(capability, _)| capabilities.contains(*capability)) {
        answers.extend(calls.iter().map(|call| (*call, Answer::Allow)));
    }
    #[cfg(target_arch = "x86_64")]
    if capabilities.contains("CAP_SYS_RAWIO") {
        answers.extend([(c::SYS_iopl, Answer::Allow), (c::SYS_ioperm, Answer::Allow)]);
    }
    if capabilities.contains("CAP_PERFMON") {
        answers.insert(c::SYS_perf_event_open, Answer::Allow);
    }
    answers
}

/// The same for every number, said where it changes.
pub fn ranges(capabilities: &BTreeSet<String>) -> BTreeMap<u32, Answer> {
    let named = answers(capabilities);
    let mut ranges: BTreeMap<u32, Answer> = BTreeMap::new();
    for number in 0..UNKNOWN {
        let answer = named.get(&number).cloned().unwrap_or(Answer::Refuse(c::EPERM));
        if ranges.last_key_value().is_none_or(|(_, last)| *last != answer) {
            ranges.insert(number as u32, answer);
        }
    }
    ranges.insert(UNKNOWN as u32, Answer::Refuse(c::ENOSYS));
    ranges
}

/// CLONE_NEWNS, CGROUP, UTS, IPC, USER, PID and NET.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

/// Linux, 32-bit Linux, the two again with the old memory layout, and the question.
const PERSONALITIES: [u32; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
