//! From the file that somebody names to code that this engine runs. A board carries no compiler (a module
//! has been seen to need gigabytes), so a raw module is compiled by a hub's binary, and kept.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use contract::digest::Digest;
use contract::limits::ARTIFACT_BYTES_MAX;
use contract::quantity::Bytes;

/// Compiled trials that are kept; the oldest go first. Compiled code is ≤ 4× its module: some 100 MB.
const KEPT_MAX: usize = 16;

enum Kind {
    /// ELF: what wasmtime compiled.
    Compiled,
    /// A module or component as toolchains build it.
    Wasm,
    Text,
}

/// The file to run. A compiled one is taken as it is (the shim refuses what is not for this engine); it is
/// machine code, so it must be as trusted as a program.
pub fn runnable(path: &Path, hub: Option<&Path>) -> anyhow::Result<PathBuf> {
    match kind(path)? {
        Kind::Compiled => Ok(path.to_path_buf()),
        Kind::Wasm => compiled(path, hub),
        Kind::Text => bail!(
            "{} is text, not WebAssembly; turn .wat into .wasm with `wasm-tools parse {0} -o out.wasm`",
            path.display()
        ),
    }
}

fn kind(path: &Path) -> anyhow::Result<Kind> {
    let named = || path.display().to_string();
    let mut head = [0u8; 4];
    let read = File::open(path).and_then(|mut f| f.read_exact(&mut head));
    match read {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
            bail!("{} is no WebAssembly: it is too short", named())
        }
        other => other.with_context(named)?,
    }
    match &head {
        b"\0asm" => Ok(Kind::Wasm),
        b"\x7fELF" => Ok(Kind::Compiled),
        text if text.is_ascii() => Ok(Kind::Text),
        _ => bail!("{} is neither WebAssembly nor code that a hub compiled", named()),
    }
}

fn compiled(path: &Path, hub: Option<&Path>) -> anyhow::Result<PathBuf> {
    let size = fs::metadata(path)?.len();
    if size > ARTIFACT_BYTES_MAX {
        bail!("{} has {}; the limit is {}", path.display(), Bytes(size), Bytes(ARTIFACT_BYTES_MAX));
    }
    let bytes = fs::read(path).with_context(|| path.display().to_string())?;
    let engine = wasm::native_engine();
    let cache = cache_dir()?;
    let kept = cache.join(format!("{}-{engine}.cwasm", Digest::of(&bytes).hex()));
    if !kept.exists() {
        compile(&bytes, path, &cache, &kept, hub)?;
        forget_old(&cache);
    }
    Ok(kept)
}

/// The bytes whose digest names the result are compiled, whatever becomes of the file meanwhile.
fn compile(bytes: &[u8], path: &Path, cache: &Path, kept: &Path, hub: Option<&Path>) -> anyhow::Result<()> {
    let hub = find_hub(hub)?;
    let own = std::process::id();
    let (input, output) = (cache.join(format!("{own}.wasm")), cache.join(format!("{own}.out")));
    fs::write(&input, bytes).with_context(|| input.display().to_string())?;
    let result = Command::new(&hub)
        .arg("compile")
        .arg(&input)
        .arg("-o")
        .arg(&output)
        .args(["--engine", wasm::native_engine().as_str()])
        .stdin(Stdio::null())
        .output();
    let _ = fs::remove_file(&input);
    let result = result.with_context(|| hub.display().to_string())?;
    if !result.status.success() {
        let _ = fs::remove_file(&output);
        let said = String::from_utf8_lossy(&result.stderr);
        let said = said.trim().replace(&*input.to_string_lossy(), &path.to_string_lossy());
        bail!("{} cannot be compiled: {said}", path.display());
    }
    fs::rename(&output, kept).with_context(|| kept.display().to_string())
}

fn find_hub(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(hub) = named {
        return Ok(hub.to_path_buf());
    }
    let beside = std::env::current_exe().ok().and_then(|exe| Some(exe.parent()?.join("hub")));
    let in_path = std::env::var_os("PATH");
    let in_path = in_path.iter().flat_map(std::env::split_paths).map(|dir| dir.join("hub"));
    beside.into_iter().chain(in_path).find(|hub| hub.is_file()).context(
        "a .wasm file must be compiled first, and boards carry no compiler: put the `hub` binary beside \
         edge-agent or into PATH, or name it with --hub; or compile elsewhere with \
         `hub compile FILE -o OUT --engine ENGINE` (`edge-agent engine` prints ENGINE) and try OUT",
    )
}

/// What lies here is executed, so the directory must be ours alone.
fn cache_dir() -> anyhow::Result<PathBuf> {
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|p| p.is_absolute());
    let base = base.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
    let dir = base.unwrap_or_else(|| PathBuf::from("/var/cache")).join("skerry-try");
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&dir)
        .with_context(|| dir.display().to_string())?;
    let found = fs::symlink_metadata(&dir)?;
    let ours =
        found.is_dir() && found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0;
    if !ours {
        bail!("{} may be written by others; what is compiled there would not be trusted", dir.display());
    }
    Ok(dir)
}

fn forget_old(cache: &Path) {
    let Ok(entries) = fs::read_dir(cache) else { return };
    let with_age = |e: fs::DirEntry| Some((e.metadata().ok()?.modified().ok()?, e.path()));
    let mut kept: Vec<_> = entries.flatten().filter_map(with_age).collect();
    kept.sort();
    let surplus = kept.len().saturating_sub(KEPT_MAX);
    for (_, path) in &kept[..surplus] {
        let _ = fs::remove_file(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_run_is_said_in_words() {
        let tmp = tempfile::tempdir().unwrap();
        let refused = |bytes: &[u8]| {
            let path = tmp.path().join("x");
            fs::write(&path, bytes).unwrap();
            runnable(&path, None).map(drop).unwrap_err().to_string()
        };
        assert!(refused(b"(module)").contains("wasm-tools parse"));
        assert!(refused(b"").contains("too short"));
        assert!(refused(b"\xff\xfe\x00\x01").contains("neither"));
        assert!(runnable(&tmp.path().join("none"), None).is_err());
        fs::write(tmp.path().join("c"), b"\x7fELF").unwrap();
        assert_eq!(runnable(&tmp.path().join("c"), None).unwrap(), tmp.path().join("c"));
    }
}
