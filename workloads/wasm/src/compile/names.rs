//! Which imports a board offers, and what to tell the author of any other.

/// Not offered; the text says what would be right.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown(pub &'static str);

const PREVIEW1: &str = "wasi_snapshot_preview1";

const PREVIEW1_FUNCTIONS: &[&str] = &[
    "args_get",
    "args_sizes_get",
    "clock_res_get",
    "clock_time_get",
    "environ_get",
    "environ_sizes_get",
    "fd_advise",
    "fd_allocate",
    "fd_close",
    "fd_datasync",
    "fd_fdstat_get",
    "fd_fdstat_set_flags",
    "fd_fdstat_set_rights",
    "fd_filestat_get",
    "fd_filestat_set_size",
    "fd_filestat_set_times",
    "fd_pread",
    "fd_prestat_dir_name",
    "fd_prestat_get",
    "fd_pwrite",
    "fd_read",
    "fd_readdir",
    "fd_renumber",
    "fd_seek",
    "fd_sync",
    "fd_tell",
    "fd_write",
    "path_create_directory",
    "path_filestat_get",
    "path_filestat_set_times",
    "path_link",
    "path_open",
    "path_readlink",
    "path_remove_directory",
    "path_rename",
    "path_symlink",
    "path_unlink_file",
    "poll_oneoff",
    "proc_exit",
    "proc_raise",
    "random_get",
    "sched_yield",
    "sock_accept",
    "sock_recv",
    "sock_send",
    "sock_shutdown",
];

const PREVIEW2_INTERFACES: &[&str] = &[
    "wasi:cli/environment",
    "wasi:cli/exit",
    "wasi:cli/stderr",
    "wasi:cli/stdin",
    "wasi:cli/stdout",
    "wasi:cli/terminal-input",
    "wasi:cli/terminal-output",
    "wasi:cli/terminal-stderr",
    "wasi:cli/terminal-stdin",
    "wasi:cli/terminal-stdout",
    "wasi:clocks/monotonic-clock",
    "wasi:clocks/wall-clock",
    "wasi:filesystem/preopens",
    "wasi:filesystem/types",
    "wasi:io/error",
    "wasi:io/poll",
    "wasi:io/streams",
    "wasi:random/insecure",
    "wasi:random/insecure-seed",
    "wasi:random/random",
    "wasi:sockets/instance-network",
    "wasi:sockets/ip-name-lookup",
    "wasi:sockets/network",
    "wasi:sockets/tcp",
    "wasi:sockets/tcp-create-socket",
    "wasi:sockets/udp",
    "wasi:sockets/udp-create-socket",
];

pub(super) fn check_preview1(module: &str, name: &str) -> Result<(), Unknown> {
    Err(Unknown(match module {
        PREVIEW1 if PREVIEW1_FUNCTIONS.contains(&name) => return Ok(()),
        PREVIEW1 => "WASI preview 1 has no such function",
        "wasi_unstable" => "this is WASI preview 0; build with a current compiler for wasm32-wasip1",
        "wasi" => "threads are not offered; build for wasm32-wasip1, not wasm32-wasip1-threads",
        "wbg" | "__wbindgen_placeholder__" | "__wbindgen_externref_xform__" => {
            "this is built for a browser by wasm-bindgen; build for wasm32-wasip1 instead of \
             wasm32-unknown-unknown, without wasm-bindgen"
        }
        "env" => {
            "a guest may only import wasi_snapshot_preview1: link what is missing into it, and build \
             for wasm32-wasip1 (not wasm32-unknown-unknown, not emscripten)"
        }
        "gojs" | "go" => "this is built for a browser; build with GOOS=wasip1 GOARCH=wasm",
        _ => "a module may only import wasi_snapshot_preview1; build for wasm32-wasip1",
    }))
}

pub(super) fn check_preview2(name: &str) -> Result<(), Unknown> {
    let (interface, version) = name.split_once('@').unwrap_or((name, ""));
    let known = PREVIEW2_INTERFACES.contains(&interface);
    Err(Unknown(match interface {
        _ if known && version.starts_with("0.2.") => return Ok(()),
        i if i.starts_with("wasi:") && !version.starts_with("0.2.") => {
            "boards offer WASI 0.2; build for wasm32-wasip2"
        }
        i if i.starts_with("wasi:http/") => {
            "wasi:http is not offered yet; use wasi:sockets (plain TCP) within network.connect"
        }
        i if i.starts_with("wasi:") => {
            "of WASI 0.2 boards offer cli, clocks, filesystem, io, random and sockets"
        }
        _ => "a component may only import WASI 0.2; compose what is missing into it (wac plug)",
    }))
}

/// What a file that is not WebAssembly looks like.
pub(super) fn describe_start(bytes: &[u8]) -> &'static str {
    let text = bytes.trim_ascii_start();
    match bytes {
        [] => "the file is empty",
        [0x7f, b'E', b'L', b'F', ..] => {
            "this is machine code (ELF); push the .wasm as built, the hub compiles it"
        }
        [0x1f, 0x8b, ..] => "this is gzip data; push the .wasm itself",
        [b'P', b'K', 3, 4, ..] => "this is a zip archive; push the .wasm itself",
        [0x28, 0xb5, 0x2f, 0xfd, ..] => "this is zstd data; push the .wasm itself",
        _ if text.starts_with(b"(module") || text.starts_with(b"(component") || text.starts_with(b";;") => {
            "this is the text format; assemble it first (wat2wasm, wasm-tools parse)"
        }
        _ => "the start is unknown",
    }
}
