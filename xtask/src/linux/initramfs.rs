//! The initial RAM file system of `linux`: busybox and a script that is the first process.

use super::cpio::Archive;
use super::mark;

const INIT: &str = include_str!("init.sh");
const PROFILE: &str = include_str!("profile.sh");

/// The line by which the first process says that it runs, up to the time that it took.
pub const GREETING: &str = "paravane: init after ";

/// What the shell says when it waits for a command.
pub const PROMPT: &str = "linux# ";

/// What the script writes to the UART's scratch register when it has work to do: behind the greeting, and
/// where a workload begins and ends.
pub const MARK_INIT: u8 = b'i';
/// See [`MARK_INIT`].
pub const MARK_BEGIN: u8 = b'b';
/// See [`MARK_INIT`].
pub const MARK_END: u8 = b'e';

/// What `paravane.run=` on the kernel's command line can ask for, in the words of `init.sh`: these, and
/// [`CLOCK_CHECK`].
pub const WORKLOADS: [&str; 5] = ["boot", "forks", "dd", "pipe", "sleep"];

/// The work that compares the kernel's clock with that of a PC, and says what it found.
pub const CLOCK_CHECK: &str = "clock";

/// The archive. `applets` are the names by which busybox knows what it is asked for.
pub fn make(busybox: &[u8], applets: &[&str]) -> Vec<u8> {
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "etc", "proc", "root", "sys", "tmp"] {
        archive.folder(folder);
    }
    // The kernel opens the console before there is a devtmpfs.
    archive.device("dev/console", 5, 1);
    archive.device("dev/null", 1, 3);
    archive.device("dev/ttyS0", 4, 64);
    archive.program("bin/busybox", busybox);
    for applet in applets.iter().filter(|name| **name != "busybox") {
        archive.link(&format!("bin/{applet}"), "busybox");
    }
    archive.program("bin/mark", &mark::program());
    archive.program("etc/profile", PROFILE.as_bytes());
    archive.program("init", INIT.as_bytes());
    archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_has_what_the_kernel_and_the_script_look_for() {
        let archive = make(b"\x7fELF", &["busybox", "sh", "mount"]);
        let has = |text: &str| archive.windows(text.len()).any(|part| part == text.as_bytes());
        for name in
            ["init\0", "dev/console\0", "bin/busybox\0", "bin/sh\0", "bin/mount\0", "proc\0"]
        {
            assert!(has(name), "{name:?}");
        }
        assert_eq!(archive.windows(12).filter(|part| *part == b"bin/busybox\0").count(), 1);
    }

    #[test]
    fn the_script_knows_every_workload_and_mark_and_greets() {
        for mark in [MARK_INIT, MARK_BEGIN, MARK_END] {
            assert!(INIT.contains(&format!(" mark {}\n", char::from(mark))), "{mark}");
        }
        assert!(INIT.contains(&format!("echo \"{GREETING}")));
        assert!(PROFILE.contains(&format!("PS1='{PROMPT}'")));
        let names = [&WORKLOADS[..], &[CLOCK_CHECK]].concat();
        assert!(INIT.contains(&format!("            {})\n", names.join(" | "))));
        for name in names {
            assert!(INIT.contains(&format!("\nrun_{name}() {{\n")), "{name}");
        }
    }
}
