//! Cases in which a guest looks at how it was started: `guests/protocols`, in the files that each protocol is for.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use hv_core::vm::kind::ImageKind;
use hv_core::vm::machine_type::MachineType::{self, Minimal, Pc};

use super::Stage;
use super::watch::{Want, watch};
use crate::vmfile::{CommandLine, KindName, MachineName, Memory, VmSpec};
use crate::{elf, linux};

const LINE: &str = "one  two";
const MODULE: &[u8] = b"what a module holds";
/// Of each VM: a size that the guest has to tell.
const MEMORY: u64 = 14 << 20;
/// How far the header of an ELF file is filled up: Multiboot headers have to be near the start.
const ELF_HEADERS: usize = 4096;

/// One VM of a case: its name, how its file is made from the guest as it was built, its machine, whether it gets
/// a command line and a module, and what the guest has to say.
struct Form(&'static str, fn(&[u8]) -> Result<Vec<u8>>, MachineType, bool, &'static str);

/// What a guest says that gets a command line and a module.
macro_rules! all {
    ($protocol:literal) => {
        concat!(
            $protocol,
            ", line \"one  two\", module \"what a module holds\", RAM 0-9fc00 100000-e00000, ACPI, ok"
        )
    };
}

/// What it says without them.
macro_rules! alone {
    ($protocol:literal) => {
        concat!($protocol, ", line \"\", RAM 0-9fc00 100000-e00000, ACPI, ok")
    };
}

const LINUX_32: &[Form] = &[
    Form("pc", bz_image, Pc, true, all!("linux32")),
    Form("minimal", bz_image, Minimal, false, alone!("linux32")),
];
const LINUX_64: &[Form] = &[Form("pc", bz_image, Pc, true, all!("linux64"))];
const MULTIBOOT: &[Form] = &[
    Form("elf32", elf32, Pc, true, all!("multiboot")),
    Form("elf64", as_it_is, Minimal, true, all!("multiboot")),
    Form("addresses", with_addresses, Pc, false, alone!("multiboot")),
];
const MULTIBOOT2: &[Form] = &[
    Form("elf32", elf32, Minimal, true, all!("multiboot2")),
    Form("elf64", as_it_is, Pc, true, all!("multiboot2")),
    Form("alone", as_it_is, Pc, false, alone!("multiboot2")),
];
const PVH: &[Form] = &[Form("pc", as_it_is, Pc, true, all!("pvh"))];
const ROM: &[Form] = &[
    Form("pc", segment, Pc, false, "rom, ok"),
    Form("minimal", segment, Minimal, false, "rom, ok"),
];

/// By the 32-bit entry of a bzImage.
pub fn linux_32(stage: &Stage<'_>) -> Result<()> {
    boots(stage, ImageKind::Linux32, LINUX_32)
}

/// By the 64-bit entry of a bzImage.
pub fn linux_64(stage: &Stage<'_>) -> Result<()> {
    boots(stage, ImageKind::Linux, LINUX_64)
}

/// By a Multiboot header.
pub fn multiboot(stage: &Stage<'_>) -> Result<()> {
    boots(stage, ImageKind::Multiboot, MULTIBOOT)
}

/// By a Multiboot2 header.
pub fn multiboot2(stage: &Stage<'_>) -> Result<()> {
    boots(stage, ImageKind::Multiboot2, MULTIBOOT2)
}

/// By a PVH note.
pub fn pvh(stage: &Stage<'_>) -> Result<()> {
    boots(stage, ImageKind::Pvh, PVH)
}

/// At the reset vector.
pub fn rom(stage: &Stage<'_>) -> Result<()> {
    boots(stage, ImageKind::Rom, ROM)
}

/// Boots all of them at once.
fn boots(stage: &Stage<'_>, kind: ImageKind, forms: &[Form]) -> Result<()> {
    fs::create_dir_all(&stage.folder)?;
    let built = stage.lab.plan.image("protocols").context("the guest was not built")?;
    let built = elf::stripped(&fs::read(built)?)?;
    let file = |name: &str, bytes: &[u8]| {
        let path = stage.folder.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
        linux::text(&path)
    };
    let module = file("module", MODULE)?;
    let (mut vms, mut want) = (Vec::new(), Vec::new());
    for (&Form(name, make, machine, given, says), vm) in forms.iter().zip(0..) {
        vms.push(VmSpec {
            image: file(name, &make(&built)?)?,
            kind: KindName(kind),
            initrd: given.then(|| module.clone()),
            command_line: CommandLine(if given { LINE.to_owned() } else { String::new() }),
            machine: MachineName(machine),
            memory: Memory(MEMORY),
            ..VmSpec::guest(name)
        });
        want.extend([Want::Console(vm, says), Want::Shutdown(vm, 0)]);
    }
    let plan = stage.lab.plan.with_vms(vms)?;
    let boot = plan.boot(stage.hardware(&plan.vms), &stage.folder, Duration::from_secs(120))?;
    watch(&boot, &want)
}

