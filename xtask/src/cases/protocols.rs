//! Cases in which a guest looks at how it was started: `guests/protocols`, in the files that each protocol is for.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};
use hv_core::vm::kind::ImageKind;
use hv_core::vm::machine_type::MachineType;

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

/// One VM of a case: the file, from the guest as it was built, and what the guest has to say.
struct Form {
    name: &'static str,
    file: fn(&[u8]) -> Result<Vec<u8>>,
    machine: MachineType,
    /// Whether it gets a command line and a module.
    module: bool,
    says: &'static str,
}

/// By the 32-bit entry of a bzImage.
pub fn linux_32(stage: &Stage<'_>) -> Result<()> {
    const ALL: &str = "linux32, line \"one  two\", module \"what a module holds\", \
                       RAM 0-9fc00 100000-e00000, ACPI, ok";
    const NONE: &str = "linux32, line \"\", RAM 0-9fc00 100000-e00000, ACPI, ok";
    boots(
        stage,
        ImageKind::Linux32,
        &[
            Form { name: "pc", file: bz_image, machine: MachineType::Pc, module: true, says: ALL },
            Form {
                name: "bare",
                file: bz_image,
                machine: MachineType::Minimal,
                module: false,
                says: NONE,
            },
        ],
    )
}

/// By the 64-bit entry of a bzImage.
pub fn linux_64(stage: &Stage<'_>) -> Result<()> {
    const ALL: &str = "linux64, line \"one  two\", module \"what a module holds\", \
                       RAM 0-9fc00 100000-e00000, ACPI, ok";
    let machine = MachineType::Pc;
    boots(
        stage,
        ImageKind::Linux,
        &[Form { name: "pc", file: bz_image, machine, module: true, says: ALL }],
    )
}

/// By a Multiboot header.
pub fn multiboot(stage: &Stage<'_>) -> Result<()> {
    use MachineType::{Minimal, Pc};
    const ALL: &str = "multiboot, line \"one  two\", module \"what a module holds\", \
                       RAM 0-9fc00 100000-e00000, ACPI, ok";
    const NONE: &str = "multiboot, line \"\", RAM 0-9fc00 100000-e00000, ACPI, ok";
    boots(
        stage,
        ImageKind::Multiboot,
        &[
            Form { name: "elf32", file: elf32, machine: Pc, module: true, says: ALL },
            Form { name: "elf64", file: as_it_is, machine: Minimal, module: true, says: ALL },
            Form {
                name: "addresses",
                file: with_addresses,
                machine: Pc,
                module: false,
                says: NONE,
            },
        ],
    )
}

/// By a Multiboot2 header.
pub fn multiboot2(stage: &Stage<'_>) -> Result<()> {
    use MachineType::{Minimal, Pc};
    const ALL: &str = "multiboot2, line \"one  two\", module \"what a module holds\", \
                       RAM 0-9fc00 100000-e00000, ACPI, ok";
    const NONE: &str = "multiboot2, line \"\", RAM 0-9fc00 100000-e00000, ACPI, ok";
    boots(
        stage,
        ImageKind::Multiboot2,
        &[
            Form { name: "elf32", file: elf32, machine: Minimal, module: true, says: ALL },
            Form { name: "elf64", file: as_it_is, machine: Pc, module: true, says: ALL },
            Form { name: "alone", file: as_it_is, machine: Pc, module: false, says: NONE },
        ],
    )
}

/// By a PVH note.
pub fn pvh(stage: &Stage<'_>) -> Result<()> {
    const ALL: &str = "pvh, line \"one  two\", module \"what a module holds\", \
                       RAM 0-9fc00 100000-e00000, ACPI, ok";
    let machine = MachineType::Pc;
    boots(
        stage,
        ImageKind::Pvh,
        &[Form { name: "pc", file: as_it_is, machine, module: true, says: ALL }],
    )
}

/// At the reset vector.
pub fn rom(stage: &Stage<'_>) -> Result<()> {
    let form =
        |name, machine| Form { name, file: segment, machine, module: false, says: "rom, ok" };
    boots(stage, ImageKind::Rom, &[form("pc", MachineType::Pc), form("bare", MachineType::Minimal)])
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
    for (form, vm) in forms.iter().zip(0..) {
        vms.push(VmSpec {
            image: file(form.name, &(form.file)(&built)?)?,
            kind: KindName(kind),
            initrd: form.module.then(|| module.clone()),
            command_line: CommandLine(if form.module { LINE.to_owned() } else { String::new() }),
            machine: MachineName(form.machine),
            memory: Memory(MEMORY),
            ..VmSpec::guest(form.name)
        });
        want.extend([Want::Console(vm, form.says), Want::Shutdown(vm, 0)]);
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
