//! Whether KVM on this machine offers nested VMX, and if not, why not.

use std::fs;

/// What this machine says about KVM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whether `/dev/kvm` opens, or the error.
    pub device: Result<(), String>,
    /// Whether the CPU shows `vmx`.
    pub vmx: bool,
    /// Whether the CPU shows `svm`.
    pub svm: bool,
    /// The contents of the module's parameter `nested`, if the module is there.
    pub nested: Option<String>,
}

/// Looks at this machine.
pub fn facts() -> Facts {
    let cpu = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let flags = cpu.lines().find(|line| line.starts_with("flags")).unwrap_or_default();
    let has = |flag: &str| flags.split_whitespace().any(|f| f == flag);
    let device = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    Facts {
        device: device.map(drop).map_err(|error| error.to_string()),
        vmx: has("vmx"),
        svm: has("svm"),
        nested: fs::read_to_string("/sys/module/kvm_intel/parameters/nested")
            .ok()
            .map(|text| text.trim().to_owned()),
    }
}

/// Whether `qemu-kvm` can be used.
///
/// # Errors
///
/// Every reason why not.
pub fn usable(facts: &Facts) -> Result<(), Vec<String>> {
    let mut reasons = Vec::new();
    if let Err(error) = &facts.device {
        reasons.push(format!("/dev/kvm does not open: {error}"));
    }
    if !facts.vmx {
        reasons.push(if facts.svm {
            "the CPU has AMD-V, and this version needs VT-x".to_owned()
        } else {
            "the CPU shows no VT-x (no `vmx` in /proc/cpuinfo)".to_owned()
        });
    }
    match facts.nested.as_deref() {
        Some("Y" | "1") => {}
        Some(value) => reasons.push(format!(
            "nested virtualization is off (kvm_intel parameter nested={value}): reload the module with `modprobe -r kvm_intel && modprobe kvm_intel nested=1`"
        )),
        None => reasons.push("the kernel module kvm_intel is not loaded".to_owned()),
    }
    if reasons.is_empty() { Ok(()) } else { Err(reasons) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Facts {
        Facts { device: Ok(()), vmx: true, svm: false, nested: Some("Y".into()) }
    }

    #[test]
    fn it_is_usable_only_when_everything_is_there() {
        assert_eq!(usable(&good()), Ok(()));
        assert_eq!(usable(&Facts { nested: Some("1".into()), ..good() }), Ok(()));
        let denied = Facts { device: Err("Permission denied".into()), ..good() };
        assert!(usable(&denied).unwrap_err()[0].contains("Permission denied"));
        let off = Facts { nested: Some("N".into()), ..good() };
        assert!(usable(&off).unwrap_err()[0].contains("modprobe"));
        assert_eq!(usable(&Facts { vmx: false, nested: None, ..good() }).unwrap_err().len(), 2);
        let amd = Facts { vmx: false, svm: true, ..good() };
        assert!(usable(&amd).unwrap_err()[0].contains("AMD-V"));
    }
}
