//! What do the fuzzers run? The bodies that the queue's own tests replay (`tests/suite/fuzzed.rs`),
//! with a limit to the memory that they may take.

#[path = "../../tests/suite/choices.rs"]
mod choices;
#[path = "../../tests/suite/dice.rs"]
#[expect(dead_code, reason = "the tests draw by seed")]
mod dice;
#[path = "../../tests/suite/fuzzed.rs"]
#[expect(dead_code, reason = "the tests write and read seeds, too")]
mod fuzzed;
#[path = "../../tests/suite/fuzzed_folder.rs"]
mod fuzzed_folder;
#[path = "../../tests/suite/fuzzed_socket.rs"]
mod fuzzed_socket;
#[path = "../../tests/suite/ledger.rs"]
#[expect(dead_code, reason = "the tests hold more against it")]
mod ledger;
mod memory;
#[path = "../../tests/suite/payload.rs"]
mod payload;
#[path = "../../tests/suite/script.rs"]
#[expect(dead_code, reason = "the tests look into a run, too")]
mod script;
#[path = "../../tests/suite/step.rs"]
#[expect(dead_code, reason = "the tests know more steps")]
mod step;

/// Runs one input of a target.
///
/// # Panics
/// When a promise is broken, or the input makes the queue take more memory than it may.
pub fn run(target: &str, data: &[u8]) {
    let (_, body) = fuzzed::TARGETS.iter().find(|(name, _)| *name == target).expect("a target of that name");
    memory::within(limit(target, data.len()), || body(data));
}

/// Bytes that a body may take at a time. Decoders may take a small multiple of the file they are
/// given, which is blown up to 64 KiB at most; queues also take their disks, four of them at most.
fn limit(target: &str, input: usize) -> usize {
    match target {
        "folder" | "operations" | "socket" | "answers" => 96 << 20,
        _ => (2 << 20) + 64 * input,
    }
}
