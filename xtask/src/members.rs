//! The files that VMs name, by the names that they have in the bundle.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hv_core::host::bundle::{Kind, NAME};

use crate::bundle::Member;
use crate::vmfile::VmSpec;

/// Files for a bundle. Two of one kind cannot have one name, so whose file is used is never a guess.
#[derive(Clone, Debug, Default)]
pub struct Files(BTreeMap<Key, File>);

/// An initial RAM disk or an image, and its name in the bundle.
type Key = (bool, String);

#[derive(Clone, Debug)]
struct File {
    /// What the VMs call it.
    called: String,
    path: PathBuf,
}

/// The name in a bundle of what a VM calls `called`: the file's name, as much of it as fits.
pub fn name(called: &str) -> String {
    let whole = Path::new(called).file_name().and_then(|s| s.to_str()).unwrap_or(called);
    whole[..whole.floor_char_boundary(NAME)].to_owned()
}

fn key(kind: Kind, called: &str) -> Key {
    (kind == Kind::Initrd, name(called))
}

impl Files {
    /// Adds the file at `path`, which VMs call `called`.
    pub fn add(&mut self, kind: Kind, called: &str, path: PathBuf) -> Result<()> {
        let file = File { called: called.to_owned(), path };
        let there = self.0.entry(key(kind, called)).or_insert(file);
        if there.called != called {
            bail!(
                "{} and {called} have the same file name, as far as its first {NAME} bytes: rename one",
                there.called
            );
        }
        Ok(())
    }

    /// Adds what a VM names and is not there: paths of files.
    pub fn add_paths(&mut self, vm: &VmSpec) -> Result<()> {
        if self.path(Kind::Image, &vm.image).is_none() {
            self.add(Kind::Image, &vm.image, (&vm.image).into())?;
        }
        match &vm.initrd {
            Some(initrd) => self.add(Kind::Initrd, initrd, initrd.into()),
            None => Ok(()),
        }
    }

    /// Where the file is that VMs call `called`.
    pub fn path(&self, kind: Kind, called: &str) -> Option<&Path> {
        let file = self.0.get(&key(kind, called)).filter(|file| file.called == called)?;
        Some(&file.path)
    }

    /// The file as a member of a bundle.
    pub fn read(&self, kind: Kind, called: &str) -> Result<Member> {
        let path = self.path(kind, called).with_context(|| format!("{called} was not built"))?;
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        let bytes = match kind {
            // Debugging information would only make the boot longer.
            Kind::Image => crate::elf::stripped(&bytes).unwrap_or(bytes),
            Kind::Initrd | Kind::Vm => bytes,
        };
        Ok(Member { name: name(called), kind, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_one_name_are_refused_and_named() {
        let mut files = Files::default();
        files.add(Kind::Image, "a/kernel", "a/kernel".into()).unwrap();
        files.add(Kind::Image, "a/kernel", "a/kernel".into()).unwrap();
        files.add(Kind::Initrd, "b/kernel", "b/kernel".into()).unwrap();
        let error = files.add(Kind::Image, "b/kernel", "b/kernel".into()).unwrap_err().to_string();
        assert!(error.contains("a/kernel") && error.contains("b/kernel"), "{error}");
        assert_eq!(files.path(Kind::Image, "a/kernel"), Some(Path::new("a/kernel")));
        assert_eq!(files.path(Kind::Image, "b/kernel"), None);
        assert_eq!(files.path(Kind::Initrd, "b/kernel"), Some(Path::new("b/kernel")));
    }

    #[test]
    fn long_names_are_cut_between_characters_and_still_told_apart() {
        let long = format!("x/{}é-one", "k".repeat(NAME - 1));
        assert_eq!(name(&long), "k".repeat(NAME - 1));
        let mut files = Files::default();
        files.add(Kind::Image, &long, "one".into()).unwrap();
        let other = long.replace("one", "two");
        assert!(files.add(Kind::Image, &other, "two".into()).is_err());
    }
}
