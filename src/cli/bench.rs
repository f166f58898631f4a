//! `backlog bench`: how fast is this disk, and how much of that does the queue give?
//!
//! The queue and `raw` take turns in slices of 20 ms, so that what else the machine does meets both: the ratio of
//! neighbours is steadier than either speed. `raw` is what no queue can beat: a plain write of the same bytes over
//! blocks written before, and one fdatasync.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use backlog::{Durability, Queue};
use serde_json::json;

use super::exit::{CLEAN, Failure, Outcome};
use super::out::{As, Column, Is, Rows, column};

/// Measure what this disk can do, and how much of that the queue gives.
///
/// Works in a folder of its own, made in DIR and removed at the end. `raw` writes the same bytes over blocks written
/// before, with one fdatasync for as many messages. A ratio is that of neighbouring slices of 20 ms: the median,
/// and the lowest and highest.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A folder on the disk to measure
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Bytes of a message
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    bytes: u32,
    /// How long to measure each workload
    #[arg(long, value_name = "TIME", value_parser = super::duration, default_value = "2s")]
    time: Duration,
    #[command(flatten)]
    form: As,
}

const COLUMNS: [Column; 8] = [
    column("workload", "workload", Is::Text),
    column("queue_per_s", "messages/s", Is::Number),
    column("raw_per_s", "raw", Is::Number),
    column("ratio", "ratio", Is::Number),
    column("lowest", "lowest", Is::Number),
    column("highest", "highest", Is::Number),
    column("p50_us", "p50 us", Is::Number),
    column("p99_us", "p99 us", Is::Number),
];

const SLICE: Duration = Duration::from_millis(20);
/// Bytes of the file that `raw` writes over and over.
const FILE: u64 = 32 << 20;
/// Bytes of a batch's header.
const HEADER: usize = 32;

/// What is measured: its name, messages for one sync (0: none), and how they are pushed.
const WORKLOADS: [(&str, usize, How); 4] = [
    ("push, synced", 1, How::One),
    ("16 tickets, synced", 16, How::Tickets),
    ("batch of 100, synced", 100, How::Batch),
    ("push, buffered", 0, How::Buffered),
];

#[derive(Clone, Copy)]
enum How {
    One,
    Tickets,
    Batch,
    Buffered,
}

pub(super) fn run(args: &Args) -> Outcome {
    let folder = args.dir.join(format!(".backlog-bench-{}", std::process::id()));
    fs::create_dir(&folder)
        .map_err(|error| Failure::system(&format!("make {}", folder.display()), &error))?;
    let measured = measure(args, &folder);
    let removed = fs::remove_dir_all(&folder);
    measured?;
    removed.map_err(|error| Failure::system(&format!("remove {}", folder.display()), &error))?;
    Ok(CLEAN)
}

fn measure(args: &Args, folder: &Path) -> Result<(), Failure> {
    let payload = vec![b'x'; args.bytes as usize];
    let mut raw = Raw::new(folder, payload.len())?;
    let queue = Queue::open(folder.join("jobs"))?;
    let buffered = queue.with_durability(Durability::Buffered);
    let mut rows = Rows::new(args.form, "workloads", &COLUMNS).live();
    for (name, group, how) in WORKLOADS {
        let mut push = |times: &mut Vec<u64>| {
            let start = Instant::now();
            match how {
                How::One => {
                    queue.push(&payload)?;
                }
                How::Buffered => {
                    buffered.push(&payload)?;
                }
                How::Batch => {
                    queue.push_batch(std::iter::repeat_n(&payload, group))?;
                }
                How::Tickets => {
                    let tickets =
                        (0..group).map(|_| queue.push_deferred(&payload)).collect::<Result<Vec<_>, _>>()?;
                    for ticket in tickets {
                        ticket.wait()?;
                    }
                }
            }
            times.push(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
            Ok(group.max(1))
        };
        let (mut times, mut ignored) = (Vec::new(), Vec::new());
        let (mut pairs, begun) = (Vec::new(), Instant::now());
        // The first slices of a file are not as those that follow.
        slice(&mut push, &mut ignored)?;
        while begun.elapsed() < args.time || pairs.len() < 3 {
            let queue = slice(&mut push, &mut times)?;
            let raw = slice(&mut |_| raw.push(group), &mut ignored)?;
            pairs.push((queue, raw));
        }
        let mut ratios: Vec<f64> =
            pairs.iter().map(|&(queue, raw)| queue as f64 / raw.max(1) as f64).collect();
        ratios.sort_by(f64::total_cmp);
        times.sort_unstable();
        let middle = |mut rates: Vec<u64>| {
            rates.sort_unstable();
            rates[rates.len() / 2]
        };
        let hundredths = |ratio: f64| (ratio * 100.0).round() / 100.0;
        rows.push(json!({
            "workload": name,
            "queue_per_s": middle(pairs.iter().map(|pair| pair.0).collect()),
            "raw_per_s": middle(pairs.iter().map(|pair| pair.1).collect()),
            "ratio": hundredths(ratios[ratios.len() / 2]),
            "lowest": hundredths(ratios[0]),
            "highest": hundredths(ratios[ratios.len() - 1]),
            "p50_us": times[times.len() / 2],
            "p99_us": times[times.len() * 99 / 100],
        }))?;
    }
    rows.end()?;
    queue.close()?;
    Ok(())
}

/// Does one thing again and again for a slice; returns messages a second.
fn slice(
    push: &mut dyn FnMut(&mut Vec<u64>) -> Result<usize, Failure>,
    times: &mut Vec<u64>,
) -> Result<u64, Failure> {
    let (start, mut count) = (Instant::now(), 0);
    loop {
        count += push(times)?;
        let elapsed = start.elapsed();
        if elapsed >= SLICE {
            return Ok(super::per_second(count as u64, elapsed));
        }
    }
}

/// The least that can be done: bytes written over bytes, and synced.
struct Raw {
    path: PathBuf,
    file: File,
    position: u64,
    message: Vec<u8>,
    group: Vec<u8>,
}

impl Raw {
    fn new(folder: &Path, payload: usize) -> Result<Self, Failure> {
        let path = folder.join("raw");
        let failed = |error| Failure::system(&format!("write {}", path.display()), &error);
        let mut file = File::create_new(&path).map_err(failed)?;
        let zeros = vec![0; 64 << 10];
        for _ in 0..FILE / zeros.len() as u64 {
            file.write_all(&zeros).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        let message = vec![b'x'; (HEADER + payload).next_multiple_of(8)];
        Ok(Self { path, file, position: 0, message, group: Vec::new() })
    }

    fn push(&mut self, group: usize) -> Result<usize, Failure> {
        let failed = |path: &Path, error| Failure::system(&format!("write {}", path.display()), &error);
        let bytes = if group > 1 {
            self.group.clear();
            (0..group).for_each(|_| self.group.extend_from_slice(&self.message));
            &self.group
        } else {
            &self.message
        };
        if self.position + bytes.len() as u64 > FILE {
            self.position = 0;
        }
        self.file.write_all_at(bytes, self.position).map_err(|error| failed(&self.path, error))?;
        self.position += bytes.len() as u64;
        if group > 0 {
            self.file.sync_data().map_err(|error| failed(&self.path, error))?;
        }
        Ok(group.max(1))
    }
}
