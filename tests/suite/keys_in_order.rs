//! Does every ordering key keep its order, whatever consumers do?

use std::collections::BTreeMap;
use std::time::Duration;

use backlog::{Delivery, GroupOptions, Message, Retry};

use crate::dice::Dice;
use crate::harness::World;

const SECOND: Duration = Duration::from_secs(1);

/// Consumers that do as the dice say: of each key only one receive has messages, and they are acked in
/// the order in which they were pushed, but for those that were given up.
#[test]
fn issue_5_every_key_keeps_its_order_whatever_consumers_do() {
    for seed in 0..60 {
        let _watched = crate::watch::over(format!("order of keys, seed {seed}"));
        let world = World::simulated();
        keep_order(&world, &mut Dice(seed));
    }
}

fn quick() -> GroupOptions {
    GroupOptions::new().retry(Retry::steps(&[10 * SECOND]))
}

fn keep_order(world: &World, dice: &mut Dice) {
    let mut queue = world.options().segment_bytes(8192).open().unwrap();
    queue.create_group("g", quick()).unwrap();
    let mut pushed: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut acked: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut out: Vec<Vec<Delivery>> = Vec::new();
    let key_of = |job: &Delivery| job.ordering_key().map_or(0, |key| u64::from(key[0]));
    let number = |job: &Delivery| std::str::from_utf8(job.payload()).unwrap().parse::<u64>().unwrap();
    let mut next = 0;
    for _ in 0..400 {
        match dice.below(10) {
            0..=3 => {
                let (key, priority) = (dice.below(4), dice.below(10));
                let payload = next.to_string();
                let mut message = Message::new(&payload[..]).priority(u8::try_from(priority).unwrap());
                if key > 0 {
                    message = message.ordering_key(vec![u8::try_from(key).unwrap()]);
                }
                queue.push(message).unwrap();
                pushed.entry(key).or_default().push(next);
                next += 1;
            }
            4..=6 => {
                let most = 1 + dice.size(4);
                let jobs = queue.group("g").unwrap().consumer().recv_batch(most, Duration::ZERO).unwrap();
                for job in &jobs {
                    let key = key_of(job);
                    let elsewhere = out.iter().flatten().any(|other| key != 0 && key_of(other) == key);
                    assert!(!elsewhere, "key {key} is out twice");
                }
                out.push(jobs);
            }
            7 => world.advance(SECOND * u32::try_from(dice.below(11)).unwrap()),
            8 if dice.below(8) == 0 => {
                out.clear();
                queue.close().unwrap();
                queue = world.options().segment_bytes(8192).open().unwrap();
            }
            _ if !out.is_empty() => {
                let jobs = out.swap_remove(dice.size(out.len() as u64));
                let mut gave_back = false;
                for job in jobs {
                    // What is behind one that was given back is given back too: its receive is over.
                    if gave_back || dice.below(3) == 0 {
                        gave_back = true;
                        if dice.below(2) == 0 { job.nack("again").unwrap() } else { job.release().unwrap() }
                    } else {
                        acked.entry(key_of(&job)).or_default().push(number(&job));
                        job.ack().unwrap();
                    }
                }
            }
            _ => {}
        }
    }
    out.clear();
    for _ in 0..40 {
        while let Some(job) = queue.group("g").unwrap().consumer().try_recv().unwrap() {
            acked.entry(key_of(&job)).or_default().push(number(&job));
            job.ack().unwrap();
        }
        world.advance(10 * SECOND);
    }
    let mut free = acked.remove(&0).unwrap_or_default();
    free.sort_unstable();
    assert_eq!(free, pushed.remove(&0).unwrap_or_default());
    assert_eq!(acked, pushed);
}
