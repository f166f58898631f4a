//! Where does a damaged queue lie? In a folder, or on the simulated disk: the same bytes either way.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use backlog::Options;
use backlog::testing::{ManualClock, SimDisk};
use tempfile::TempDir;

use super::image::{self, Files, Image};

/// What is other than in the image: contents, or nothing for a file that is gone.
pub(crate) type Changes = BTreeMap<String, Option<Vec<u8>>>;

/// A copy of a queue, damaged.
pub(crate) enum Place {
    Real(TempDir),
    Simulated(SimDisk),
}

/// Files at a moment.
#[derive(PartialEq)]
pub(crate) struct Contents(Files);

impl Contents {
    pub(crate) fn get(&self, name: &str) -> Option<&Vec<u8>> {
        self.0.get(name)
    }
}

impl Place {
    pub(crate) fn real(image: &Image, changes: &Changes) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut files: BTreeMap<&str, &[u8]> =
            image.files.iter().map(|(name, bytes)| (&name[..], &bytes[..])).collect();
        for (name, bytes) in changes {
            match bytes {
                Some(bytes) => files.insert(name, bytes),
                None => files.remove(&name[..]),
            };
        }
        for inner in ["log", "groups", "groups/buffered", "groups/synced"] {
            std::fs::create_dir(folder.path().join(inner)).unwrap();
        }
        for (name, bytes) in files {
            let parent = folder.path().join(name);
            std::fs::create_dir_all(parent.parent().unwrap()).unwrap();
            std::fs::write(folder.path().join(name), bytes).unwrap();
        }
        Self::Real(folder)
    }

    pub(crate) fn simulated(image: &Image, changes: &Changes) -> Self {
        let disk = image.disk.crash(1);
        for (name, bytes) in changes {
            match bytes {
                Some(bytes) => disk.write_file(name, bytes),
                None => disk.remove_file(name),
            }
        }
        Self::Simulated(disk)
    }

    pub(crate) fn is_real(&self) -> bool {
        matches!(self, Self::Real(_))
    }

    pub(crate) fn options(&self, clock: &ManualClock) -> Options {
        match self {
            Self::Real(folder) => image::options(folder.path(), clock),
            Self::Simulated(disk) => image::options(Path::new("jobs"), clock).sim_disk(disk),
        }
    }

    /// Returns something that any change changes: of a folder all bytes, names and times of change,
    /// of the simulated disk how many operations changed it.
    pub(crate) fn fingerprint(&self) -> (u64, Vec<(String, Vec<u8>, SystemTime)>) {
        match self {
            Self::Simulated(disk) => (disk.ops(), Vec::new()),
            Self::Real(folder) => {
                let time = |name: &str| folder.path().join(name).metadata().unwrap().modified().unwrap();
                let files = image::read(folder.path()).into_iter();
                (0, files.map(|(name, bytes)| (name.clone(), bytes, time(&name))).collect())
            }
        }
    }

    /// Returns all files but `LOCK`, which is no part of a queue's state.
    pub(crate) fn contents(&self) -> Contents {
        let mut files = match self {
            Self::Real(folder) => image::read(folder.path()),
            Self::Simulated(disk) => {
                let read = |name: String| disk.read_file(&name).map(|bytes| (name, bytes));
                disk.files().into_iter().filter_map(read).collect()
            }
        };
        files.remove("LOCK");
        Contents(files)
    }
}
