//! What is left of VMs that have ended, as it is seen from outside: in the memory of the machine.

use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hv_core::host::report::Cause;

use super::checks::small;
use super::list::EACH_VENDOR;
use super::outcome::Seen;
use super::{Case, Kind, Stage};
use crate::serial::Input;
use crate::session::{Ended, Session, Step};
use crate::vmfile::VmSpec;

/// The cases.
pub const CASES: &[Case] = &[Case {
    name: "nothing-remains-of-a-vm",
    about: "what a VM had in its memory is nowhere in that of the machine when it has ended, however, while another one goes on",
    on: EACH_VENDOR,
    kind: Kind::Checks(nothing_remains),
}];

/// How VMs end. One more stays.
const WAYS: [(&str, Cause); 4] = [
    ("shutdown", Cause::Shutdown),
    ("crash", Cause::Crash),
    ("triple-fault", Cause::TripleFault),
    ("halt", Cause::HaltedForEver),
];
const VMS: usize = WAYS.len() + 1;
/// How long the hypervisor may take to clean up, while this computer does other things as well.
const PATIENCE: Duration = Duration::from_secs(60);

/// The first VM's option `tag`: a small one is in the guest's code.
const TAG: usize = 0x51;

/// What the guest fills its memory with (`tag` in `guests/hostile`).
const fn tag(vm: usize) -> u64 {
    0x5eed << 48 | ((TAG + vm) as u64) << 32
}

fn nothing_remains(stage: &Stage<'_>) -> Result<()> {
    let vm = |way: &str, number: usize| {
        let line = format!("case=remains way={way} tag={}", TAG + number);
        small(way, "hostile", &line)
    };
    let mut vms: Vec<VmSpec> =
        WAYS.iter().enumerate().map(|(number, (way, _))| vm(way, number)).collect();
    vms.push(VmSpec { name: "stays".to_owned(), ..vm("shutdown", WAYS.len()) });
    let plan = stage.lab.plan.with_vms(vms)?;
    let hardware = stage.hardware(&plan.vms);
    let mut boot = plan.boot(hardware, &stage.folder, Duration::from_secs(240))?;
    boot.input = true;
    let mut run = Run { session: Session::start(&boot)?, seen: Seen::default() };
    let mut input = run.session.take_input().context("the machine takes no input")?;
    let words = |seen: &Seen| -> Option<Vec<u64>> {
        (0..VMS as u8).map(|vm| filled(&seen.vms.get(&vm)?.console())).collect()
    };
    run.until(|seen| words(seen).is_some()).context("a VM does not fill its memory")?;
    let words = words(&run.seen).unwrap_or_default();
    let ram = Ram::of(run.session.process(), boot.hardware.memory_mib << 20)?;
    let before = ram.count()?;
    ensure!(
        before.iter().zip(&words).all(|(found, words)| *words != 0 && found >= words),
        "VMs have written {words:?} words, and {before:?} are in the machine's memory"
    );
    let ends = |input: &mut Input, vms: Range<usize>| -> Result<()> {
        vms.into_iter().try_for_each(|vm| input.send(vm as u8, b"\r"))
    };
    ends(&mut input, 0..WAYS.len())?;
    run.until(|seen| seen.ends.len() >= WAYS.len()).context("a VM does not end")?;
    let deadline = Instant::now() + PATIENCE;
    let after = loop {
        let found = ram.count()?;
        if found[..WAYS.len()].iter().all(|&count| count == 0) || Instant::now() > deadline {
            break found;
        }
        run.step()?;
    };
    let (gone, stays) = after.split_at(WAYS.len());
    ensure!(
        gone.iter().all(|&count| count == 0) && stays >= &words[WAYS.len()..],
        "{before:?} words were in memory, and {after:?} are left"
    );
    ends(&mut input, WAYS.len()..VMS)?;
    let ended = run.end()?;
    let causes: Vec<_> = (0..VMS as u8).map(|vm| run.seen.take(vm).cause()).collect();
    let expected = WAYS.iter().map(|(_, cause)| Some(*cause)).chain([Some(Cause::Shutdown)]);
    ensure!(
        ended == Ended::Done && causes.iter().copied().eq(expected),
        "VMs ended by {causes:?}, and all by {ended:?}; log: {}",
        boot.log.display()
    );
    ensure!(run.seen.faults.is_empty(), "{:?}", run.seen.faults);
    let _ = fs::remove_file(boot.folder.join("paravane.iso"));
    Ok(())
}

