//! Packs VM descriptions, guest images and initial RAM disks into the one file that the hypervisor reads.

use anyhow::{Result, ensure};
use hv_core::host::bundle::{
    ALIGN, Bundle, Entry, Header, Kind, MAGIC, MAX_ENTRIES, NAME, VERSION, checksum,
};
use hv_core::vm::desc::VmDesc;
use zerocopy::IntoBytes;

/// A member of a bundle before it is packed.
#[derive(Clone, Debug)]
pub struct Member {
    pub name: String,
    pub kind: Kind,
    pub bytes: Vec<u8>,
}

/// A bundle of these VMs, in this order, and these images and initial RAM disks.
pub fn pack(vms: &[VmDesc], files: &[Member]) -> Result<Vec<u8>> {
    let mut members = Vec::new();
    for vm in vms {
        members.push((vm.name, Kind::Vm, vm.as_bytes()));
    }
    for file in files {
        members.push((padded(&file.name)?, file.kind, &file.bytes));
    }
    ensure!(members.len() <= MAX_ENTRIES, "more than {MAX_ENTRIES} VMs and files");

    let table = size_of::<Header>() + members.len() * size_of::<Entry>();
    let mut entries = Vec::new();
    let mut data = Vec::new();
    let start = table.next_multiple_of(ALIGN);
    for (name, kind, bytes) in &members {
        data.resize(data.len().next_multiple_of(ALIGN), 0);
        entries.push(Entry {
            name: *name,
            kind: *kind as u32,
            offset: u32::try_from(start + data.len())?,
            length: u32::try_from(bytes.len())?,
            reserved: 0,
        });
        data.extend_from_slice(bytes);
    }
    let mut body = entries.as_bytes().to_vec();
    body.resize(start - size_of::<Header>(), 0);
    body.extend_from_slice(&data);
    let header = Header {
        magic: MAGIC,
        version: VERSION,
        count: u32::try_from(members.len())?,
        length: u32::try_from(size_of::<Header>() + body.len())?,
        checksum: checksum(&body),
    };
    let bundle = [header.as_bytes(), &body].concat();
    // What the hypervisor would refuse is told here, where somebody can mend it.
    if let Err(error) = Bundle::parse(&bundle) {
        anyhow::bail!("this bundle would be refused: {error}");
    }
    Ok(bundle)
}

/// A name as it stands in a bundle.
pub fn padded(name: &str) -> Result<[u8; NAME]> {
    let length = name.len();
    ensure!(
        (1..=NAME).contains(&length) && !name.contains('\0'),
        "the name {name:?} must have 1 to {NAME} bytes, none of them zero"
    );
    let mut bytes = [0; NAME];
    bytes[..length].copy_from_slice(name.as_bytes());
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmfile::{VmSpec, packed};

    fn member(name: &str, kind: Kind, bytes: &[u8]) -> Member {
        Member { name: name.to_owned(), kind, bytes: bytes.to_vec() }
    }

    #[test]
    fn the_hypervisor_reads_what_is_packed() {
        let mut spec = VmSpec::guest("bench");
        spec.command_line = "workload=cpuid".into();
        let desc = packed(&[spec]).unwrap()[0];
        let files = [
            member("bench", Kind::Image, &[1, 2, 3]),
            member("other", Kind::Image, &[9; 100]),
            member("other", Kind::Initrd, &[7]),
        ];
        let bytes = pack(&[desc], &files).unwrap();
        let bundle = Bundle::parse(&bytes).unwrap();
        assert_eq!(bundle.image("bench"), Some(&[1, 2, 3][..]));
        assert_eq!(bundle.image("other"), Some(&[9; 100][..]));
        assert_eq!(bundle.initrd("other"), Some(&[7][..]));
        let vms: Vec<_> = bundle.vms().map(|bytes| VmDesc::read(bytes).unwrap()).collect();
        assert_eq!(vms, [desc]);
        assert_eq!(vms[0].validate().unwrap().command_line, "workload=cpuid");
    }

    #[test]
    fn names_that_do_not_fit_are_refused() {
        let long = "x".repeat(NAME + 1);
        for name in ["", "a\0b", &long] {
            assert!(pack(&[], &[member(name, Kind::Image, &[])]).is_err(), "{name:?}");
        }
        let twice = [member("a", Kind::Image, &[]), member("a", Kind::Image, &[])];
        let error = pack(&[], &twice).unwrap_err().to_string();
        assert!(error.contains("earlier"), "{error}");
    }
}
