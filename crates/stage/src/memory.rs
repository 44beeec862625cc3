//! How much memory there is: asked before much is taken.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use rustix::process::{Resource, getrlimit};

use crate::Fail;

/// Bytes that this process can still take without swapping or being ended for it: the least of what the machine has free,
/// what its control groups (of a container or of a batch system, v2 or v1) leave it, and what `ulimit -v` does. `None` where
/// nothing says it, as on macOS.
pub fn memory() -> Option<u64> {
    let read = |path: &Path| fs_err::read_to_string(path).ok();
    let machine = read(Path::new("/proc/meminfo")).and_then(|text| line(&text, "MemAvailable:").map(|kb| kb * 1024));
    let groups = read(Path::new("/proc/self/cgroup")).unwrap_or_default();
    let groups = groups.lines().flat_map(folders).filter_map(|group| group.left(&read));
    machine.into_iter().chain(groups).chain(address_space()).min()
}

/// Says how many bytes `what` takes, and refuses where there are fewer.
///
/// # Errors
/// Exit code 1, with both numbers.
pub fn ask_memory(needed: u64, what: &str) -> Result<(), Fail> {
    compared(needed, memory(), what)
}

fn compared(needed: u64, free: Option<u64>, what: &str) -> Result<(), Fail> {
    match free {
        Some(free) if free < needed => {
            Err(Fail::failed(anyhow!("{what} take {} of memory, {} are free", amount(needed), amount(free)))
                .hint("end other programs, let the container or the job have more, or take fewer images (--limit)"))
        }
        free => {
            let free = free.map_or("an unknown amount".to_owned(), amount);
            tracing::debug!("{what} take {} of memory, {free} is free", amount(needed));
            Ok(())
        }
    }
}

/// `7.3 GB`, or `12 MB`.
fn amount(bytes: u64) -> String {
    let bytes = bytes as f64;
    if bytes < 1e9 { format!("{:.0} MB", bytes / 1e6) } else { format!("{:.1} GB", bytes / 1e9) }
}

/// What the limit on address space leaves.
fn address_space() -> Option<u64> {
    let limit = getrlimit(Resource::As).current?;
    let status = fs_err::read_to_string("/proc/self/status").ok()?;
    Some(limit.saturating_sub(line(&status, "VmSize:")? * 1024))
}

/// The number behind a name at the beginning of a line.
fn line(text: &str, name: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name))?;
    rest.split_whitespace().next()?.parse().ok()
}

/// The folder of a control group, and how its version calls things.
struct Group {
    folder: PathBuf,
    /// Names of the files with the limit and with what is taken, and of the line of `memory.stat` with what of it is a
    /// cache that goes first.
    names: [&'static str; 3],
}

/// The folders of the group that a line of `/proc/self/cgroup` names (`0::/user.slice/x` or `4:memory:/x`) and of those
/// that it is in. A container may see its own group as the outermost, whatever the line says.
fn folders(line: &str) -> Vec<Group> {
    let mut parts = line.splitn(3, ':').skip(1);
    let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { return Vec::new() };
    let (root, names) = match controllers {
        "" => ("/sys/fs/cgroup", ["memory.max", "memory.current", "inactive_file"]),
        _ if controllers.split(',').any(|controller| controller == "memory") => {
            ("/sys/fs/cgroup/memory", ["memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"])
        }
        _ => return Vec::new(),
    };
    let groups = Path::new(path.trim_start_matches('/')).ancestors();
    groups.map(|group| Group { folder: Path::new(root).join(group), names }).collect()
}

impl Group {
    /// What its limit leaves; `None` where it has none.
    fn left(&self, read: &impl Fn(&Path) -> Option<String>) -> Option<u64> {
        let [limit, taken, cache] = self.names;
        let number = |name: &str| read(&self.folder.join(name))?.trim().parse::<u64>().ok();
        let cache = read(&self.folder.join("memory.stat")).and_then(|text| line(&text, &format!("{cache} ")));
        let taken = number(taken)?.saturating_sub(cache.unwrap_or(0));
        Some(number(limit)?.saturating_sub(taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_says_what_it_has() {
        let some = memory();
        assert_eq!(some.is_some(), cfg!(target_os = "linux"));
        assert!(some.is_none_or(|bytes| bytes > 1 << 20));
    }

    #[test]
    fn what_there_is_not_is_refused_with_both_numbers() {
        let asked =
            |needed, free| compared(needed, free, "features of 112,120 images").map_err(|fail| fail.to_string());
        assert!(asked(1, Some(1)).is_ok() && asked(u64::MAX, None).is_ok());
        let refused = "features of 112,120 images take 5.5 GB of memory, 300 MB are free";
        assert_eq!(asked(5_500_000_000, Some(300_000_000)).unwrap_err(), refused);
    }

    #[test]
    fn a_group_leaves_its_limit_less_what_is_taken() {
        let folders = |line: &str| folders(line).into_iter().map(|group| group.folder).collect::<Vec<_>>();
        assert_eq!(
            folders("0::/a/b"),
            ["/sys/fs/cgroup/a/b", "/sys/fs/cgroup/a", "/sys/fs/cgroup/"].map(PathBuf::from)
        );
        assert_eq!(folders("4:memory:/"), [PathBuf::from("/sys/fs/cgroup/memory/")]);
        assert!(folders("3:cpu,cpuacct:/a").is_empty() && folders("nonsense").is_empty());
        let left = |limit: &'static str| {
            let files = move |path: &Path| match path.file_name()?.to_str()? {
                "memory.max" => Some(limit.to_owned()),
                "memory.current" => Some("3000\n".to_owned()),
                "memory.stat" => Some("anon 5\ninactive_file 1000\n".to_owned()),
                _ => None,
            };
            super::folders("0::/")[0].left(&files)
        };
        assert_eq!(left("max\n"), None);
        assert_eq!(left("8000\n"), Some(6000));
        assert_eq!(left("1000\n"), Some(0));
    }
}
