//! Rows 1 to 14: crashes, and disks that refuse.

use super::table::rows;
use super::{errors, power};

rows! {
    all:

    1 a_killed_process_loses_nothing_that_was_told "kill -9, abort, panic in a caller" [
        Append Sync Roll Ack Switch Open => ("K" power::a_killed_process);
        Batch => ("K" power::killed_or_panicked);
        Copy => ("K" power::a_killed_process);
        Delete => ("K" power::a_killed_process);
        Inspect => ("=" power::a_killed_process);
    ]

    2 a_power_cut_loses_nothing_that_was_synced "power cut: unsynced writes lost, reordered, torn by sector" [
        Append Batch Sync Roll Ack Switch Open => ("K" power::a_power_cut);
        Copy => ("K" power::a_power_cut);
        Delete => ("K" power::a_power_cut);
        Inspect => ("=" power::a_power_cut);
    ]

    3 names_that_a_power_cut_loses_take_nothing_promised_along "power cut: create, rename, unlink not durable" [
        Append Batch Sync Ack => (never "no name is made, changed or removed there");
        Roll Open => ("K" power::lost_names);
        Switch => (never "by design: both halves are there since the group's birth, and a switch changes no name");
        Copy => ("K" power::lost_names);
        Delete => ("K" power::lost_names);
        Inspect => ("=" power::lost_names);
    ]

    4 a_full_disk_refuses_pushes_whole_and_takes_acks_and_openings "no room (ENOSPC, EDQUOT) before a byte" [
        Append Batch => ("E" errors::no_room);
        Sync => ("X" errors::no_room);
        Roll => ("E, X" errors::no_room);
        Ack => ("Q" errors::no_room);
        Switch => ("E, Q" errors::no_room);
        Copy => ("B" errors::no_room);
        Delete => ("B" errors::no_room);
        Open => ("=" errors::no_room);
        Inspect => ("=" errors::no_room);
    ]

    5 a_write_cut_short_by_a_full_disk_is_taken_back "no room in the middle of a write" [
        Append Batch => ("E" errors::cut_short_by_a_full_disk);
        Roll => ("E, X" errors::cut_short_by_a_full_disk);
        Ack => ("Q" errors::cut_short_by_a_full_disk);
        Switch => ("E, Q" errors::cut_short_by_a_full_disk);
        Open => ("I" errors::cut_short_by_a_full_disk);
        Copy => ("B" errors::cut_short_by_a_full_disk);
        Delete => ("B" errors::cut_short_by_a_full_disk);
        Sync Inspect => (never "nothing is written there");
    ]

    6 a_call_cut_short_or_interrupted_goes_on "EINTR, EAGAIN, short without an error" [
        Append Batch Sync Roll Ack Switch Open Inspect => ("=" errors::interrupted);
        Copy => ("=" errors::interrupted);
        Delete => ("=" errors::interrupted);
    ]

    7 a_limit_of_file_size_is_a_full_disk "EFBIG, RLIMIT_FSIZE (SIGXFSZ ignored; else as 1)" [
        Append Batch => ("E" errors::too_large_for_the_limit);
        Roll => ("E, X" errors::too_large_for_the_limit);
        Ack => ("Q" errors::too_large_for_the_limit);
        Switch => ("E, Q" errors::too_large_for_the_limit);
        Open => ("I" errors::too_large_for_the_limit);
        Copy => ("B" errors::too_large_for_the_limit);
        Delete => ("B" errors::too_large_for_the_limit);
        Sync Inspect => (never "nothing is written there");
    ]

    8 a_write_that_fails_is_taken_back_or_final "EIO on write" [
        Append Batch => ("E, X" errors::a_broken_write);
        Roll => ("E, X" errors::a_broken_write);
        Ack Switch => ("Q" errors::a_broken_write);
        Open => ("I" errors::a_broken_write);
        Copy => ("B" errors::a_broken_write);
        Delete => ("B" errors::a_broken_write);
        Sync Inspect => (never "nothing is written there");
    ]

    9 a_sync_that_fails_is_final_and_everyone_is_told "EIO on the sync of a file" [
        Append Batch Sync => ("X" errors::a_broken_sync);
        Roll => ("E, X" errors::a_broken_sync);
        Ack Switch => ("Q" errors::a_broken_sync);
        Open => ("O" errors::a_broken_sync);
        Copy => ("B" errors::a_broken_sync);
        Delete => ("B" errors::a_broken_sync);
        Inspect => (never "no file is synced there");
    ]

    10 a_folder_that_cannot_be_synced_names_nothing "EIO on the sync of a folder" [
        Append Batch Sync Ack Inspect => (never "no folder is synced there");
        Roll => ("E" errors::a_broken_folder);
        Switch => (never "by design: both halves are there since the group's birth, and a switch changes no name");
        Copy => ("B" errors::a_broken_folder);
        Delete => ("B" errors::a_broken_folder);
        Open => ("O" errors::a_broken_folder);
    ]

    11 a_read_that_fails_is_no_end_of_the_log "EIO or a short read" [
        Append Batch Sync Roll Ack Delete => (never "nothing is read there");
        Switch => (never "by design: a switch writes what is in memory and reads nothing");
        Copy => ("B" errors::a_broken_read);
        Open => ("O" errors::a_broken_read);
        Inspect => ("report" errors::a_broken_read);
    ]
}
