//! How things look to a person: aligned tables, ages, sizes; colour only on a terminal.

use std::io::IsTerminal as _;

use contract::time::Millis;

#[derive(Clone, Copy)]
pub enum Color {
    Green,
    Yellow,
    Red,
    Dim,
}

pub fn paint(text: &str, color: Color) -> String {
    if !std::io::stdout().is_terminal() || std::env::var_os("NO_COLOR").is_some() {
        return text.to_string();
    }
    let code = match color {
        Color::Green => 32,
        Color::Yellow => 33,
        Color::Red => 31,
        Color::Dim => 2,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Of an instance's or agent's state, by its first word.
pub fn state(text: &str) -> String {
    let color = match text.split([' ', '(', ',']).next().unwrap_or_default() {
        "Running" | "Completed" | "online" | "ready" | "drained" => Color::Green,
        "Failed" | "Backoff" | "duplicate" | "floor-conflict" | "other-lineage" => Color::Red,
        "unknown" | "offline" => Color::Dim,
        _ => Color::Yellow,
    };
    paint(text, color)
}

/// A table without lines: columns two spaces apart, the last one as long as it likes.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut columns = Columns::new(head);
    columns.fit(rows);
    columns.line(head.iter().copied()) + &columns.lines(rows)
}

/// The columns of a table that is written piece by piece: they may grow and never shrink.
pub struct Columns(Vec<usize>);

impl Columns {
    pub fn new(head: &[&str]) -> Columns {
        Columns(head.iter().map(|cell| cell.chars().count()).collect())
    }

    pub fn fit(&mut self, rows: &[Vec<String>]) {
        for row in rows {
            for (width, cell) in self.0.iter_mut().zip(row) {
                *width = (*width).max(visible(cell));
            }
        }
    }

    pub fn line<'a>(&self, cells: impl Iterator<Item = &'a str>) -> String {
        let mut text = String::new();
        for (n, cell) in cells.enumerate() {
            let pad = if n + 1 < self.0.len() { self.0[n] + 2 - visible(cell) } else { 0 };
            text += cell;
            text += &" ".repeat(pad);
        }
        text.trim_end().to_string() + "\n"
    }

    pub fn lines(&self, rows: &[Vec<String>]) -> String {
        rows.iter().map(|row| self.line(row.iter().map(String::as_str))).collect()
    }
}

/// Characters that take room: colour codes do not.
fn visible(cell: &str) -> usize {
    let (mut count, mut escaped) = (0, false);
    for c in cell.chars() {
        match c {
            '\x1b' => escaped = true,
            'm' if escaped => escaped = false,
            _ if !escaped => count += 1,
            _ => {}
        }
    }
    count
}

/// As much as fits into one line of the terminal: a line that wraps cannot be drawn over.
pub fn fit(text: &str, columns: usize) -> String {
    if visible(text) <= columns {
        return text.to_string();
    }
    let (mut fitting, mut room, mut escaped) = (String::new(), columns.saturating_sub(1), false);
    for c in text.chars() {
        let takes_room = !escaped && c != '\x1b';
        escaped = (escaped && c != 'm') || c == '\x1b';
        if takes_room && room == 0 {
            continue;
        }
        room -= usize::from(takes_room);
        fitting.push(c);
    }
    fitting + "…"
}

/// Of the terminal that standard output is; no limit elsewhere.
pub fn columns() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .map_or(usize::MAX, |size| if size.ws_col == 0 { 80 } else { size.ws_col.into() })
}

/// How many lines can be drawn over; none where standard output is no terminal.
pub fn lines() -> usize {
    rustix::termios::tcgetwinsize(std::io::stdout())
        .map_or(0, |size| if size.ws_row == 0 { 24 } else { size.ws_row.into() })
}

/// Two units at most: `3d4h`, `12m5s`, `8s`.
pub fn age(ms: Millis) -> String {
    let (s, m, h) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match () {
        () if m == 0 => format!("{s}s"),
        () if h == 0 => format!("{m}m{}s", s % 60),
        () if h < 48 => format!("{h}h{}m", m % 60),
        () => format!("{}d{}h", h / 24, h % 24),
    }
}

pub fn age_or_dash(ms: Option<Millis>) -> String {
    ms.map_or_else(|| "-".to_string(), age)
}

/// Rounded for people: `1.4Mi`.
pub fn size(bytes: u64) -> String {
    let units = [(1u64 << 30, "Gi"), (1 << 20, "Mi"), (1 << 10, "Ki")];
    match units.iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) if bytes.is_multiple_of(*unit) => format!("{}{name}", bytes / unit),
        Some((unit, name)) => format!("{:.1}{name}", bytes as f64 / *unit as f64),
        None => format!("{bytes}B"),
    }
}

/// How long ago a wall-clock time was.
pub fn ago(wall_ms: Option<Millis>) -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as u64);
    age_or_dash(wall_ms.map(|then| now.saturating_sub(then)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_take_no_room_and_columns_line_up() {
        let rows =
            vec![vec!["\x1b[32mok\x1b[0m".to_string(), "x".to_string()], vec!["longer".into(), "y".into()]];
        let text = table(&["A", "B"], &rows);
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(lines, ["A       B", "\x1b[32mok\x1b[0m      x", "longer  y"]);
        assert_eq!(fit("\x1b[32mlong\x1b[0m text", 6), "\x1b[32mlong\x1b[0m …");
        assert_eq!(fit("short", 5), "short");
        assert_eq!(
            (age(65_000), age(90_000_000), size(1_500_000)),
            ("1m5s".into(), "25h0m".into(), "1.4Mi".into())
        );
    }
}
