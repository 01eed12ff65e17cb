//! A program for the guest that says "here" to the hypervisor and to nobody else: it writes a byte to the
//! scratch register of the UART, which has no other use. A kernel does not notice, and on a machine without
//! a hypervisor nothing happens.

/// Where the program is loaded.
const BASE: u64 = 0x40_0000;
const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// Writes the first letter of its argument to port 3FFh.
const CODE: &[u8] = &[
    0xbf, 3, 0, 0, 0, // mov edi, 3
    0xb8, 172, 0, 0, 0, // mov eax, iopl
    0x0f, 0x05, // syscall
    0x48, 0x8b, 0x74, 0x24, 16,   // mov rsi, [rsp + 16]: argv[1]
    0xac, // lodsb
    0xba, 0xff, 3, 0, 0,    // mov edx, 0x3ff
    0xee, // out dx, al
    0x31, 0xff, // xor edi, edi
    0xb8, 60, 0, 0, 0, // mov eax, exit
    0x0f, 0x05, // syscall
];

/// An ELF file of one segment. A program without a library makes no exits of its own.
pub fn program() -> Vec<u8> {
    let start = FILE_HEADER + PROGRAM_HEADER;
    let length = (start + CODE.len()) as u64;
    let mut elf = b"\x7fELF\x02\x01\x01".to_vec();
    elf.resize(16, 0);
    let mut put = |value: u64, size: usize| elf.extend_from_slice(&value.to_le_bytes()[..size]);
    put(2, 2); // executable
    put(62, 2); // x86-64
    put(1, 4);
    put(BASE + start as u64, 8); // entry
    put(FILE_HEADER as u64, 8); // program headers
    put(0, 8); // no sections
    put(0, 4);
    put(FILE_HEADER as u64, 2);
    put(PROGRAM_HEADER as u64, 2);
    put(1, 2);
    put(0, 6);
    put(1, 4); // loaded
    put(5, 4); // read and run
    put(0, 8); // from the start of the file
    put(BASE, 8);
    put(BASE, 8);
    put(length, 8);
    put(length, 8);
    put(0x1000, 8);
    elf.extend_from_slice(CODE);
    elf
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::elf;

    #[test]
    fn the_program_is_an_executable_that_starts_at_its_code() {
        let file = program();
        assert_eq!(elf::memory_size(&file).unwrap(), file.len() as u64);
        assert_eq!(elf::loaded(&file).unwrap(), BASE..BASE + file.len() as u64);
        let entry = u64::from_le_bytes(file[24..32].try_into().unwrap()) - BASE;
        assert_eq!(&file[entry as usize..], CODE);
    }
}
