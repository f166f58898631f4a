//! Is a message done exactly when what came of it is there, whatever operation the crash or the fault
//! comes at?

use crate::crash::survives;
use crate::workloads;

#[test]
fn issue_5_acks_with_outputs_survive_a_crash_and_a_failure_of_every_operation() {
    survives(&workloads::chains(), 6, 1000, 150);
}

#[test]
fn issue_5_acks_with_outputs_survive_half_switches() {
    survives(&workloads::chained_switches(true), 3, 200, 30);
    survives(&workloads::chained_switches(false), 3, 200, 30);
}
