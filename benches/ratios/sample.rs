//! What do the disk and the memory hold at a moment, and how does that compare with what is needed?

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::plot::{self, Line};

pub(crate) const MIB: f64 = (1 << 20) as f64;

/// What was seen at a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sample {
    /// Seconds since the beginning.
    pub(crate) at: f64,
    pub(crate) pushed: u64,
    /// Bytes of messages that are not done, with 32 for each one's header.
    pub(crate) live: u64,
    /// Bytes of the segments' files: their lengths, and the blocks they take.
    pub(crate) length: u64,
    pub(crate) blocks: u64,
    pub(crate) segments: u64,
    /// Bytes of memory that the process had.
    pub(crate) resident: u64,
}

impl Sample {
    /// Looks at a queue's folder and at this process.
    pub(crate) fn take(folder: &Path, at: f64, pushed: u64, live: u64) -> Self {
        let mut sample = Self { at, pushed, live, resident: resident(), ..Self::default() };
        for entry in std::fs::read_dir(folder.join("log")).unwrap() {
            let entry = entry.unwrap();
            // It may go between the two calls.
            let Ok(about) = entry.metadata() else { continue };
            if entry.path().extension().is_some_and(|extension| extension == "seg") {
                sample.length += about.len();
                sample.blocks += about.blocks() * 512;
                sample.segments += 1;
            }
        }
        sample
    }

    pub(crate) fn show(&self) -> String {
        let Self { at, pushed, live, length, blocks, segments, resident } = self;
        format!("{at:.1},{pushed},{live},{length},{blocks},{segments},{resident}")
    }

    pub(crate) fn read(line: &str) -> Option<Self> {
        let mut fields = line.split(',');
        let at = fields.next()?.parse().ok()?;
        let mut number = || fields.next()?.parse().ok();
        Some(Self {
            at,
            pushed: number()?,
            live: number()?,
            length: number()?,
            blocks: number()?,
            segments: number()?,
            resident: number()?,
        })
    }

    /// Bytes that the segments may take: four times what is live; and the active segment, the one made
    /// ahead, and one more.
    pub(crate) fn bound(&self, segment: u64) -> u64 {
        4 * self.live + 3 * segment
    }
}

/// Bytes of memory that this process has now.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// Prints how disk and bound compare, and how large things became.
pub(crate) fn report(samples: &[Sample], segment: u64) {
    let most = |of: &dyn Fn(&Sample) -> f64| samples.iter().map(of).fold(0.0, f64::max);
    let mut above = 0.0;
    let (mut longest, mut since) = (0.0f64, None);
    for pair in samples.windows(2) {
        if pair[0].length > pair[0].bound(segment) {
            above += pair[1].at - pair[0].at;
            let since = *since.get_or_insert(pair[0].at);
            longest = longest.max(pair[1].at - since);
        } else {
            since = None;
        }
    }
    let ratio = most(&|sample| sample.length as f64 / sample.bound(segment) as f64);
    let over = most(&|sample| (sample.length as f64 - 4.0 * sample.live as f64) / segment as f64);
    println!("largest disk / bound      {ratio:.3}");
    println!("above the bound           {above:.1} s in all, {longest:.1} s at a time");
    println!("largest disk - 4 * live   {over:.2} segments");
    if let Some(worst) = samples.iter().max_by_key(|sample| sample.length.saturating_sub(4 * sample.live)) {
        println!("  at                      {}", worst.show());
    }
    println!("largest disk              {:.1} MiB", most(&|sample| sample.length as f64 / MIB));
    println!("largest blocks / length   {:.3}", most(&|sample| sample.blocks as f64 / sample.length as f64));
    println!("largest live              {:.1} MiB", most(&|sample| sample.live as f64 / MIB));
    println!("most segments             {:.0}", most(&|sample| sample.segments as f64));
    println!("largest resident memory   {:.1} MiB", most(&|sample| sample.resident as f64 / MIB));
    if let Some(last) = samples.last() {
        println!("pushed, at the end        {}", last.pushed);
        println!(
            "disk, live at the end     {:.1}, {:.1} MiB",
            last.length as f64 / MIB,
            last.live as f64 / MIB
        );
    }
}

/// Draws disk, live and bound, and writes it where plots go.
pub(crate) fn picture(folder: &Path, name: &str, title: &str, samples: &[Sample], segment: u64) {
    let line = |name, color, of: &dyn Fn(&Sample) -> u64| Line {
        name,
        color,
        points: samples.iter().map(|sample| (sample.at, of(sample) as f64 / MIB)).collect(),
    };
    let lines = [
        line("bound: 4 × live + 3 segments", "#bbb", &|sample| sample.bound(segment)),
        line("disk", "#c33", &|sample| sample.length),
        line("live", "#36c", &|sample| sample.live),
    ];
    std::fs::create_dir_all(folder).unwrap();
    let path = folder.join(name);
    std::fs::write(&path, plot::draw(title, "MiB", &lines)).unwrap();
    println!("plot                      {}", path.display());
}
