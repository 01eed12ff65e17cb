//! The hostile guest: one case for each way to misbehave, chosen by `case=NAME`.
//!
//! A case that survives prints `@hostile pass NAME` and shuts down with code 0, or `@hostile fail
//! NAME: why` with code 1. Cases that end the VM are judged by the hypervisor's end report.
//! `case=list` prints every case and what must happen; `case=all-calls`, the default, runs those
//! that survive in one boot, but for those that `skip=` names.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod cases;
#[cfg(target_os = "none")]
mod forms;
#[cfg(target_os = "none")]
mod ports;
#[cfg(target_os = "none")]
mod random;
#[cfg(target_os = "none")]
mod raw;
#[cfg(target_os = "none")]
mod steps;
#[cfg(target_os = "none")]
mod trip;

#[cfg(target_os = "none")]
guest_kernel::guest!("hostile", run);

#[cfg(target_os = "none")]
fn run() -> u8 {
    use cases::{Case, Expected};
    use guest_kernel::{info, println};

    let options = info::options();
    let skipped = options.value("skip").unwrap_or_default();
    let survivors = |case: &Case| {
        case.expected == Expected::Survives && !skipped.split(',').any(|name| name == case.name)
    };
    let name = options.value("case").unwrap_or("all-calls");
    let failed = match name {
        "list" => {
            for case in cases::all() {
                println!("@hostile case {} {}", case.name, case.expected.name());
            }
            0
        }
        "steps" => {
            steps::run();
            0
        }
        "all-calls" => cases::all().filter(survivors).filter(|c| !judge(c)).count(),
        _ => match cases::all().find(|case| case.name == name) {
            Some(case) => usize::from(!judge(&case)),
            None => {
                println!("@hostile fail {name}: no such case, see case=list");
                1
            }
        },
    };
    u8::from(failed != 0)
}

/// Runs a case and says how it went; false for a failure.
#[cfg(target_os = "none")]
fn judge(case: &cases::Case) -> bool {
    use guest_kernel::{println, pv, smp};

    if case.needs_pv && !pv::present() {
        println!("@hostile skip {}: Paravane is not there", case.name);
        return true;
    }
    if matches!(case.action, cases::Action::Several(_)) && smp::available() < 2 {
        println!("@hostile skip {}: there is one CPU", case.name);
        return true;
    }
    let may_return = matches!(case.expected, cases::Expected::Survives | cases::Expected::Depends);
    let result = case.action.perform();
    match result {
        Ok(()) if may_return => println!("@hostile pass {}", case.name),
        Ok(()) => println!("@hostile fail {}: the guest goes on", case.name),
        Err(why) => println!("@hostile fail {}: {why}", case.name),
    }
    result.is_ok() && may_return
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!(
        "hostile is a kernel: build it with --target x86_64-unknown-none, or use `cargo xtask run hostile`"
    );
    std::process::exit(2);
}