/// How many words the guest says that it has filled.
fn filled(console: &str) -> Option<u64> {
    let (_, rest) = console.split_once("@hostile remains ")?;
    rest.split_once(" words")?.0.parse().ok()
}

struct Run {
    session: Session,
    seen: Seen,
}

impl Run {
    /// Hears what has happened; how the machine has ended, if it has.
    fn step(&mut self) -> Result<Option<Ended>> {
        match self.session.next(Duration::from_millis(100))? {
            Step::Event(event) => self.seen.event(event),
            Step::Idle => {}
            Step::Ended(ended) => return Ok(Some(ended)),
        }
        Ok(None)
    }

    /// Waits until this has been seen.
    fn until(&mut self, has: impl Fn(&Seen) -> bool) -> Result<()> {
        while !has(&self.seen) {
            if let Some(ended) = self.step()? {
                bail!("the machine ended before: {ended:?}");
            }
        }
        Ok(())
    }

    fn end(&mut self) -> Result<Ended> {
        loop {
            if let Some(ended) = self.step()? {
                return Ok(ended);
            }
        }
    }
}

/// The memory of a machine, in that of the process that emulates it (proc(5)).
struct Ram {
    process: File,
    place: Range<u64>,
}

impl Ram {
    /// It is one mapping of so many bytes, and of little more that the emulator has beside it.
    fn of(process: u32, size: u64) -> Result<Ram> {
        let maps = fs::read_to_string(format!("/proc/{process}/maps"))?;
        let length = |place: &Range<u64>| place.end - place.start;
        let place = mappings(&maps).filter(|place| length(place) >= size).min_by_key(length);
        Ok(Ram {
            process: File::open(format!("/proc/{process}/mem"))?,
            place: place.context("no memory of the machine in its process")?,
        })
    }

    /// How many words of it are the tag of each VM.
    fn count(&self) -> Result<[u64; VMS]> {
        const ZEROS: [u8; 4096] = [0; 4096];
        let mut found = [0; VMS];
        let mut bytes = vec![0; 1 << 20];
        let mut at = self.place.start;
        while at < self.place.end {
            let length = bytes.len().min((self.place.end - at) as usize);
            self.process.read_exact_at(&mut bytes[..length], at)?;
            let pages = bytes[..length].chunks(4096).filter(|page| *page != &ZEROS[..page.len()]);
            for word in pages.flat_map(|page| page.chunks_exact(8)) {
                let word = u64::from_le_bytes(word.try_into()?);
                if word >> 48 == 0x5eed
                    && let Some(vm) = (0..VMS).find(|&vm| word == tag(vm))
                {
                    found[vm] += 1;
                }
            }
            at += length as u64;
        }
        Ok(found)
    }
}

/// Those that can be written, and hold no code of the emulator's.
fn mappings(maps: &str) -> impl Iterator<Item = Range<u64>> {
    maps.lines().filter_map(|line| {
        let (place, rest) = line.split_once(' ')?;
        let (start, end) = place.split_once('-')?;
        let number = |text| u64::from_str_radix(text, 16).ok();
        rest.starts_with("rw-").then_some(number(start)?..number(end)?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_that_can_be_written_are_found() {
        let maps = "55d0-55d4 r--p 00000000 fd:00 1 /usr/bin/x\n7f00-8f00 rw-p 00000000 00:00 0 \n9f00-af00 rwxp 00000000 00:00 0 \n";
        assert_eq!(mappings(maps).collect::<Vec<_>>(), vec![Range { start: 0x7f00, end: 0x8f00 }]);
    }

    #[test]
    fn what_a_guest_has_filled_is_read() {
        assert_eq!(filled("hello\n@hostile remains 917504 words\n"), Some(917_504));
        assert_eq!(filled("@hostile remains 9"), None);
    }

    #[test]
    fn words_of_this_process_are_found_and_gone() {
        let mut words = vec![tag(2); 1000];
        let place = words.as_ptr() as u64..words.as_ptr_range().end as u64;
        let ram = Ram { process: File::open("/proc/self/mem").unwrap(), place };
        assert_eq!(ram.count().unwrap(), [0, 0, 1000, 0, 0]);
        words.fill(0);
        words[7] = tag(4);
        assert_eq!(ram.count().unwrap(), [0, 0, 0, 0, 1]);
    }
}
