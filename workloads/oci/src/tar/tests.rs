//! Whatever the bytes are, reading ends, and ends without a panic.

use std::io::Read;

use super::TarReader;

fn sample() -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, data) in [("a".repeat(200), &b"data"[..]), ("b".into(), &[7; 2000]), ("c/d".into(), b"")] {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, name, data).unwrap();
    }
    builder.into_inner().unwrap()
}

/// How many entries there were before the end or the first mistake.
fn read(bytes: &[u8]) -> usize {
    let mut tar = TarReader::new(bytes);
    let mut entries = 0;
    while let Ok(Some(_)) = tar.next() {
        entries += 1;
        let _ = std::io::copy(&mut tar.by_ref().take(1 << 20), &mut std::io::sink());
    }
    entries
}

#[test]
fn any_bytes_end() {
    let sample = sample();
    assert_eq!(read(&sample), 3);
    let mut state = 1u64;
    let mut next = |below: usize| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as usize % below
    };
    for _ in 0..20_000 {
        let mut bytes = sample.clone();
        for _ in 0..=next(4) {
            let at = next(bytes.len());
            bytes[at] = next(256) as u8;
        }
        bytes.truncate(next(bytes.len()));
        mend(&mut bytes);
        assert!(read(&bytes) <= 8);
    }
}

/// Most changes would only be seen by the checksum.
fn mend(bytes: &mut [u8]) {
    for block in bytes.chunks_exact_mut(512).filter(|b| b[257..262] == *b"ustar") {
        block[148..156].fill(b' ');
        let sum: u32 = block.iter().map(|b| u32::from(*b)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}
