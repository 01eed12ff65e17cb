//! Files out of Debian packages, which are fetched and not installed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::deps;

/// A package as apt would install it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Candidate {
    name: String,
    version: String,
    /// Of the file that is fetched, in bytes.
    size: u64,
    /// The first package of the same family that it needs: what a metapackage stands for.
    stands_for: Option<String>,
}

/// The folder with `part` of the newest version of `package`, or of the package that `package` stands
/// for. It is in `cache`, one for each version, and fetched if it is not there.
pub fn unpacked(cache: &Path, package: &str, part: &str) -> Result<PathBuf> {
    for program in ["apt-cache", "apt-get", "dpkg-deb", "tar"] {
        ensure!(
            deps::program(program).is_some(),
            "there is no {program} here to fetch Debian's package {package} with"
        );
    }
    // The lists may be absent, or so old that their files are gone; the first try tells.
    match attempt(cache, package, part) {
        Ok(folder) => Ok(folder),
        Err(first) => {
            eprintln!("{first:#}. Updating the package lists.");
            ensure!(deps::update_lists()?, "{first:#}, and the package lists cannot be updated");
            attempt(cache, package, part)
        }
    }
}

fn attempt(cache: &Path, package: &str, part: &str) -> Result<PathBuf> {
    let mut found = candidate(package)?;
    if let Some(real) = &found.stands_for {
        found = candidate(real)?;
    }
    let Candidate { name, version, size, .. } = &found;
    let folder = cache.join(format!("{name}_{}", version.replace(':', "-")));
    if folder.is_dir() {
        return Ok(folder);
    }
    eprintln!("Fetching Debian's package {name} {version}, {} KiB", size.div_ceil(1024));
    fs::create_dir_all(cache).with_context(|| format!("cannot make {}", cache.display()))?;
    let place = tempfile::Builder::new().prefix("fetch-").tempdir_in(cache)?;
    let status = Command::new("apt-get")
        .args(["download", "-q", "-o", "APT::Sandbox::User=root", &format!("{name}={version}")])
        .current_dir(place.path())
        .stdin(Stdio::null())
        .stdout(std::io::stderr())
        .status()
        .context("cannot start apt-get")?;
    ensure!(status.success(), "apt-get cannot fetch {name} {version}");
    let file = fs::read_dir(place.path())?.next().context("apt-get has fetched nothing")??;
    let contents = place.path().join("contents");
    unpack(&file.path(), part, &contents)?;
    match fs::rename(&contents, &folder) {
        // Another run may have been faster.
        Err(_) if folder.is_dir() => Ok(folder),
        renamed => renamed.map(|()| folder).context("cannot keep the unpacked package"),
    }
}

fn candidate(package: &str) -> Result<Candidate> {
    let output = Command::new("apt-cache")
        .args(["show", "--no-all-versions", package])
        .stderr(Stdio::null())
        .output()
        .context("cannot start apt-cache")?;
    let text = String::from_utf8_lossy(&output.stdout);
    parse(&text).with_context(|| format!("apt knows no package {package}"))
}

/// What `apt-cache show` says of a package.
fn parse(text: &str) -> Option<Candidate> {
    let field = |key: &str| {
        let mut lines = text.lines().take_while(|line| !line.is_empty());
        lines.find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
    };
    let name = field("Package")?;
    let family = name.split_inclusive('-').take(2).collect::<String>();
    let needs = field("Depends").unwrap_or_default().split(", ");
    let mut needs = needs.map(|one| one.split(' ').next().unwrap_or_default());
    Some(Candidate {
        name: name.to_owned(),
        version: field("Version")?.to_owned(),
        size: field("Size")?.parse().ok()?,
        stands_for: needs.find(|one| one.starts_with(&family)).map(str::to_owned),
    })
}

/// Takes the folder `part` out of a package.
fn unpack(package: &Path, part: &str, into: &Path) -> Result<()> {
    fs::create_dir(into)?;
    let mut reader = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(package)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start dpkg-deb")?;
    let archive = reader.stdout.take().context("dpkg-deb has no output")?;
    let unpacked = Command::new("tar")
        .arg("-x")
        .arg(format!("./{part}"))
        .current_dir(into)
        .stdin(archive)
        .status()
        .context("cannot start tar");
    let read = reader.wait()?.success();
    // tar is done when it has found everything, which leaves dpkg-deb with a closed pipe.
    let there = into.join(part).exists();
    if !unpacked?.success() || !(read || there) {
        bail!("{} has no {part}, or is damaged", package.display());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const META: &str = "Package: linux-image-cloud-amd64
Source: linux-signed-amd64 (6.1.172+1)
Version: 6.1.172-1
Depends: linux-base (>= 4), linux-image-6.1.0-48-cloud-amd64 (= 6.1.172-1)
Size: 1504
Description-en: Linux for Cloud
 Depends: on nothing here

Package: linux-image-cloud-amd64
Version: 6.1.170-3
Size: 1480
";

    #[test]
    fn a_metapackage_stands_for_the_package_that_it_needs() {
        let found = parse(META).unwrap();
        assert_eq!((found.version.as_str(), found.size), ("6.1.172-1", 1504));
        assert_eq!(found.stands_for.as_deref(), Some("linux-image-6.1.0-48-cloud-amd64"));
    }

    #[test]
    fn a_package_that_needs_others_is_itself() {
        let text = "Package: busybox-static\nVersion: 1:1.35\nSize: 9\nDepends: libc6, adduser\n";
        assert_eq!(parse(text).unwrap().stands_for, None);
        let real = "Package: linux-image-6.1\nVersion: 1\nSize: 9\nDepends: kmod, linux-base\n";
        assert_eq!(parse(real).unwrap().stands_for, None);
    }

    #[test]
    fn what_apt_does_not_know_is_no_package() {
        assert_eq!(parse(""), None);
        assert_eq!(parse("N: Unable to locate package x\n"), None);
    }
}
