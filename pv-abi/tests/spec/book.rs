//! The book's files: chapters, markers, links and clauses.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::tables::Table;

const BEGIN: &str = "<!-- generated: ";
const END: &str = "<!-- end -->";
/// Tables of this crate's users, which hold them themselves, have names that begin so.
const OTHERS: &str = "xtask ";

/// The folder `spec/`.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec")
}

/// Every Markdown file of the book with its text.
pub fn chapters() -> Vec<(PathBuf, String)> {
    let mut files = Vec::new();
    collect(&root().join("src"), &mut files);
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("chapters are UTF-8");
            (path, text)
        })
        .collect()
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the book is there").flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "md") {
            files.push(path);
        }
    }
}

/// The text with what stands between its markers replaced by the tables that they name.
pub fn fill(text: &str, tables: &mut [Table]) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, marker)) = rest.split_once(BEGIN) {
        let (name, body) = marker.split_once(" -->\n").ok_or("a marker does not end its line")?;
        if name.starts_with(OTHERS) {
            out += &format!("{before}{BEGIN}{name} -->\n");
            rest = body;
            continue;
        }
        let table = tables.iter_mut().find(|t| t.name == name);
        let table = table.ok_or_else(|| format!("there is no table `{name}`"))?;
        table.uses += 1;
        let (_, after) = body.split_once(END).ok_or_else(|| format!("`{name}` has no {END}"))?;
        out += &format!("{before}{BEGIN}{name} -->\n\n{}\n{END}", table.text);
        rest = after;
    }
    Ok(out + rest)
}

/// The section under the level-2 heading `title`, without the heading.
pub fn section<'a>(text: &'a str, title: &str) -> Option<&'a str> {
    let (_, body) = text.split_once(&format!("\n## {title}\n"))?;
    Some(body.split_once("\n## ").map_or(body, |(section, _)| section))
}

/// The text without what stands between markers.
pub fn without_tables(text: &str) -> String {
    let mut parts = text.split(BEGIN);
    let mut out = parts.next().unwrap_or_default().to_string();
    out.extend(parts.map(|part| part.split_once(END).map_or("", |(_, after)| after)));
    out
}

/// Links without a target, headings without a file, and chapters outside the summary.
pub fn broken_links() -> Vec<String> {
    let src = root().join("src");
    let chapters = chapters();
    let mut faults = Vec::new();
    let mut in_summary = BTreeSet::new();
    for (path, text) in &chapters {
        let folder = path.parent().expect("a file is in a folder");
        if !text.starts_with("# ") {
            faults.push(format!("{}: no title", path.display()));
        }
        for target in links(text).filter(|t| !t.contains("://")) {
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if file.is_empty() { path.clone() } else { folder.join(file) };
            let Ok(file) = file.canonicalize() else {
                faults.push(format!("{}: nothing at {target}", path.display()));
                continue;
            };
            let linked = fs::read_to_string(&file).unwrap_or_default();
            if !anchor.is_empty() && !anchors(&linked).any(|a| a == anchor) {
                faults.push(format!("{}: no heading for {target}", path.display()));
            }
            if path.ends_with("SUMMARY.md") {
                in_summary.insert(file);
            }
        }
    }
    let outside = chapters.iter().map(|(path, _)| path).filter(|path| {
        !path.ends_with("SUMMARY.md")
            && !in_summary.contains(&path.canonicalize().expect("it was read"))
    });
    faults.extend(
        outside.map(|p| {
            format!("{} is not in SUMMARY.md", p.strip_prefix(&src).unwrap_or(p).display())
        }),
    );
    faults
}

/// The lines outside fenced code.
fn lines(text: &str) -> impl Iterator<Item = &str> {
    let mut fenced = false;
    text.lines().filter(move |line| {
        let fence = line.starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    })
}

fn links(text: &str) -> impl Iterator<Item = &str> {
    lines(text).flat_map(|line| {
        line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
    })
}

/// Anchors as mdBook makes them from headings.
fn anchors(text: &str) -> impl Iterator<Item = String> {
    lines(text).filter(|line| line.starts_with('#')).map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || "_- ".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// Clauses (`| BASE-1 | hypervisor | ... |`) that are out of order or bind nobody.
pub fn clause_faults(text: &str) -> Vec<String> {
    let mut faults = Vec::new();
    let mut last: (&str, u32) = ("", 0);
    let mut groups = BTreeSet::new();
    for line in text.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| id")) {
        let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [id, side, rule] = cells[..] else {
            faults.push(format!("not three cells: {line}"));
            continue;
        };
        let Some((group, number)) =
            id.split_once('-').and_then(|(g, n)| Some((g, n.parse().ok()?)))
        else {
            faults.push(format!("not an id: {id}"));
            continue;
        };
        let expected = if group == last.0 { last.1 + 1 } else { 1 };
        if number != expected || (group != last.0 && !groups.insert(group)) {
            faults.push(format!("{id}: {group}-{expected} was due"));
        }
        if !matches!(side, "hypervisor" | "guest") || !rule.contains("MUST") {
            faults.push(format!("{id} binds nobody: {side}: {rule}"));
        }
        last = (group, number);
    }
    let silent = pv_abi::call::EXTENSIONS
        .iter()
        .filter(|e| !groups.contains(e.name.to_ascii_uppercase().as_str()));
    faults.extend(silent.map(|e| format!("no clauses for {}", e.name)));
    faults
}
