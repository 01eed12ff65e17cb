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
    use std::path::Path;

    /// The relative targets of the Markdown links in `text`, without their anchors.
    fn links(text: &str) -> impl Iterator<Item = &str> {
        text.split("](")
            .skip(1)
            .filter_map(|rest| rest.split_once(')'))
            .map(|(target, _)| target.split('#').next().unwrap_or_default())
            .filter(|target| !target.is_empty() && !target.contains("://"))
    }

    fn check(file: &Path, broken: &mut Vec<String>) {
        let text = fs::read_to_string(file).unwrap();
        let folder = file.parent().unwrap();
        for target in links(&text).filter(|target| !folder.join(target).exists()) {
            broken.push(format!("{}: {target}", file.display()));
        }
    }

    fn visit(folder: &Path, broken: &mut Vec<String>) -> usize {
        let mut files = 0;
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files += visit(&path, broken);
            } else if path.extension().is_some_and(|e| e == "md") {
                check(&path, broken);
                files += 1;
            }
        }
        files
    }

    #[test]
    fn links_of_the_specification_lead_somewhere() {
        let spec = Path::new(env!("CARGO_MANIFEST_DIR")).join("../spec/src");
        let mut broken = Vec::new();
        assert!(visit(&spec, &mut broken) > 0, "no pages");
        assert!(broken.is_empty(), "{broken:#?}");
    }

    #[test]
    fn links_are_found_and_told_from_addresses() {
        let text = "[a](x.md#part) [b](https://host/y) [c](#here) [d](z/w.md)";
        assert_eq!(links(text).collect::<Vec<_>>(), ["x.md", "z/w.md"]);
    }
}
