//! Manifests from files, folders and standard input, all mistakes of all files at once.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use contract::limits::MANIFEST_BYTES_MAX;
use contract::manifest::{self, Object, Problem};

use super::exit::{Code, Done, Failure};

pub struct Manifests {
    /// What is sent: the documents of all files, in order.
    pub text: String,
    pub objects: Vec<Object>,
    /// The line of `text`, from 1, at which each file begins.
    starts: Vec<(usize, String)>,
}

impl Manifests {
    /// The hub counts lines over all that it was sent; people look into files.
    pub fn place(&self, line: usize) -> (&str, usize) {
        let file = self.starts.iter().rev().find(|(start, _)| *start <= line);
        file.map_or(("", line), |(start, name)| (name, line - start + 1))
    }
}

const BETWEEN: &str = "\n---\n";

pub fn read(paths: &[PathBuf]) -> Done<Manifests> {
    let (mut text, mut starts, mut all, mut problems) = (String::new(), Vec::new(), Vec::new(), Vec::new());
    for path in expand(paths)? {
        let (name, one) = load(&path)?;
        match manifest::read(&one, Some(&name)) {
            Ok(objects) => all.extend(objects),
            Err(found) => problems.extend(found),
        }
        text += if starts.is_empty() { "" } else { BETWEEN };
        starts.push((1 + text.matches('\n').count(), name));
        text += &one;
    }
    if !problems.is_empty() {
        return Err(Failure::new(Code::Invalid, told(&problems)));
    }
    Ok(Manifests { text, objects: all, starts })
}

fn told(problems: &[Problem]) -> String {
    let count =
        if problems.len() == 1 { "1 mistake".to_string() } else { format!("{} mistakes", problems.len()) };
    let lines = problems.iter().map(|problem| format!("  {problem}\n")).collect::<String>();
    format!("{count}, nothing was applied:\n{lines}'hub explain workload.spec' lists the fields.")
}

/// Folders give their .yaml, .yml and .json files, by name; not what lies deeper.
fn expand(paths: &[PathBuf]) -> Done<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if path.as_os_str() != "-" && path.is_dir() {
            let before = files.len();
            let mut entries: Vec<_> = std::fs::read_dir(path)?.flatten().map(|entry| entry.path()).collect();
            entries.sort();
            let wanted =
                |p: &PathBuf| p.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
            files.extend(entries.into_iter().filter(wanted));
            if files.len() == before {
                return Err(Failure::usage(format!("{} holds no .yaml, .yml or .json file", path.display())));
            }
        } else {
            files.push(path.clone());
        }
    }
    Ok(files)
}

fn load(path: &Path) -> Done<(String, String)> {
    let name =
        if path.as_os_str() == "-" { "standard input".to_string() } else { path.display().to_string() };
    let wrong = |why: std::io::Error| Failure::usage(format!("{name}: {why}"));
    let source: Box<dyn std::io::Read> = match path.as_os_str() == "-" {
        true => Box::new(std::io::stdin()),
        false => Box::new(std::fs::File::open(path).map_err(wrong)?),
    };
    let mut bytes = Vec::new();
    source.take(MANIFEST_BYTES_MAX as u64 + 1).read_to_end(&mut bytes).map_err(wrong)?;
    let text = String::from_utf8(bytes)
        .map_err(|_| Failure::new(Code::Invalid, format!("{name} is not UTF-8 text")))?;
    Ok((name, text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_all_is_a_line_of_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let one = |name: &str| {
            format!(
                "apiVersion: skerry/v1\nkind: Workload\nmetadata: {{name: {name}}}\nspec: {{image: a:1, replicas: 1}}\n"
            )
        };
        let [a, b] = ["a", "b"].map(|name| {
            let path = dir.path().join(name);
            std::fs::write(&path, one(name)).unwrap();
            path
        });
        let both = read(&[a.clone(), b.clone()]).unwrap();
        let line_of_b = 1 + both.text.lines().position(|line| line.contains("name: b")).unwrap();
        assert_eq!(both.place(3), (a.to_str().unwrap(), 3));
        assert_eq!(both.place(line_of_b), (b.to_str().unwrap(), 3));
    }
}
