//! The fuzz targets, run for a moment and the same way each time: every seed of the corpus, and
//! mutations of it by a fixed generator. The long run is `cargo +nightly fuzz run <target>`.

#[path = "../fuzz/src/codec.rs"]
mod codec;
#[path = "../fuzz/src/manifest.rs"]
mod manifest;

/// xorshift64*: any generator would do, but the same on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % sides.max(1)
    }
}

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = format!("{}/fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()).collect();
    files.sort();
    let seeds = files.iter().filter(|file| file.extension().is_some_and(|e| e == "seed"));
    let seeds: Vec<_> = seeds.map(|file| std::fs::read(file).unwrap()).collect();
    assert!(seeds.len() >= 8, "{folder} holds the seeds");
    seeds
}

/// Up to four small changes, of the kinds that break parsers.
fn mutate(dice: &mut Dice, seeds: &[Vec<u8>]) -> Vec<u8> {
    const ODD: [&[u8]; 16] = [
        b"---\n",
        b"\t",
        b": ",
        b"- ",
        b"\"",
        b"'",
        b"{",
        b"[",
        b"&a ",
        b"*a",
        b"\\u",
        b"!!",
        b"|\n",
        b"\0",
        b"\xff",
        b"\xe2\x80\xa8",
    ];
    let mut bytes = seeds[dice.roll(seeds.len())].clone();
    for _ in 0..=dice.roll(4) {
        let at = dice.roll(bytes.len() + 1);
        let end = (at + dice.roll(8)).min(bytes.len());
        match dice.roll(6) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, ODD[dice.roll(ODD.len())].iter().copied())),
            2 if at < bytes.len() => bytes[at] ^= 1 << dice.roll(8),
            3 => bytes.truncate(at),
            4 => {
                let other = &seeds[dice.roll(seeds.len())];
                let from = dice.roll(other.len() + 1);
                let piece = other[from..(from + dice.roll(64)).min(other.len())].to_vec();
                drop(bytes.splice(at..end, piece));
            }
            _ => {
                let piece = bytes[at..end].repeat(1 + dice.roll(40));
                drop(bytes.splice(at..at, piece));
            }
        }
    }
    bytes
}

fn smoke(target: &str, rounds: usize, fuzz_one: fn(&[u8])) {
    let seeds = corpus(target);
    seeds.iter().for_each(|seed| fuzz_one(seed));
    let mut dice = Dice(0x5eed);
    for _ in 0..rounds {
        fuzz_one(&mutate(&mut dice, &seeds));
    }
}

#[test]
fn manifest_target_holds() {
    smoke("manifest", 3000, manifest::fuzz_one);
}

#[test]
fn codec_target_holds() {
    smoke("codec", 20_000, codec::fuzz_one);
}
