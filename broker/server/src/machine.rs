//! What the machine has: memory, disk, processors, and what this process uses of them.

use std::{fs, path::Path, time::Duration};

/// The memory this process may use, in bytes: the machine's, or its control group's limit if smaller.
pub(crate) fn memory_limit_bytes() -> u64 {
    let machine = rustix::system::sysinfo();
    let total = machine.totalram.saturating_mul(u64::from(machine.mem_unit));
    let group = fs::read_to_string("/sys/fs/cgroup/memory.max")
        .or_else(|_| fs::read_to_string("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    let limit = group.ok().and_then(|text| text.trim().parse::<u64>().ok());
    limit.map_or(total, |limit| limit.min(total))
}

/// The free bytes of the disk that holds `path` (or its nearest parent that exists).
pub(crate) fn free_disk_bytes(path: &Path) -> Option<u64> {
    let existing = path.ancestors().find(|ancestor| ancestor.exists())?;
    let existing = if existing.as_os_str().is_empty() { Path::new(".") } else { existing };
    let stat = rustix::fs::statvfs(existing).ok()?;
    Some(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// What this process uses.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Resident bytes.
    pub(crate) memory_bytes: u64,
    /// Processor time since the start, user and system.
    pub(crate) cpu_time: Duration,
}

/// Reads the usage from /proc; zeros where that cannot be read.
pub(crate) fn usage() -> Usage {
    let pages = fs::read_to_string("/proc/self/statm")
        .ok()
        .and_then(|text| text.split_whitespace().nth(1)?.parse::<u64>().ok());
    let memory_bytes = pages.unwrap_or(0) * rustix::param::page_size() as u64;
    Usage { memory_bytes, cpu_time: cpu_time().unwrap_or_default() }
}

fn cpu_time() -> Option<Duration> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    // The fields after the command, which is in parentheses and may hold blanks.
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks: u64 = fields.get(11)?.parse::<u64>().ok()? + fields.get(12)?.parse::<u64>().ok()?;
    let per_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_millis(ticks * 1000 / per_second.max(1)))
}
