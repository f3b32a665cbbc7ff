//! What a plugin has in memory.
//!
//! What a parent is told of an ended child (`ru_maxrss`) includes what the parent itself had when it
//! started the child, and that is more than the plugin's. So the plugin is looked at in its last
//! moment: all that is left to do is to print its answer, and nobody takes that yet.

use crate::wait;
use anyhow::{Context, Result, ensure};
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use std::fs::File;
use std::io::{Read, Write};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);
/// A pipe that holds no more is the smallest there is.
const PAGE: usize = 4096;

/// The most that a command had in memory until it printed its answer, in MiB.
pub(super) fn peak(command: &mut Command) -> Result<f64> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC)?;
    let held = fcntl_setpipe_size(&writer, PAGE)?;
    let (mut reader, mut writer) = (File::from(reader), File::from(writer));
    writer.write_all(&vec![b' '; held])?;
    let mut child = command.stdout(writer).spawn()?;
    // Its end of the pipe is the child's alone from here on.
    command.stdout(std::process::Stdio::null());
    let of_child = |name: &str| std::fs::read_to_string(format!("/proc/{}/{name}", child.id()));
    let status = wait::until("a plugin has its answer", LIMIT, || {
        let prints = of_child("wchan")?.contains("pipe_write");
        Ok(prints.then(|| of_child("status")).transpose()?)
    });
    let mut said = String::new();
    reader.read_to_string(&mut said)?;
    ensure!(child.wait()?.success(), "a plugin failed: {}", said.trim());
    high_water(&status?).context("the kernel does not say what a plugin has in memory")
}

/// `VmHWM` of `/proc/…/status`, in MiB.
fn high_water(status: &str) -> Option<f64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_is_that_of_the_child() {
        // This process has more than that many pages, and `echo` has fewer.
        let _pages = vec![1_u8; 64 << 20];
        let peak = peak(Command::new("/bin/echo").arg("answer")).unwrap();
        assert!(peak > 0.1 && peak < 32.0, "{peak}");
    }

    #[test]
    fn the_line_that_counts() {
        let text = "VmPeak:\t  9000 kB\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n";
        assert_eq!(high_water(text), Some(2.0));
        assert_eq!(high_water("Name:\tx\n"), None);
    }
}
