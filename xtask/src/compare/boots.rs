//! One boot for each machine and policy, a few at a time.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use hv_core::vm::policy::Policy;

use super::join::Row;
use super::measure;
use super::progress::Progress;
use crate::machine::Hardware;
use crate::plan::Plan;
use crate::vmfile::{CommandLine, FeatureName, PolicyName, VmSpec};

/// How many boots are measured at once. Each keeps one core busy.
const JOBS: usize = 2;

/// The benchmark guest under one policy.
pub fn spec(policy: Policy, workloads: &[String], without: &[FeatureName]) -> VmSpec {
    let shim = if policy == Policy::Pv { "shim=auto" } else { "shim=native" };
    let mut line = shim.to_owned();
    if !workloads.is_empty() {
        line += &format!(" workload={}", workloads.join(","));
    }
    VmSpec {
        name: policy.name().to_owned(),
        command_line: CommandLine(line),
        policy: PolicyName(policy),
        without: without.to_vec(),
        scratch_page: true,
        ..VmSpec::guest("bench")
    }
}

/// Boots each of `specs` by itself on each of `machines`, a few at a time, and joins what they say.
pub fn measure_all(
    plan: &Plan,
    specs: &[VmSpec],
    machines: &[Hardware],
    folder: &Path,
    limit: Duration,
    progress: &Progress,
) -> Result<Vec<Row>> {
    let boots: Vec<(&Hardware, &VmSpec)> =
        machines.iter().flat_map(|machine| specs.iter().map(move |spec| (machine, spec))).collect();
    let rows = in_parallel(&boots, |(hardware, spec)| {
        let place = folder.join(hardware.machine.name()).join(&spec.name);
        measure::one(plan, spec, hardware, &place, limit, progress)
            .with_context(|| format!("machine {}, policy {}", hardware.machine.name(), spec.name))
    })?;
    Ok(rows.into_iter().flatten().collect())
}

/// Does `work` for each of `items`, a few at a time, and gives the results in the same order. One failure
/// fails the whole: what has not begun then does not begin.
pub fn in_parallel<T: Sync, R: Send>(
    items: &[T],
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..items.len()).collect());
    let next = || queue.lock().ok().and_then(|mut queue| queue.pop_front());
    let results: Mutex<Vec<(usize, Result<R>)>> = Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..JOBS.min(items.len()) {
            scope.spawn(|| {
                while let Some(index) = next() {
                    let result = work(&items[index]);
                    let failed = result.is_err();
                    if let Ok(mut results) = results.lock() {
                        results.push((index, result));
                    }
                    if failed && let Ok(mut queue) = queue.lock() {
                        queue.clear();
                    }
                }
            });
        }
    });
    let Ok(mut results) = results.into_inner() else { bail!("a measuring thread failed") };
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_keep_the_order_and_the_first_failure_is_that_of_the_whole() {
        let numbers: Vec<u32> = (0..20).collect();
        assert_eq!(in_parallel(&numbers, |n| Ok(n * 2)).unwrap()[7], 14);
        let odd = in_parallel(&numbers, |&n| if n == 3 { bail!("no {n}") } else { Ok(n) });
        assert_eq!(odd.unwrap_err().to_string(), "no 3");
    }
}
