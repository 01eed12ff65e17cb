//! Whether KVM on this machine offers nested VT-x or AMD-V, and if not, why not.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use hv_core::host::report::Vendor;

/// What a machine says about KVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether `/dev/kvm` opens for reading and writing.
    pub device: Result<(), ErrorKind>,
    /// The extension that the CPU shows.
    pub vendor: Option<Vendor>,
    /// The parameter `nested` of that vendor's kernel module, if the module is there.
    pub nested: Option<String>,
}

/// The extension by the name that its vendor sells it under.
pub const fn technology(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Vmx => "VT-x",
        Vendor::Svm => "AMD-V",
    }
}

/// The flag in `/proc/cpuinfo`, which is QEMU's name of the feature too.
pub const fn flag(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Vmx => "vmx",
        Vendor::Svm => "svm",
    }
}

const fn module(vendor: Vendor) -> &'static str {
    match vendor {
        Vendor::Vmx => "kvm_intel",
        Vendor::Svm => "kvm_amd",
    }
}

/// What `qemu-kvm` gives on this computer; see [`usable`].
pub fn here() -> Result<Vendor, Vec<String>> {
    usable(&facts(Path::new("/")))
}

/// Looks at the machine whose files are under `root`.
pub fn facts(root: &Path) -> Facts {
    let cpu = fs::read_to_string(root.join("proc/cpuinfo")).unwrap_or_default();
    let flags = cpu.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let vendor = [Vendor::Vmx, Vendor::Svm]
        .into_iter()
        .find(|&vendor| flags.split_whitespace().any(|word| word == flag(vendor)));
    let nested = |vendor| {
        let file = root.join("sys/module").join(module(vendor)).join("parameters/nested");
        fs::read_to_string(file).ok().map(|text| text.trim().to_owned())
    };
    let device = fs::OpenOptions::new().read(true).write(true).open(root.join("dev/kvm"));
    Facts {
        device: device.map(drop).map_err(|error| error.kind()),
        vendor,
        nested: vendor.and_then(nested),
    }
}

/// The extension that `qemu-kvm` gives.
///
/// # Errors
///
/// Every reason why it cannot be used.
pub fn usable(facts: &Facts) -> Result<Vendor, Vec<String>> {
    let mut reasons = Vec::new();
    match facts.device {
        Ok(()) => {}
        Err(ErrorKind::NotFound) => reasons.push("there is no /dev/kvm".to_owned()),
        Err(ErrorKind::PermissionDenied) => reasons.push(
            "/dev/kvm may not be opened: add yourself to its group with `sudo usermod -aG kvm $USER` and log in again".to_owned(),
        ),
        Err(kind) => reasons.push(format!("/dev/kvm does not open: {kind}")),
    }
    let Some(vendor) = facts.vendor else {
        reasons.push(
            "the CPU shows neither VT-x nor AMD-V: turn virtualization on in the firmware or, in a VM, nested virtualization for it".to_owned(),
        );
        return Err(reasons);
    };
    let module = module(vendor);
    match facts.nested.as_deref() {
        Some("Y" | "1") => {}
        Some(value) => reasons.push(format!(
            "nested virtualization is off ({module} parameter nested={value}): `sudo modprobe -r {module} && sudo modprobe {module} nested=1`"
        )),
        None => reasons.push(format!("kernel module {module} is not loaded: `sudo modprobe {module} nested=1`")),
    }
    if reasons.is_empty() { Ok(vendor) } else { Err(reasons) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts { device: Ok(()), vendor: Some(Vendor::Vmx), nested: Some("Y".into()) }
    }

    fn refused(facts: Facts) -> String {
        usable(&facts).unwrap_err().join("\n")
    }

    #[test]
    fn either_vendor_is_usable_when_everything_is_there() {
        assert_eq!(usable(&good()), Ok(Vendor::Vmx));
        let amd = Facts { vendor: Some(Vendor::Svm), nested: Some("1".into()), ..good() };
        assert_eq!(usable(&amd), Ok(Vendor::Svm));
    }

    #[test]
    fn what_is_missing_is_said_with_what_to_do() {
        let no_device = |kind| refused(Facts { device: Err(kind), ..good() });
        assert_eq!(no_device(ErrorKind::NotFound), "there is no /dev/kvm");
        assert!(no_device(ErrorKind::PermissionDenied).contains("usermod -aG kvm"));
        assert!(no_device(ErrorKind::ResourceBusy).contains("busy"));
        let off = Facts { vendor: Some(Vendor::Svm), nested: Some("0".into()), ..good() };
        assert!(refused(off).contains("modprobe kvm_amd nested=1"));
        assert!(refused(Facts { nested: None, ..good() }).contains("kvm_intel is not loaded"));
    }

    #[test]
    fn a_device_without_an_extension_behind_it_is_not_usable() {
        let none = Facts { vendor: None, nested: None, ..good() };
        assert_eq!(usable(&none).unwrap_err().len(), 1);
        assert!(refused(none).contains("neither VT-x nor AMD-V"));
        let nothing = Facts { device: Err(ErrorKind::NotFound), vendor: None, nested: None };
        assert_eq!(usable(&nothing).unwrap_err().len(), 2);
    }

    #[test]
    fn facts_are_read_from_the_files_of_the_right_vendor() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        let nothing = Facts { device: Err(ErrorKind::NotFound), vendor: None, nested: None };
        assert_eq!(facts(root.path()), nothing);
        // The other vendor's module says nothing about this CPU, and vmmcall is no svm.
        write("proc/cpuinfo", "model name\t: x svm\nflags\t\t: fpu vmmcall vmx\n");
        write("sys/module/kvm_amd/parameters/nested", "1\n");
        assert_eq!(facts(root.path()), Facts { vendor: Some(Vendor::Vmx), ..nothing.clone() });
        write("sys/module/kvm_intel/parameters/nested", "N\n");
        write("dev/kvm", "");
        assert_eq!(facts(root.path()), Facts { nested: Some("N".into()), ..good() });
        write("proc/cpuinfo", "flags\t\t: fpu svm\n");
        let amd = Facts { vendor: Some(Vendor::Svm), nested: Some("1".into()), ..good() };
        assert_eq!(facts(root.path()), amd);
    }
}
