//! The benchmark guest: what each operation of a kernel costs, per operation, in the guest's TSC
//! ticks and in exits.
//!
//! Options: `workload=NAME,NAME` (default: all), `ops=N` operations of each instead of the table's
//! number, `shim=auto|native|pv`, `pattern=MIB` to have so much memory written before and looked at after each
//! workload, with `tag=N` in it.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod measure;
#[cfg(target_os = "none")]
mod pattern;
#[cfg(target_os = "none")]
mod table;
#[cfg(target_os = "none")]
mod workloads;

#[cfg(target_os = "none")]
guest_kernel::guest!("bench", run);

#[cfg(target_os = "none")]
fn run() -> u8 {
    use guest_kernel::{info, println};

    let options = info::options();
    let selected = || table::WORKLOADS.iter().filter(|w| options.selects("workload", w.name));
    let pattern = pattern::Pattern::write();
    let mut rows = 0;
    for workload in selected() {
        if !(workload.exists)() {
            continue;
        }
        let ops = options.number("ops").filter(|&n| n > 0).unwrap_or(workload.ops);
        let row = measure::row(workload, ops);
        println!("@bench row {row}");
        rows += 1;
        if let Some(address) = pattern.as_ref().and_then(pattern::Pattern::damage) {
            println!("@bench fail somebody has written to {address:#x}");
            return 1;
        }
    }
    if selected().next().is_none() {
        println!("@bench fail no such workload: {}", options.value("workload").unwrap_or_default());
        return 1;
    }
    println!("@bench done rows={rows}");
    0
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!(
        "bench is a kernel: build it with --target x86_64-unknown-none, or use `cargo xtask run bench`"
    );
    std::process::exit(2);
}
