//! Where things are: the workspace, cargo's target folder, and a folder for each run.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};
use std::{env, fs};

use anyhow::{Context, Result, bail};

/// Run folders older than this are swept away when a new one is made.
const KEEP: Duration = Duration::from_secs(24 * 3600);

/// The checkout and its target folder.
#[derive(Clone, Debug)]
pub struct Workspace {
    pub root: PathBuf,
    pub target: PathBuf,
}

impl Workspace {
    /// Asks cargo, so that `CARGO_TARGET_DIR` and configuration files are obeyed.
    pub fn find() -> Result<Workspace> {
        let output = Command::new(cargo())
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml"))
            .output()
            .context("cannot start cargo")?;
        if !output.status.success() {
            bail!("cargo metadata failed:\n{}", String::from_utf8_lossy(&output.stderr));
        }
        let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let path = |key: &str| {
            metadata[key].as_str().map(PathBuf::from).with_context(|| format!("no {key}"))
        };
        Ok(Workspace { root: path("workspace_root")?, target: path("target_directory")? })
    }

    /// A new, empty folder for one run of `command`, so that runs do not disturb each other.
    pub fn run_folder(&self, command: &str) -> Result<PathBuf> {
        let parent = self.target.join("paravane");
        fs::create_dir_all(&parent).with_context(|| format!("cannot make {}", parent.display()))?;
        sweep(&parent);
        let folder = tempfile::Builder::new().prefix(&format!("{command}-")).tempdir_in(&parent)?;
        Ok(folder.keep())
    }

    /// The commit that is checked out, with `-dirty` behind it when files differ from it.
    pub fn commit(&self) -> String {
        let git = |args: &[&str]| {
            let output = Command::new("git").arg("-C").arg(&self.root).args(args).output().ok()?;
            let text = String::from_utf8(output.stdout).ok()?;
            output.status.success().then(|| text.trim().to_owned())
        };
        match git(&["rev-parse", "HEAD"]) {
            None => "unknown".to_owned(),
            Some(commit) => match git(&["status", "--porcelain"]).as_deref() {
                Some("") => commit,
                _ => format!("{commit}-dirty"),
            },
        }
    }
}

/// The cargo that started us, else the one in the path.
pub fn cargo() -> PathBuf {
    env::var_os("CARGO").map_or_else(|| PathBuf::from("cargo"), PathBuf::from)
}

fn sweep(parent: &Path) {
    let Ok(entries) = fs::read_dir(parent) else { return };
    for entry in entries.flatten() {
        let age = entry
            .metadata()
            .and_then(|m| m.modified())
            .ok()
            .and_then(|time| SystemTime::now().duration_since(time).ok());
        if age.is_some_and(|age| age > KEEP) {
            // Another run may sweep at the same time; what is gone is gone.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}
