//! How large anything may get. Each number is named here once, with the sum that led to it.

/// A workload's manifest document as given, in bytes. 64 KiB holds a thousand environment lines.
pub const SPEC_BYTES_MAX: usize = 64 << 10;
/// One multi-document manifest file: 256 workloads of 4 KiB, or 16 of the largest.
pub const MANIFEST_BYTES_MAX: usize = 1 << 20;
/// One document: the largest Secret in base64, with indents; a workload is smaller ([`SPEC_BYTES_MAX`]).
pub const DOCUMENT_BYTES_MAX: usize = 512 << 10;
/// YAML nesting; the deepest legal path (`spec.rollout.batches[].size`) has six levels.
pub const MANIFEST_DEPTH_MAX: usize = 32;
/// Errors reported at once; past it "and n more".
pub const MANIFEST_ERRORS_MAX: usize = 50;

/// An MQTT payload on the wire, the embedded broker's packet limit less its header. Apply refuses
/// what would make an agent's document larger, naming agent and size.
pub const WIRE_BYTES_MAX: usize = 240 << 10;
/// The same after decompression; a zstd bomb ends here.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;
/// Payloads above this are compressed, if that makes them smaller: a signed heartbeat of 560 bytes, half
/// of it hexadecimal digits, becomes 430.
pub const COMPRESS_ABOVE_BYTES: usize = 256;

/// All values of one Config or Secret together, before base64: certificates with their chains are ~10 KiB,
/// a large configuration 200; four fit into one manifest file.
pub const DATA_BYTES_MAX: usize = 256 << 10;
/// Keys of one Config or Secret: each is a file in every instance that mounts it.
pub const DATA_KEYS_MAX: usize = 256;
/// The same, written down: base64, and the keys.
pub const DATA_BLOB_BYTES_MAX: u64 = 512 << 10;
/// Configs and Secrets of one hub. Their content lies on the disk; a name with its keys takes ~1 KB.
pub const DATA_OBJECTS_MAX: usize = 10_000;

/// Assignments in one agent's document. A board runs tens; 500 × 2 KiB fills the message.
pub const ASSIGNMENTS_MAX: usize = 500;
/// Instances of one workload on one agent.
pub const SLOTS_PER_AGENT_MAX: usize = 64;
/// Replicas of one workload over the fleet.
pub const REPLICAS_MAX: u32 = 10_000;

/// Events an agent keeps while nobody acknowledges them: 512 × ~200 B ≈ 100 KiB of memory.
pub const EVENT_SPOOL_MAX: usize = 512;
/// Events in one message: 64 × ≤ 1 KiB stays below the compression window of one packet.
pub const EVENTS_PER_MESSAGE_MAX: usize = 64;
/// Text a person reads (a reason, an exit message), in bytes; longer is cut at a character.
pub const REASON_BYTES_MAX: usize = 1024;

/// A reply over this goes by HTTP to a ticket (DESIGN §4).
pub const REPLY_BYTES_MAX: usize = 64 << 10;
/// One progress message of a command.
pub const PROGRESS_BYTES_MAX: usize = 16 << 10;
/// Commands an agent works on at once; one more is refused.
pub const COMMANDS_MAX: usize = 16;
/// Of these, sessions (`exec`, `cp`): each is a process of its own on the board, of about 1 MiB.
pub const SESSIONS_MAX: usize = 8;
/// A session's command and what it is given as environment. Shells write lines of up to 4 KiB.
pub const EXEC_BYTES_MAX: usize = 32 << 10;

/// A pushed WASM artefact. The largest public components are ~60 MB (language runtimes).
pub const ARTIFACT_BYTES_MAX: u64 = 64 << 20;
/// A pushed container image, as a file and unpacked from it. Flash of boards is 8 to 32 GiB.
pub const IMAGE_BYTES_MAX: u64 = 4 << 30;
/// Compiled code is up to ~4× the module (64 KiB section alignment on aarch64).
pub const COMPILED_BYTES_MAX: u64 = 256 << 20;

/// Effects leave a core in pages.
pub const EFFECTS_PAGE_MAX: usize = 1000;

/// Cut `text` to [`REASON_BYTES_MAX`] bytes at a character.
pub fn clip(text: &str) -> String {
    if text.len() <= REASON_BYTES_MAX {
        return text.to_string();
    }
    let mut end = REASON_BYTES_MAX - '…'.len_utf8();
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}
