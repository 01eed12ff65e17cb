//! An archive as Linux takes it for an initial RAM file system: cpio, in its "newc" form (Linux,
//! "initramfs buffer format").

/// What an entry is, in the bits that `stat` has for it.
const DIRECTORY: u32 = 0o04_0000;
const DEVICE: u32 = 0o02_0000;
const FILE: u32 = 0o10_0000;
const LINK: u32 = 0o12_0000;

/// An archive that grows. Everything in it belongs to root and is as old as time, so the same contents
/// make the same bytes.
#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    /// Adds a folder.
    pub fn folder(&mut self, name: &str) {
        self.entry(name, DIRECTORY | 0o755, (0, 0), &[]);
    }

    /// Adds a program.
    pub fn program(&mut self, name: &str, bytes: &[u8]) {
        self.entry(name, FILE | 0o755, (0, 0), bytes);
    }

    /// Adds a symbolic link.
    pub fn link(&mut self, name: &str, target: &str) {
        self.entry(name, LINK | 0o777, (0, 0), target.as_bytes());
    }

    /// Adds a character device.
    pub fn device(&mut self, name: &str, major: u32, minor: u32) {
        self.entry(name, DEVICE | 0o600, (major, minor), &[]);
    }

    /// The whole archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.entries = 0;
        self.entry("TRAILER!!!", 0, (0, 0), &[]);
        self.bytes
    }

    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), contents: &[u8]) {
        self.entries += 1;
        let length = u32::try_from(contents.len()).expect("a file of an initramfs is small");
        let name_length = u32::try_from(name.len() + 1).expect("a name is short");
        let header = [
            self.entries, // inode
            mode,
            0, // owner
            0, // group
            1, // links
            0, // time
            length,
            0, // the archive's own device
            0,
            device.0,
            device.1,
            name_length,
            0, // checksum
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in header {
            self.bytes.extend_from_slice(format!("{field:08X}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(contents);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, mode, device and contents.
    type Entry = (String, u32, (u32, u32), Vec<u8>);

    /// Each entry, read as the kernel reads it.
    fn read(mut bytes: &[u8]) -> Vec<Entry> {
        let mut found = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let text = &bytes[6 + 8 * index..][..8];
                u32::from_str_radix(str::from_utf8(text).unwrap(), 16).unwrap()
            };
            let (mode, length, device) = (field(1), field(6) as usize, (field(9), field(10)));
            let name_end = 110 + field(11) as usize;
            assert_eq!(bytes[name_end - 1], 0);
            let name = str::from_utf8(&bytes[110..name_end - 1]).unwrap().to_owned();
            let start = name_end.next_multiple_of(4);
            let contents = bytes[start..start + length].to_vec();
            if name == "TRAILER!!!" {
                assert_eq!(bytes.len(), (start + length).next_multiple_of(4));
                return found;
            }
            found.push((name, mode, device, contents));
            bytes = &bytes[(start + length).next_multiple_of(4)..];
        }
    }

    #[test]
    fn what_is_put_in_comes_out() {
        let mut archive = Archive::default();
        archive.folder("dev");
        archive.device("dev/ttyS0", 4, 64);
        archive.program("init", b"#!x");
        archive.link("bin/sh", "busybox");
        let read = read(&archive.finish());
        let expected = [
            ("dev", 0o04_0755, (0, 0), ""),
            ("dev/ttyS0", 0o02_0600, (4, 64), ""),
            ("init", 0o10_0755, (0, 0), "#!x"),
            ("bin/sh", 0o12_0777, (0, 0), "busybox"),
        ];
        let expected = expected.map(|(n, m, d, c)| (n.to_owned(), m, d, c.as_bytes().to_vec()));
        assert_eq!(read, expected);
    }

    #[test]
    fn names_and_contents_of_every_length_stay_aligned() {
        for length in 0..9 {
            let mut archive = Archive::default();
            archive.program(&"n".repeat(length + 1), &vec![b'x'; length]);
            archive.folder("last");
            assert_eq!(read(&archive.finish()).len(), 2, "{length}");
        }
    }
}
