//! How fast does a stage of a pipeline hand its work on: acked with its outputs, against pushed and acked?

use std::time::{Duration, Instant};

use backlog::{Delivery, Durability, GroupOptions, Queue};

use crate::{PAYLOAD, Plan, Spread};

const SLICE: Duration = Duration::from_millis(40);

pub(crate) fn run(plan: &Plan) {
    if !plan.wants("chain") {
        return;
    }
    println!("\n{:<18} {:<22} {:>12} {:>12}", "chain", "ratio (min..max)", "ack_with/s", "push, ack/s");
    for (name, level) in [("chain", Durability::Synced), ("chain-buffered", Durability::Buffered)] {
        let folder = plan.folder.join(name);
        let queue = Queue::open(&folder).unwrap().with_durability(level);
        let options = GroupOptions::new().ack_durability(level);
        let consumer = queue.create_group("chain", options).unwrap().consumer();
        queue.push_batch([&[7; PAYLOAD][..]; 8]).unwrap();
        let receive = || consumer.recv().unwrap();
        let together = |job: Delivery| {
            job.ack_with([&[7; PAYLOAD]]).unwrap();
        };
        let apart = |job: Delivery| {
            queue.push(&[7; PAYLOAD]).unwrap();
            job.ack().unwrap();
        };
        let (mut ratios, mut rates) = (Vec::new(), [Vec::new(), Vec::new()]);
        for _ in 0..plan.pairs() {
            let pair = [rate(receive, together), rate(receive, apart)];
            ratios.push(pair[0] / pair[1]);
            rates[0].push(pair[0]);
            rates[1].push(pair[1]);
        }
        let [with, without] = rates.map(|rates| Spread::of(rates).median);
        println!("{name:<18} {:<22} {with:>12.0} {without:>12.0}", Spread::of(ratios).show());
        queue.close().unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

/// Returns how many messages a second go on.
fn rate(receive: impl Fn() -> Delivery, hand_on: impl Fn(Delivery)) -> f64 {
    let start = Instant::now();
    let mut count = 0.0;
    while start.elapsed() < SLICE {
        hand_on(receive());
        count += 1.0;
    }
    count / start.elapsed().as_secs_f64()
}
