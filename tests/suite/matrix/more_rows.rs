//! Rows 12 to 34: damage, and a hostile surrounding.

use super::table::rows;
use super::{clocks, damage, errors, files, folder, power, removed, stall, upkeep_damage};

rows! {
    all:

    12 a_fault_under_the_mapping_is_a_kill "SIGBUS under a mapping (EIO, cut by another)" [
        Append Batch Sync Roll Delete Open Inspect => (never "by design: the log is never mapped, and what is read is read by calls");
        Ack => ("K" power::a_killed_process);
        Switch => (never "a switch writes and syncs by calls");
        Copy => (never "by design: segments are never mapped");
    ]

    13 a_device_that_stalls_holds_up_only_who_needs_it "the device stalls" [
        Append Batch Sync Roll => ("waits; others Timeout" stall::a_stall);
        Ack Switch => ("waits; pushes and other groups go on" stall::a_stall);
        Copy Delete => ("waits; others go on" stall::a_stall);
        Open => ("waits; others Locked" stall::a_stall);
        Inspect => ("waits; the owner goes on" stall::a_stall);
    ]

    14 a_device_that_lies_is_found_out_where_there_is_proof "the device lies: sync says ok, data lost" [
        Append Batch Sync Roll Ack Switch Delete => (never "nothing shows before the power goes");
        Copy => (never "nothing shows before the power goes");
        Open => ("C or K" files::a_device_that_lies);
        Inspect => ("report" files::a_device_that_lies);
    ]

    15 a_flip_in_promised_bytes_costs_one_batch_and_is_named "bit flip below the proven bound: payload, length, header, checksum" [
        Append Batch Sync Roll Ack Switch Delete => (never "nothing that was written before is read there");
        Copy => ("B" upkeep_damage::a_flip);
        Open => ("C" damage::a_flip_in_promised_bytes);
        Inspect => ("report" damage::a_flip_in_promised_bytes);
    ]

    16 a_flip_in_the_unproven_end_is_torn_and_kept_aside "bit flip above the bound" [
        Append Batch Sync Roll Ack Switch Delete => (never "nothing that was written before is read there");
        Copy => (never "what is rewritten is sealed, and so below its bound");
        Open => ("torn" damage::a_flip_in_the_unproven_end);
        Inspect => ("report" damage::a_flip_in_the_unproven_end);
    ]

    17 a_flip_in_a_group_costs_that_group_at_most "bit flip in an offset file or the manifest" [
        Append Batch Sync Roll Ack Switch Delete => (never "nothing that was written before is read there");
        Copy => (never "group files and the manifest are not rewritten");
        Open => ("C, that group only" damage::a_flip_in_a_group_or_the_manifest);
        Inspect => ("report" damage::a_flip_in_a_group_or_the_manifest);
    ]

    18 a_file_cut_short_is_refused "file cut short" [
        Append Batch Sync Roll Ack Switch Delete => (never "a handle that is open does not ask for the length");
        Copy => ("B" upkeep_damage::cut_short);
        Open => ("O" damage::a_file_cut_short);
        Inspect => ("report" damage::a_file_cut_short);
    ]

    19 rubbish_behind_the_end_is_no_message "hole, zeros, garbage, old valid batches behind the end" [
        Append Batch Sync Roll Ack Switch Delete => (never "nothing that was written before is read there");
        Copy => (never "what is rewritten is sealed, and has no end to look behind");
        Open => ("K" damage::rubbish_behind_the_end);
        Inspect => ("= or report" damage::rubbish_behind_the_end);
    ]

    20 a_write_that_went_astray_is_named "misdirected or lost write inside the bound" [
        Append Batch Sync Roll Ack Switch Delete => (never "nothing that was written before is read there");
        Copy => ("B" upkeep_damage::a_write_astray);
        Open => ("C" damage::a_write_that_went_astray);
        Inspect => ("report" damage::a_write_that_went_astray);
    ]

    21 a_missing_segment_is_refused "segment missing: in the middle, the last" [
        Append Batch Sync Roll Ack Switch => (never "what is open stays open: row 33");
        Copy => ("B" upkeep_damage::missing);
        Delete => ("=" upkeep_damage::missing);
        Open => ("O, =" files::a_missing_segment);
        Inspect => ("report" files::a_missing_segment);
    ]

    22 a_segment_that_is_another_is_refused "duplicate, foreign or renamed segment" [
        Append Batch Sync Ack Switch Delete => (never "no segment is opened there");
        Roll => ("E" files::a_segment_that_is_another);
        Copy => ("B" upkeep_damage::another);
        Open => ("O" files::a_segment_that_is_another);
        Inspect => ("report" files::a_segment_that_is_another);
    ]

    23 without_descriptors_nothing_is_passed_over "EMFILE, ENFILE" [
        Append Batch Sync Ack Switch => ("=" errors::no_descriptors);
        Roll => ("E" errors::no_descriptors);
        Copy => ("B" errors::no_descriptors);
        Delete => ("B" errors::no_descriptors);
        Open => ("O" errors::no_descriptors);
        Inspect => ("E" errors::no_descriptors);
    ]

    24 without_memory_calls_are_refused_and_mappings_done_without "ENOMEM; a mapping fails" [
        Append Batch => ("E" errors::no_memory);
        Roll => ("E, X" errors::no_memory);
        Ack Switch => ("Q" errors::no_memory);
        Copy => ("B" errors::no_memory);
        Delete => ("B" errors::no_memory);
        Sync => (never "nothing is allocated there");
        Open => ("O" errors::no_memory);
        Inspect => ("E" errors::no_memory);
    ]

    25 a_disk_that_may_not_be_written_is_refused_and_looked_at "EROFS, EACCES, EPERM (remounted read-only, chattr +i)" [
        Append Batch => ("E, X" errors::not_allowed);
        Sync => ("X" errors::not_allowed);
        Roll => ("E" errors::not_allowed);
        Ack Switch => ("Q" errors::not_allowed);
        Copy => ("B" errors::not_allowed);
        Delete => ("B" errors::not_allowed);
        Open => ("O" errors::not_allowed);
        Inspect => ("=" errors::not_allowed);
    ]

    26 blocks_that_cannot_be_reserved_are_done_without "fallocate: EOPNOTSUPP, ENOSPC, EIO" [
        Append Batch Sync Ack Delete Inspect => (never "no blocks are reserved there");
        Roll => ("=, E" errors::no_blocks_ahead);
        Switch Open => ("=" errors::no_blocks_ahead);
        Copy => (never "by design: a copy grows as it is written, and reserves nothing");
    ]

    27 a_queue_has_one_owner_at_a_time "second process; stale lock file; use after fork" [
        Append Batch Sync Roll Ack Switch Copy Delete => (never "who has the queue is decided at the opening");
        Open => ("O (Locked); =" folder::a_second_process);
        Inspect => ("=" folder::a_second_process);
    ]

    28 a_network_file_system_is_refused_unless_allowed "network file system" [
        Append Batch Sync Roll Ack Switch Copy Delete => (never "what file system it is is looked at when the queue is opened");
        Open => ("O" files::a_network_file_system);
        Inspect => ("=" files::a_network_file_system);
    ]

    29 clocks_that_jump_decide_nothing_but_when "clock jumps by years" [
        Append Batch Sync Roll Ack Switch => ("=" clocks::a_jump);
        Copy Delete => ("=" clocks::a_jump);
        Open => ("=" clocks::a_jump);
        Inspect => ("=" clocks::a_jump);
    ]

    30 nothing_leads_out_of_the_folder "symlink, hard link, `..`, foreign owner in the folder" [
        Append Batch Sync Ack => (never "no name is looked up there");
        Roll => ("E" folder::strangers);
        Switch => (never "by design: both halves are open since the opening, and a switch looks no name up");
        Copy => ("B" upkeep_damage::strangers);
        Delete => ("never followed" upkeep_damage::strangers);
        Open => ("O" folder::strangers);
        Inspect => ("report" folder::strangers);
    ]

    31 hostile_numbers_are_refused_or_named "hostile file: lengths, counts, offsets, overflow" [
        Append Batch Sync Roll Ack Switch Delete => (never "nothing that was written before is read there");
        Copy => ("B" upkeep_damage::hostile_numbers);
        Open => ("C or O" files::hostile_numbers);
        Inspect => ("report" files::hostile_numbers);
    ]

    32 a_newer_version_is_refused "newer format version" [
        Append Batch Sync Roll Ack Switch Copy Delete => (never "versions are looked at when files are opened");
        Open => ("O" files::a_newer_version);
        Inspect => ("report" files::a_newer_version);
    ]

    33 nothing_is_promised_of_a_removed_file "folder or file removed under a running process" [
        Append Batch Sync => ("X" removed::removed);
        Roll => ("X, E" removed::removed);
        Ack Switch => ("Q" removed::removed);
        Copy => ("B" upkeep_damage::removed);
        Delete => ("=, B" upkeep_damage::removed);
        Open => ("O" removed::removed);
        Inspect => ("report" removed::removed);
    ]

    34 used_up_offsets_are_refused "sequence or offset space exhausted" [
        Sync Ack Switch Copy Delete Inspect => (never "no offset is given there");
        Append Batch Roll => ("E" files::used_up_offsets);
        Open => ("=" files::used_up_offsets);
    ]
}
