//! Does the queue stay small, and true, for as long as it runs?
//!
//! Half an hour of pushing, receiving and acking in no order, one message in a hundred stuck. Each minute the process that has
//! the queue open is told to close, each third minute it is killed; the next one compares the queue with a ledger that both share.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Plan;
use crate::sample::{self, Sample};
use crate::soak_child::SEGMENT;

pub(crate) fn run(plan: &Plan) {
    if !plan.asks("soak") {
        return;
    }
    let minutes = plan.minutes.unwrap_or(if plan.quick { 1 } else { 30 });
    let leg = Duration::from_secs(if plan.quick { 10 } else { 60 });
    let folder = plan.folder.join("soak");
    std::fs::create_dir_all(&folder).unwrap();
    let begun = Instant::now();
    let until = begun + Duration::from_secs(60 * minutes);
    println!("second,pushed,live,length,blocks,segments,resident");
    let mut samples = Vec::new();
    let (mut legs, mut kills) = (0, 0);
    while Instant::now() < until {
        legs += 1;
        let kill = legs % 3 == 0;
        kills += usize::from(kill);
        one(&folder, false, leg, kill, begun, &mut samples);
        // What there is by then can be looked at meanwhile.
        picture(plan, &samples);
    }
    // What was drained and has come to rest.
    one(&folder, true, Duration::from_secs(600), false, begun, &mut samples);
    println!(
        "soak: {minutes} minutes, opened {} times, killed {kills} times, nothing lost, nothing twice",
        legs + 1
    );
    sample::report(&samples, SEGMENT);
    picture(plan, &samples);
}

fn picture(plan: &Plan, samples: &[Sample]) {
    let title = "Soak: random acks, 1 % stuck for ever, closed or killed each minute";
    sample::picture(&plan.plots, "soak.svg", title, samples, SEGMENT);
}

/// Has a process work for a while; then it is killed, or told to close.
fn one(folder: &Path, drain: bool, time: Duration, kill: bool, begun: Instant, samples: &mut Vec<Sample>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--child-soak".as_ref(), folder.as_os_str(), if drain { "1" } else { "0" }.as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            for line in lines {
                let line = line.unwrap();
                match line.strip_prefix("sample ").and_then(Sample::read) {
                    Some(sample) => {
                        let sample = Sample { at: begun.elapsed().as_secs_f64(), ..sample };
                        println!("{}", sample.show());
                        samples.push(sample);
                    }
                    None => println!("# {:.0} s: {line}", begun.elapsed().as_secs_f64()),
                }
            }
        });
        let until = Instant::now() + time;
        while Instant::now() < until && !reader.is_finished() {
            std::thread::sleep(Duration::from_millis(50));
        }
        if kill {
            assert!(child.try_wait().unwrap().is_none(), "the process ended by itself");
            child.kill().unwrap();
            child.wait().unwrap();
            println!("# {:.0} s: killed", begun.elapsed().as_secs_f64());
        } else {
            // It may have ended already; how is told below.
            let _ = child.stdin.take().unwrap().write_all(b"close\n");
            let status = child.wait().unwrap();
            assert!(status.success(), "the process failed: {status}");
        }
    });
}
