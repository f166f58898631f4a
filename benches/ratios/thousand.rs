//! What does a queue cost that is open and has little to do, when there are a thousand of them?

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use backlog::Queue;

use crate::Plan;

pub(crate) fn run(plan: &Plan) {
    // A minute of idleness, and a thousand folders: only where it is asked for.
    if !plan.names.iter().any(|name| name == "thousand") {
        return;
    }
    let folder = plan.folder.join("thousand");
    println!(
        "\n{:<9} {:>6} {:>9} {:>8} {:>10} {:>9} {:>9} {:>12} {:>12}",
        "thousand", "queues", "threads", "files", "KiB", "ms open", "us push", "cpu idle", "cpu 1 busy"
    );
    for count in [10, 100, 1000] {
        measure(&folder.join(count.to_string()), count);
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

fn measure(folder: &Path, count: u32) {
    std::fs::create_dir_all(folder).unwrap();
    let before = (status("Threads:"), files(), status("VmRSS:"));
    let each = f64::from(count);
    let begun = Instant::now();
    let open = |number: u32| Queue::open(folder.join(number.to_string())).unwrap();
    let queues: Vec<Queue> = (0..count).map(open).collect();
    let opened = begun.elapsed().as_secs_f64() * 1e3 / each;

    let consumers: Vec<_> = queues.iter().map(|queue| queue.consumer().unwrap()).collect();
    let begun = Instant::now();
    for (queue, consumer) in queues.iter().zip(&consumers) {
        for _ in 0..4 {
            queue.push([7; 256].as_slice()).unwrap();
        }
        for _ in 0..4 {
            consumer.recv().unwrap().ack().unwrap();
        }
    }
    let pushed = begun.elapsed().as_secs_f64() * 1e6 / each / 4.0;
    // Long enough for all that is done when a queue was idle for a while.
    std::thread::sleep(Duration::from_secs(13));
    let idle = busy(Duration::from_secs(3), || std::thread::sleep(Duration::from_millis(50)));
    let one = busy(Duration::from_secs(3), || {
        queues[0].push([7; 256].as_slice()).unwrap();
        consumers[0].recv().unwrap().ack().unwrap();
        std::thread::sleep(Duration::from_millis(5));
    });
    let now = (status("Threads:"), files(), status("VmRSS:"));
    println!(
        "{:<9} {count:>6} {:>9} {:>8.2} {:>10.1} {opened:>9.2} {pushed:>9.0} {:>11.2}% {:>11.2}%",
        "thousand",
        now.0 - before.0,
        (now.1 - before.1) as f64 / each,
        now.2.saturating_sub(before.2) as f64 / each,
        idle * 100.0,
        one * 100.0,
    );
    drop((consumers, queues));
    let (bytes, used) = size(&folder.join((count - 1).to_string()));
    println!(
        "{:<9} {count:>6} an idle queue: {} KiB long, {} KiB on disk",
        "thousand",
        bytes >> 10,
        used >> 10
    );
}

/// Returns which part of one processor this process used meanwhile.
fn busy(time: Duration, mut doing: impl FnMut()) -> f64 {
    let (begun, used) = (Instant::now(), processor());
    while begun.elapsed() < time {
        doing();
    }
    (processor() - used) / begun.elapsed().as_secs_f64()
}

/// Returns the seconds that this process had a processor.
fn processor() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let rest: Vec<&str> = text.rsplit(')').next().unwrap().split_whitespace().collect();
    // User and system time, in hundredths of a second.
    (rest[11].parse::<f64>().unwrap() + rest[12].parse::<f64>().unwrap()) / 100.0
}

fn status(line: &str) -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let found = text.lines().find_map(|one| one.strip_prefix(line)).unwrap();
    found.split_whitespace().next().unwrap().parse().unwrap()
}

fn files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

/// Returns how long all files are together, and what they take of the disk.
fn size(folder: &Path) -> (u64, u64) {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.fold((0, 0), |(bytes, used), path| {
        let about = path.symlink_metadata().unwrap();
        let (more, taken) = if about.is_dir() { size(&path) } else { (about.len(), about.blocks() * 512) };
        (bytes + more, used + taken)
    })
}
