//! How many bytes of the disk does a byte of payload take?

use std::path::Path;

use backlog::{Durability, Queue};

use crate::{PAYLOAD, Plan};

pub(crate) fn run(plan: &Plan) {
    if !plan.asks("bytes") {
        return;
    }
    let payload: u64 = if plan.quick { 128 << 20 } else { 1 << 30 };
    println!("\n{:<10} {:>5} {:>10} {:>22}", "bytes", "goal", "sealed", "all, with what is ahead");
    for (name, goal, batch) in [("single", "1.14", 1), ("batch100", "1.05", 100)] {
        let folder = plan.folder.join(format!("bytes-{name}"));
        fill(&folder, payload, batch);
        let seen = backlog::inspect(&folder).unwrap();
        let sealed = seen.segments.iter().filter(|segment| segment.sealed);
        let messages: u64 = sealed.clone().map(|segment| segment.messages).sum();
        let files: u64 = sealed.map(|segment| length(&folder, segment.number)).sum();
        let groups = size(&folder.join("groups"));
        let sealed = (files + groups) as f64 / (messages * PAYLOAD as u64) as f64;
        let all = size(&folder) as f64 / payload as f64;
        println!("{name:<10} {goal:>5} {sealed:>10.4} {all:>22.4}");
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

fn fill(folder: &Path, payload: u64, batch: usize) {
    let queue = Queue::open(folder).unwrap();
    drop(queue.consumer().unwrap());
    let pushing = queue.with_durability(Durability::Buffered);
    let messages = payload / PAYLOAD as u64;
    for _ in 0..messages.div_ceil(batch as u64) {
        if batch == 1 {
            pushing.push(&[7; PAYLOAD][..]).unwrap();
        } else {
            pushing.push_batch(std::iter::repeat_n(&[7; PAYLOAD][..], batch)).unwrap();
        }
    }
    queue.sync().unwrap();
    // As it is at work, with the segment that is made ahead: closing removes that.
    let size = size(folder);
    queue.close().unwrap();
    println!("{:<10} {:>5} {:>10} {:>22.4}", "", "", "open:", size as f64 / payload as f64);
}

fn length(folder: &Path, number: u64) -> u64 {
    let name = format!("{number:09}.seg");
    folder.join("log").join(name).metadata().unwrap().len()
}

/// Bytes of all files in a folder and below it.
fn size(folder: &Path) -> u64 {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let about = entry.metadata().unwrap();
        bytes += if about.is_dir() { size(&entry.path()) } else { about.len() };
    }
    bytes
}
