//! How does a test get a small file system of its own, and how does it go away again whatever happens?

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::fs::FallocateFlags;

/// What the names of all folders begin with.
const PREFIX: &str = "backlog-kernels-";
/// After so long a test hangs, or after so many seconds for each of its `BACKLOG_SEEDS`.
const PATIENCE: Duration = Duration::from_secs(1800);
const EACH_SEED: usize = 20;

/// A file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Ext4,
    Xfs,
    Btrfs,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    pub(crate) const fn tool(self) -> &'static str {
        match self {
            Self::Ext4 => "mkfs.ext4",
            Self::Xfs => "mkfs.xfs",
            Self::Btrfs => "mkfs.btrfs",
        }
    }

    /// Returns the bytes of the smallest device that it takes, or a little more.
    pub(crate) const fn smallest(self) -> u64 {
        match self {
            Self::Ext4 => 48 << 20,
            Self::Xfs => 320 << 20,
            Self::Btrfs => 128 << 20,
        }
    }

    /// Makes the file system.
    pub(crate) fn make(self, device: &Path) {
        let device = device.to_str().unwrap();
        let options: &[&str] = match self {
            // Everything is written now: nothing of it trickles into a record later.
            Self::Ext4 => &[
                "-q",
                "-F",
                "-m0",
                "-b4096",
                "-Jsize=4",
                "-Elazy_itable_init=0,lazy_journal_init=0,nodiscard",
            ],
            Self::Xfs => &["-q", "-f", "-K"],
            Self::Btrfs => &["-q", "-f", "-K", "-msingle", "-dsingle"],
        };
        run(self.tool(), &[options, &[device]].concat());
    }
}

