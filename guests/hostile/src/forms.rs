//! Instruction forms that a hypervisor executes itself where they reach a device: each is taken on RAM and
//! on the scratch page, in every mode of the CPU, and must leave the same.
//!
//! `case=forms seed=N rounds=N` takes each form so often in each mode. The same seed gives the same
//! trials; `only=N` takes one of them and says what it is; `without=MODE,MODE` leaves modes out.

use guest_kernel::{info, println, scratch};

use crate::cases::{Action, Case, Expected, Verdict, Wrong};
use crate::random::Random;
use crate::steps::modes::{MODES, Mode};

mod encode;
mod stage;
mod table;
mod trial;

use table::{FORMS, Form, PORTS, STRINGS, SWAPS};
use trial::Kind;

const fn case(name: &'static str, run: fn() -> Verdict) -> Case {
    Case { name, expected: Expected::Depends, needs_pv: true, action: Action::Run(run) }
}

/// The cases. They need the scratch page.
pub const CASES: &[Case] = &[
    case("forms", || take(Kind::Plain, || FORMS.iter().copied().flatten(), |_| true, 1)),
    // Which QEMU 7.2 takes for one of 32 bits in 16-bit code, and of 16 bits with both prefixes.
    case("forms-movbe", || take(Kind::Plain, || SWAPS.iter(), |_| true, 4)),
    // Strings of which a page is not there, or not to be written.
    case("forms-faults", || {
        let forms = || STRINGS.iter().chain(PORTS);
        take(Kind::Faults, forms, |mode| !mode.is_unconfined(), 4)
    }),
    // Strings that reach the end of a segment.
    case("forms-limits", || {
        let forms = || STRINGS.iter().chain(PORTS);
        take(Kind::Limits, forms, |mode| mode.bits != 64 && !mode.is_virtual, 6)
    }),
];

/// Differences that are told in full.
const TOLD: u64 = 8;
const UD: u8 = 6;

fn take<I: Iterator<Item = &'static Form>>(
    kind: Kind,
    forms: fn() -> I,
    takes_place: fn(&Mode) -> bool,
    rounds: u64,
) -> Verdict {
    if !scratch::is_present() {
        return Err(Wrong::Other(
            "there is no scratch page: the VM's description has to ask for it",
        ));
    }
    let options = info::options();
    let seed = options.number("seed").unwrap_or(1);
    let rounds = options.number("rounds").unwrap_or(rounds);
    let only = options.number("only");
    let without = options.value("without").unwrap_or_default();
    let is_left_out = |mode: &Mode| without.split(',').any(|name| name == mode.name);
    let mut stage = stage::Stage::new();
    let (mut number, mut trials, mut wrong) = (0, 0u64, 0u64);
    let (mut reached, mut unknown) = (0u64, 0u64);
    for mode in MODES.iter().filter(|mode| takes_place(mode) && !is_left_out(mode)) {
        for form in forms() {
            for _ in 0..rounds {
                number += 1;
                if only.is_some_and(|only| only != number) {
                    continue;
                }
                let mut random = Random::new(seed, number);
                let Some(trial) = trial::make(kind, mode, form, &mut stage, &mut random) else {
                    continue;
                };
                trials += 1;
                if only.is_some() {
                    trial.tell(number);
                }
                let [before, after] = [stage.take(&trial, false), stage.take(&trial, true)];
                if before.ends[0].vector == UD {
                    // This CPU does not know the form.
                    unknown += 1;
                    stage.renew();
                    continue;
                }
                reached += u64::from(after.exits > before.exits);
                let equal = trial::equal(&trial, &before, &after);
                let memory = stage.compare(&trial);
                if equal && memory.is_none() {
                    continue;
                }
                wrong += 1;
                if wrong <= TOLD {
                    trial.tell(number);
                    println!("    in RAM  {before:x?}");
                    println!("    trapped {after:x?}");
                    if let Some((at, ram, trapped)) = memory {
                        println!("    at {at:#x}: {ram:#x} in RAM, {trapped:#x} trapped");
                    }
                }
                stage.renew();
            }
        }
        println!("@hostile {trials} trials up to {}, {wrong} differ", mode.name);
    }
    println!(
        "@hostile {reached} trials exit where they do not in RAM, {unknown} are not known there"
    );
    if only.is_none() && reached * 4 < trials {
        return Err(Wrong::Other("the scratch page is hardly reached"));
    }
    if wrong != 0 {
        return Err(Wrong::Other("an emulated instruction does not leave what the CPU leaves"));
    }
    Ok(())
}
