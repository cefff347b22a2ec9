//! The little of tar that a bundle needs: plain files with short names, which every tar can read.

#[derive(Default)]
pub struct Tar(Vec<u8>);

const BLOCK: usize = 512;

impl Tar {
    /// Names are ours or an instance's; what does not fit is cut.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        let mut header = [0u8; BLOCK];
        let name = &name.as_bytes()[..name.len().min(99)];
        header[..name.len()].copy_from_slice(name);
        let mut field = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
        field(100, "0000600");
        field(108, "0000000");
        field(116, "0000000");
        field(124, &format!("{:011o}", bytes.len()));
        field(136, "00000000000");
        field(148, "        ");
        field(156, "0");
        field(257, "ustar\x0000");
        let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(bytes);
        self.0.resize(self.0.len().next_multiple_of(BLOCK), 0);
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK, 0);
        self.0
    }
}
