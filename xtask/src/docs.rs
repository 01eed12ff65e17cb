//! `docs`: the specification as a book, and the documentation of the crates.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::deps;
use crate::workspace::{Workspace, cargo};

/// Builds both.
pub fn run(workspace: &Workspace) -> Result<()> {
    let status = Command::new(cargo())
        .current_dir(&workspace.root)
        .args(["doc", "--no-deps"])
        .status()
        .context("cannot start cargo")?;
    if !status.success() {
        bail!("cargo doc failed");
    }
    println!("Crates: {}", workspace.target.join("doc").display());
    let Some(mdbook) = deps::program("mdbook") else {
        bail!("the specification needs mdBook. Install it with\n    cargo install mdbook --locked");
    };
    let spec = workspace.root.join("spec");
    if !Command::new(mdbook).arg("build").arg(&spec).status()?.success() {
        bail!("mdbook failed");
    }
    println!("Specification: {}", spec.join("book/index.html").display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::{Path, PathBuf};

    /// The relative targets of the Markdown links in `text`, without their anchors.
    fn links(text: &str) -> impl Iterator<Item = &str> {
        text.split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
            .map(|(target, _)| target.split('#').next().unwrap_or_default())
            .filter(|target| !target.is_empty() && !target.contains("://"))
    }

    fn broken_links(file: &Path) -> Vec<String> {
        let text = fs::read_to_string(file).unwrap();
        let folder = file.parent().unwrap();
        let broken = links(&text).filter(|target| !folder.join(target).exists());
        broken.map(|target| format!("{}: {target}", file.display())).collect()
    }

    fn spec() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/src")
    }

    /// The Markdown files below `folder`.
    fn chapters(folder: &Path) -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let below = entries.flat_map(|path| match path.is_dir() {
            true => chapters(&path),
            false => vec![path],
        });
        below.filter(|path| path.extension().is_some_and(|e| e == "md")).collect()
    }

    const BEGIN: &str = "<!-- generated: xtask ";
    const END: &str = "<!-- end -->";

    /// A chapter with what stands behind each marker of ours replaced by the table that it names.
    fn filled(text: &str, tables: &mut Vec<(&str, String)>) -> String {
        let mut parts = text.split(BEGIN);
        let mut out = parts.next().unwrap().to_owned();
        for part in parts {
            let (name, body) = part.split_once(" -->\n").expect("a marker ends its line");
            let place = tables.iter().position(|(table, _)| *table == name);
            let place =
                place.unwrap_or_else(|| panic!("the table {name} is none, or is there twice"));
            let (_, after) = body.split_once(END).expect("a table ends");
            out += &format!("{BEGIN}{name} -->\n\n{}\n{END}{after}", tables.remove(place).1);
        }
        out
    }

    /// `UPDATE_SPEC` is that of `pv-abi`'s test `spec`, which leaves these tables alone.
    #[test]
    fn the_tables_of_the_specification_are_those_of_xtask() {
        let mut tables = vec![("vm-keys", crate::vmfile::reference::table())];
        for path in chapters(&spec()) {
            let found = fs::read_to_string(&path).unwrap();
            let expected = filled(&found, &mut tables);
            if found != expected && std::env::var_os("UPDATE_SPEC").is_some() {
                fs::write(&path, expected).unwrap();
            } else {
                assert_eq!(found, expected, "UPDATE_SPEC=1 cargo test -p xtask tables writes it");
            }
        }
        assert!(tables.is_empty(), "they stand nowhere: {tables:?}");
    }

    #[test]
    fn links_of_the_specification_lead_somewhere() {
        let chapters = chapters(&spec());
        assert!(!chapters.is_empty(), "no pages");
        let broken: Vec<_> = chapters.iter().flat_map(|chapter| broken_links(chapter)).collect();
        assert!(broken.is_empty(), "{broken:#?}");
    }

    #[test]
    fn links_are_found_and_told_from_addresses() {
        let text = "[a](x.md#part) [b](https://host/y) [c](#here) [d](z/w.md)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["x.md", "z/w.md"]);
    }
}
