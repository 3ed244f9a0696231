//! The machine and the program under test, as far as a figure depends on them.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

#[derive(Default)]
pub struct Machine {
    pub thalweg_version: String,
    pub processor: String,
    pub cores: usize,
    pub memory_mb: u64,
    pub kernel: String,
    /// Runnable tasks, averaged over the minute before the benchmark began: well above 0 means that figures are not clean.
    pub load: f64,
}

impl Machine {
    /// What cannot be found out is "unknown" or 0.
    pub fn look(program: &Path) -> Machine {
        Machine {
            thalweg_version: version(program).unwrap_or_else(|| "unknown".to_string()),
            processor: field("/proc/cpuinfo", "model name").unwrap_or_else(|| std::env::consts::ARCH.to_string()),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mb: field("/proc/meminfo", "MemTotal").and_then(|text| kilobytes(&text)).unwrap_or(0) / 1024,
            kernel: fs::read_to_string("/proc/sys/kernel/osrelease").map_or("unknown".into(), |text| text.trim().to_string()),
            load: fs::read_to_string("/proc/loadavg").ok().and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0.0),
        }
    }

    pub fn to_json(&self) -> Value {
        json!({
            "thalweg": self.thalweg_version,
            "processor": self.processor,
            "cores": self.cores,
            "memory_mb": self.memory_mb,
            "kernel": self.kernel,
            "load_before": self.load,
        })
    }
}

fn version(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.lines().next()?.trim().to_string())
}

/// The value of the first line `name : value` of a file such as those in /proc.
pub fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then(|| value.trim().to_string())
    })
}

/// `4096 kB` as a number.
pub fn kilobytes(text: &str) -> Option<u64> {
    text.strip_suffix("kB")?.trim().parse().ok()
}
