//! Builds the bare-metal images: the hypervisor and the reference guests.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::deps;
use crate::workspace::{Workspace, cargo};

/// The reference guests: package and program have the same name.
pub const GUESTS: &[&str] = &["bench", "hostile", "protocols"];
/// The largest hypervisor image that `test` lets pass, in bytes of memory.
pub const IMAGE_LIMIT: u64 = 512 << 10;

/// Builds the hypervisor and gives the ELF file with its symbols.
pub fn hypervisor(workspace: &Workspace) -> Result<PathBuf> {
    image(workspace, "hv-core", "paravane", &["--features", "image"])
}

/// The image of a guest: a reference guest is built, a path is taken as it is.
pub fn guest(workspace: &Workspace, name: &str) -> Result<PathBuf> {
    if GUESTS.contains(&name) {
        return image(workspace, name, name, &[]);
    }
    let path = Path::new(name);
    if path.is_file() {
        return Ok(path.to_owned());
    }
    bail!("no guest {name:?}: give the path of an image, linux, or one of {}", GUESTS.join(", "))
}

fn image(workspace: &Workspace, package: &str, program: &str, more: &[&str]) -> Result<PathBuf> {
    deps::ensure_rust_target()?;
    let mut command = Command::new(cargo());
    command
        .current_dir(&workspace.root)
        .args(["build", "--release", "--target", deps::TARGET])
        .args(["-p", package, "--bin", program])
        .args(more)
        .arg("--message-format=json-render-diagnostics")
        // It would replace the flags that .cargo/config.toml has for the bare-metal target.
        .env_remove("RUSTFLAGS")
        .env_remove("CARGO_ENCODED_RUSTFLAGS")
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().context("cannot start cargo")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let mut executable = None;
    for line in BufReader::new(stdout).lines() {
        executable = artifact(&line?, program).or(executable);
    }
    if !child.wait()?.success() {
        bail!("cannot build {program} of package {package}");
    }
    executable.with_context(|| format!("cargo built no program {program} of package {package}"))
}

/// The program's path, if this message of cargo is about it.
fn artifact(message: &str, program: &str) -> Option<PathBuf> {
    let message: serde_json::Value = serde_json::from_str(message).ok()?;
    let ours = message["reason"] == "compiler-artifact" && message["target"]["name"] == program;
    ours.then(|| message["executable"].as_str().map(PathBuf::from))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_cargo_messages() {
        let library =
            r#"{"reason":"compiler-artifact","target":{"name":"bench"},"executable":null}"#;
        let program =
            r#"{"reason":"compiler-artifact","target":{"name":"bench"},"executable":"/t/bench"}"#;
        assert_eq!(artifact(library, "bench"), None);
        assert_eq!(artifact(program, "other"), None);
        assert_eq!(artifact("not json", "bench"), None);
        assert_eq!(artifact(program, "bench"), Some(PathBuf::from("/t/bench")));
    }
}