/// The ELF64 file.
fn as_it_is(built: &[u8]) -> Result<Vec<u8>> {
    Ok(built.to_vec())
}

/// What it loads, which is a ROM too.
fn segment(built: &[u8]) -> Result<Vec<u8>> {
    Ok(elf::first_loaded(built)?.2.to_vec())
}

/// Writes little-endian numbers: place, length, value.
fn put(bytes: &mut [u8], fields: &[(usize, usize, u64)]) {
    for &(at, length, value) in fields {
        bytes[at..at + length].copy_from_slice(&value.to_le_bytes()[..length]);
    }
}

/// Headers of an ELF32 file, and the segment (System V ABI, "Object Files").
fn elf32(built: &[u8]) -> Result<Vec<u8>> {
    let (address, length, segment) = elf::first_loaded(built)?;
    let entry = u64::from_le_bytes(built[24..32].try_into()?);
    let mut file = vec![0; ELF_HEADERS];
    file[..7].copy_from_slice(b"\x7fELF\x01\x01\x01");
    // e_type, e_machine, e_version, e_entry, e_phoff, e_ehsize, e_phentsize, e_phnum
    put(&mut file, &[(16, 2, 2), (18, 2, 3), (20, 4, 1), (24, 4, entry), (28, 4, 52)]);
    put(&mut file, &[(40, 2, 52), (42, 2, 32), (44, 2, 1)]);
    // p_type, p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_flags
    put(&mut file, &[(52, 4, 1), (56, 4, ELF_HEADERS as u64), (60, 4, address), (64, 4, address)]);
    put(&mut file, &[(68, 4, segment.len() as u64), (72, 4, length), (76, 4, 7)]);
    file.extend(segment);
    Ok(file)
}

/// The segment alone, whose Multiboot header is told that its address fields count.
fn with_addresses(built: &[u8]) -> Result<Vec<u8>> {
    const MAGIC: u32 = 0x1bad_b002;
    const ADDRESSES: u32 = 1 << 16;
    let mut file = segment(built)?;
    let header = file.chunks_exact(4).position(|word| word == MAGIC.to_le_bytes());
    let flags = header.context("no Multiboot header")? * 4 + 4;
    let value = u32::from_le_bytes(file[flags..flags + 4].try_into()?) | ADDRESSES;
    let checksum = 0u32.wrapping_sub(MAGIC.wrapping_add(value));
    put(&mut file, &[(flags, 4, value.into()), (flags + 4, 4, checksum.into())]);
    Ok(file)
}

/// A boot sector and a setup sector with a header, and the segment (Linux, "The Linux/x86 Boot Protocol").
fn bz_image(built: &[u8]) -> Result<Vec<u8>> {
    let (address, length, segment) = elf::first_loaded(built)?;
    let mut file = vec![0; 1024];
    file[0x202..0x206].copy_from_slice(b"HdrS");
    // setup_sects, syssize, boot_flag, the jump over the header, version, loadflags
    let system_size = segment.len() as u64 / 16;
    put(&mut file, &[(0x1f1, 1, 1), (0x1f4, 4, system_size), (0x1fe, 2, 0xaa55)]);
    put(&mut file, &[(0x200, 2, 0x6aeb), (0x206, 2, 0x20f), (0x211, 1, 1)]);
    // initrd_addr_max, kernel_alignment, xloadflags, cmdline_size, pref_address, init_size
    put(&mut file, &[(0x22c, 4, 0x7fff_ffff), (0x230, 4, 1 << 20), (0x236, 2, 1), (0x238, 4, 255)]);
    put(&mut file, &[(0x258, 8, address), (0x260, 4, length)]);
    file.extend(segment);
    Ok(file)
}