/// Runs a command that has to work; returns what it printed.
pub(crate) fn run(tool: &str, arguments: &[impl AsRef<OsStr>]) -> String {
    let output = Command::new(tool).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let told: Vec<_> = arguments.iter().map(|argument| argument.as_ref().to_owned()).collect();
    assert!(output.status.success(), "{tool} {told:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A file system that is mounted; unmounted when dropped.
pub(crate) struct Mounted {
    folder: PathBuf,
}

impl Mounted {
    pub(crate) fn new(device: &str, folder: &Path, kind: Kind, options: &str) -> Self {
        std::fs::create_dir_all(folder).unwrap();
        let mut command = vec!["-t", kind.name()];
        if !options.is_empty() {
            command.extend(["-o", options]);
        }
        command.extend([device, folder.to_str().unwrap()]);
        run("mount", &command);
        Self { folder: folder.to_owned() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn remount(&self, options: &str) -> bool {
        let options = format!("remount,{options}");
        let folder = self.folder.to_str().unwrap();
        Command::new("mount").args(["-o", &options, folder]).output().unwrap().status.success()
    }

    /// Returns how many bytes are free.
    pub(crate) fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.folder).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Takes room away until at most so many bytes are free.
    pub(crate) fn leave(&self, bytes: u64) {
        let path = self.path("ballast");
        let file = File::options().create(true).append(true).open(path).unwrap();
        // An allocation needs blocks for its own book-keeping: what is left is found step by step.
        for _ in 0..200 {
            let spare = self.free().saturating_sub(bytes);
            let block = 4096;
            if spare < block {
                return;
            }
            let length = file.metadata().unwrap().len();
            let mut step = spare / block * block;
            while step >= block
                && rustix::fs::fallocate(&file, FallocateFlags::empty(), length, step).is_err()
            {
                step = step / 2 / block * block;
            }
            if step < block {
                return;
            }
        }
    }

    /// Gives the room back.
    pub(crate) fn relieve(&self) {
        std::fs::remove_file(self.path("ballast")).unwrap();
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let plain = Command::new("umount").arg(&self.folder).output();
        if !plain.is_ok_and(|output| output.status.success()) {
            let _ = Command::new("umount").arg("-l").arg(&self.folder).status();
        }
    }
}

/// A file system in a file of its own, in a folder that goes away.
pub(crate) struct Volume {
    // Unmounted before the folder is removed.
    pub(crate) mounted: Mounted,
    home: tempfile::TempDir,
}

impl Volume {
    pub(crate) fn new(kind: Kind) -> Self {
        Self::of(kind, kind.smallest())
    }

    /// Makes one of a size.
    pub(crate) fn of(kind: Kind, bytes: u64) -> Self {
        let home = home();
        let image = home.path().join("image");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        kind.make(&image);
        let mounted = Mounted::new(image.to_str().unwrap(), &home.path().join("mnt"), kind, "loop");
        Self { mounted, home }
    }

    /// Unmounts it and mounts it again.
    pub(crate) fn again(self, kind: Kind) -> Self {
        let Self { mounted, home } = self;
        drop(mounted);
        let image = home.path().join("image");
        let mounted = Mounted::new(image.to_str().unwrap(), &home.path().join("mnt"), kind, "loop");
        Self { mounted, home }
    }
}

/// Makes a folder that goes away.
pub(crate) fn home() -> tempfile::TempDir {
    tempfile::Builder::new().prefix(&format!("{PREFIX}{}-", std::process::id())).tempdir().unwrap()
}

/// Takes away what an earlier run left mounted that was killed in the middle.
pub(crate) fn sweep() {
    let is_left = |path: &str| {
        let owner = path.split_once(PREFIX).and_then(|(_, rest)| rest.split_once('-'));
        owner.is_some_and(|(process, _)| !Path::new("/proc").join(process).exists())
    };
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let folders = mounts.lines().filter_map(|line| line.split(' ').nth(1));
    for folder in folders.filter(|folder| is_left(folder)) {
        let _ = Command::new("umount").args(["-l", folder]).status();
    }
    let loops = run("losetup", &["--list", "--noheadings", "--output", "NAME,BACK-FILE"]);
    for (device, file) in loops.lines().filter_map(|line| line.split_once(' ')) {
        if is_left(file) {
            let _ = Command::new("losetup").args(["--detach", device]).status();
        }
    }
}

/// Ends the process of the tests if one of them never ends; the next run sweeps.
pub(crate) struct Watchdog(
    #[expect(dead_code, reason = "dropped, it says that the test has ended")] Sender<()>,
);

impl Watchdog {
    pub(crate) fn new() -> Self {
        let (ended, hangs) = channel();
        std::thread::spawn(move || {
            let asked = Duration::from_secs((seeds(0) * EACH_SEED) as u64);
            if hangs.recv_timeout(PATIENCE.max(asked)) == Err(RecvTimeoutError::Timeout) {
                say("the test hangs");
                std::process::abort();
            }
        });
        Self(ended)
    }
}

/// Says something, also when the test passes.
pub(crate) fn say(text: &str) {
    // Nobody may be reading.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Returns why a test cannot run here.
pub(crate) fn missing(tools: &[&str]) -> Option<String> {
    if !cfg!(target_endian = "little") {
        return Some("the recorder speaks FUSE on little-endian machines".into());
    }
    if !rustix::process::getuid().is_root() {
        return Some("it needs root".into());
    }
    for device in ["/dev/loop-control", "/dev/fuse"] {
        if !Path::new(device).exists() {
            return Some(format!("there is no {device}"));
        }
    }
    let found = |tool: &&&str| {
        ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].iter().any(|dir| Path::new(dir).join(tool).exists())
    };
    let tools = ["mount", "umount", "losetup"].iter().chain(tools).find(|tool| !found(tool));
    tools.map(|tool| format!("there is no {tool}"))
}

/// Ends the test, with a line that says why, where it cannot run.
macro_rules! needs {
    ($($tool:expr),*) => {
        if let Some(why) = $crate::volume::missing(&[$($tool),*]) {
            return $crate::volume::say(&format!("skipped: {why}"));
        }
        $crate::volume::sweep();
        let _watchdog = $crate::volume::Watchdog::new();
    };
}
pub(crate) use needs;

/// Returns how often: the number of the test, or `BACKLOG_SEEDS`.
pub(crate) fn seeds(default: usize) -> usize {
    std::env::var("BACKLOG_SEEDS").map_or(default, |text| text.parse().expect("BACKLOG_SEEDS is a number"))
}
