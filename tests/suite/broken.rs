//! What a hostile reader tried: damage, races and faults in odd places.

use std::time::Duration;

use backlog::testing::SimDisk;
use backlog::{Durability, Error, GroupOptions, Options};

/// Threads push, defer, receive, ack, make and remove groups while another closes, drops or poisons
/// the queue: everybody comes back.
#[test]
fn issue_3_closing_amid_everything_lets_everybody_go() {
    for round in 0..std::env::var("ROUNDS").map_or(300, |text| text.parse().unwrap()) {
        let (done, rounds) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            amid_everything(round);
            done.send(()).unwrap();
        });
        let ended = rounds.recv_timeout(Duration::from_secs(20));
        assert_ne!(ended, Err(std::sync::mpsc::RecvTimeoutError::Timeout), "round {round} hangs");
        thread.join().unwrap();
    }
}

fn amid_everything(round: u64) {
    let disk = SimDisk::new(round);
    let options = Options::new("jobs").sim_disk(&disk).threads(round % 2 == 0).segment_bytes(8192);
    let queue = options.open().unwrap();
    queue.create_group("g", GroupOptions::new().ack_durability(Durability::Synced)).unwrap();
    let go = std::sync::Barrier::new(9);
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let (queue, go) = (queue.clone(), &go);
            scope.spawn(move || {
                go.wait();
                for step in 0..1000_u64 {
                    let outcome = match thread {
                        0 | 1 => queue.push("x".repeat(300)).map(|_| ()),
                        2 => (0..4)
                            .map(|_| queue.push_deferred("deferred"))
                            .collect::<Result<Vec<_>, _>>()
                            .and_then(|tickets| tickets.into_iter().try_for_each(|ticket| ticket.wait().map(|_| ()))),
                        3 | 4 => queue.group("g").and_then(|group| {
                            group.consumer().recv().and_then(|job| match step % 3 {
                                0 => job.ack(),
                                1 => job.nack_after(Duration::ZERO, "again"),
                                _ => job.release(),
                            })
                        }),
                        5 => queue.consumer().and_then(|consumer| {
                            let jobs = consumer.recv_batch(7, Duration::from_millis(3))?;
                            queue.ack_all(jobs).map(|_| ())
                        }),
                        6 => match queue.create_group("h", GroupOptions::new()) {
                            Err(Error::GroupExists { .. }) => Ok(()),
                            Ok(group) => {
                                drop(group.consumer().try_recv());
                                Ok(())
                            }
                            Err(error) => Err(error),
                        },
                        _ => match queue.remove_group(if step % 5 == 4 { "g" } else { "h" }) {
                            Err(Error::NoSuchGroup { .. }) => {
                                let _ = queue.run_duties();
                                let _ = queue.create_group("g", GroupOptions::new());
                                Ok(())
                            }
                            other => other,
                        },
                    };
                    match outcome {
                        Err(Error::Closed | Error::Poisoned { .. }) => return,
                        Err(Error::NoSuchGroup { .. } | Error::LeaseLost { .. }) | Ok(()) => {}
                        Err(_) if round % 3 > 0 => {}
                        Err(error) => panic!("{thread}: {error}"),
                    }
                }
            });
        }
        go.wait();
        std::thread::sleep(Duration::from_micros(round * 37 % 4000));
        match round % 3 {
            0 => {}
            1 => disk.fail(disk.ops() + 1, backlog::testing::Fault::SyncLost),
            _ => disk.break_syncs(round % 4 == 2),
        }
        if round % 3 == 1 {
            std::thread::sleep(Duration::from_micros(500));
        }
        let _ = queue.close();
        let _ = queue.close();
    });
}

/// While a reader looks for the next good header behind a bad one, others push (and roll): only what
/// lay there is damaged, and none of the new messages is given up with it.
#[test]
fn issue_3_messages_pushed_while_damage_is_passed_are_not_given_up_with_it() {
    for round in 0..10_u64 {
        let disk = SimDisk::new(round);
        let queue = Options::new("jobs").sim_disk(&disk).threads(false).segment_bytes(8192).open().unwrap();
        let consumer = queue.consumer().unwrap();
        // Gets a segment that fits; its header is at the segment's beginning.
        queue.push(vec![7; 2_000_000 + 4096 * (round as usize % 2)]).unwrap();
        let segment = disk.files().into_iter().filter(|name| name.ends_with(".seg")).next_back().unwrap();
        disk.flip(&segment, 4096 * 8 + 3);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for number in 0..200_u64 {
                    queue.push(&number.to_le_bytes()).unwrap();
                }
            });
            assert!(matches!(consumer.recv(), Err(Error::Damaged { .. })));
        });
        for number in 0..200_u64 {
            let job = consumer.try_recv().unwrap().unwrap_or_else(|| panic!("round {round}: {number} is gone"));
            assert_eq!(job.payload(), number.to_le_bytes());
            job.ack().unwrap();
        }
        assert_eq!(queue.stats().groups[0].dead, 1);
    }
}
