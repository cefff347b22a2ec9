//! Pieces of output into lines: a piece ends anywhere, a line at its newline.

/// A line without an end is cut here.
const LINE_BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Default)]
pub struct Lines {
    rest: String,
}

impl Lines {
    /// The lines that this piece completes.
    pub fn push(&mut self, piece: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for part in piece.split_inclusive('\n') {
            self.rest.push_str(part);
            if part.ends_with('\n') || self.rest.len() >= LINE_BYTES_MAX {
                lines.extend(self.finish());
            }
        }
        lines
    }

    /// What is left without a newline.
    pub fn finish(&mut self) -> Option<String> {
        let mut line = std::mem::take(&mut self.rest);
        if line.is_empty() {
            return None;
        }
        if line.ends_with('\n') {
            line.pop();
        }
        if line.ends_with('\r') {
            line.pop();
        }
        Some(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_do_not_depend_on_where_pieces_end() {
        let text = "one\r\n\ntwo\nthree";
        for at in 0..=text.len() {
            let mut lines = Lines::default();
            let mut all = lines.push(&text[..at]);
            all.extend(lines.push(&text[at..]));
            all.extend(lines.finish());
            assert_eq!(all, ["one", "", "two", "three"], "cut at {at}");
        }
        let mut lines = Lines::default();
        assert_eq!(lines.push(&"x".repeat(LINE_BYTES_MAX + 1)).len(), 1);
    }
}
