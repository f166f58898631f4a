//! All tests from the outside, in one binary; this list is their table of contents.

/// A copy beside an owner who goes on.
mod backup_live;
/// From where short sequences of steps begin, and which steps there are.
mod beginnings;
/// How a message is acked together with what came of it.
mod behaviour_ack_with;
/// Messages that a task waits for, acks that it does not wait for.
mod behaviour_async;
/// What a copy is, and what is restored.
mod behaviour_backup;
/// How a queue ends, and what the next opening finds.
mod behaviour_close;
/// What groups are to each other, and consumers of one group.
mod behaviour_groups;
/// What guests hold, when they live and when they are gone.
mod behaviour_guests;
/// Dedup keys and unique keys.
mod behaviour_keys;
/// Groups that take some kinds of messages alone.
mod behaviour_kinds;
/// How much may come, and what becomes of what is too much.
mod behaviour_limits;
/// Loans with a time limit, and receipts.
mod behaviour_loans;
/// Dead letters, seek, pause, purge: done without a loan.
mod behaviour_manage;
/// What can be known about a payload.
mod behaviour_message;
/// Which groups, and which messages, keep how many bytes.
mod behaviour_pins;
/// What a pool does with what its handlers return.
mod behaviour_pool;
/// Which message comes first: priorities, and the order of a key.
mod behaviour_priority;
/// What a push promises.
mod behaviour_push;
/// What is kept of what is done.
mod behaviour_retention;
/// Messages by a cron expression.
#[cfg(feature = "schedules")]
mod behaviour_schedules;
/// What becomes of a message that was handed out.
mod behaviour_settle;
mod behaviour_space;
/// Delays, schedules, ends.
mod behaviour_time;
/// What one is shown who only looks.
mod behaviour_view;
/// What a second hostile reader tried on a group.
mod broken_group;
/// What a third hostile reader tried on priorities, keys and what is given up.
mod broken_jobs;
/// What a hostile reader tried on an open queue.
#[expect(clippy::cast_possible_truncation, reason = "small numbers, drawn below a length")]
mod broken_live;
/// What a fourth hostile reader tried on space that is given back.
mod broken_space;
/// A pipeline over crashes, and whatever can happen beside its acks.
mod chains;
/// What comes next, from a seed or from a fuzzer.
mod choices;
/// How the command line is run.
mod cli;
/// Bad input: one clear line, a code, nothing changed.
mod cli_bad_input;
/// The data that commands show, for people and for programs.
mod cli_data;
/// Each command, on queues of every kind.
mod cli_every;
/// Every command, on files that were changed in any way.
mod cli_fuzzed;
/// `push --dedup-key`, `--unique-key`, `discard --key`.
mod cli_keys;
/// Limits from the command line.
mod cli_limits;
/// `recv`, `ack`, `nack`, `extend`: one message at a time.
mod cli_loans;
/// `stats` and `verify`, which change nothing.
mod cli_look;
/// Dead letters, pauses, seeks and groups, from the command line.
mod cli_manage;
/// `push`: what goes in, and what is told.
mod cli_push;
/// Files that have gone bad are mended, and what was done comes again, from the command line.
mod cli_repair;
/// The sessions in the documentation are what happens.
mod cli_sessions;
/// `work`: a command for each message.
mod cli_work;
/// What fuzzers were given, and what they found.
mod corpora;
/// Every promise, at a crash after and a failure of every operation.
mod crash;
/// A copy and a restored queue, at the same.
mod crash_backup;
/// Acks that travel with the outputs, at the same.
mod crash_chains;
/// Segments that are given up, at a crash after and a failure of every operation.
mod crash_free;
/// Guests that begin and end, at a crash after and a failure of every operation.
mod crash_holders;
/// Keys, at a crash after and a failure of every operation, and by many threads.
mod crash_keys;
/// The same on a disk that stays broken, or full.
mod crash_lasting;
/// Crashes while messages are discarded for room.
mod crash_limits;
/// What is done without a loan, at a crash after and a failure of every operation.
mod crash_manage;
/// A salvage that is cut short, or fails, anywhere.
mod crash_salvage;
/// Ticks, at a crash after and a failure of every operation.
#[cfg(feature = "schedules")]
mod crash_schedules;
/// An owner that ends, and its guests, at every operation and every frame.
mod crash_share;
mod crash_space;
/// Damage of every kind, in folders and on the simulated disk.
#[expect(clippy::cast_possible_truncation, reason = "small numbers, of small files")]
mod damage;
/// Random numbers by seed.
mod dice;
/// Torn bytes set aside, and a manifest that grows.
mod evidence;
/// The programs in `examples`, killed and run again.
mod examples;
/// Handles in a forked child.
mod forked;
/// The bytes on disk, read by a program that knows only `docs/FORMAT.md`.
mod format;
/// What goes on when the disk is full.
mod full_disk;
/// What the fuzzers in `fuzz` do with their bytes.
mod fuzzed;
/// A folder whose files were changed.
mod fuzzed_folder;
/// A guest, or an owner, that sends anything.
mod fuzzed_socket;
/// Several openings of one folder: an owner and its guests.
mod guests;
/// The same with real processes that die, stop and leave.
mod guests_killed;
/// One behaviour test, two disks.
mod harness;
/// What the files of a group take when its load is over.
mod idle_groups;
/// Consumers at random, and the order of their keys.
mod keys_in_order;
/// A real process killed with SIGKILL on a real disk.
mod kill;
/// What must, may and must not be there: the model.
mod ledger;
/// What the log lost, and others know of.
mod lost;
/// 34 faults at ten points each.
mod matrix;
/// A batch at a wrong place, a length without its checksum.
mod misplaced;
/// Numbers that nobody ever wrote, under good checksums.
#[expect(clippy::cast_possible_truncation, reason = "places in small files")]
mod numbers;
/// The bytes of a message, and whose they are.
mod payload;
/// Planted bugs, which the crash tests find.
mod plants;
/// One message that kills its process, among others.
mod poison;
/// Random steps, reopening, kills and power cuts among them.
mod random;
/// What an opening leaves behind that wrote nothing.
mod reopen;
/// Files that have gone bad are mended: every rule of it, crashes and failures in it.
mod repair;
/// Whatever has gone bad, by dice.
mod repair_dice;
/// What an opening tells, and what it leaves as it is.
mod reported;
/// Reads Rust as far as `tidy` needs it.
mod rust_text;
/// Everything readable of a broken queue, in a new one.
mod salvage;
/// Every kind of wound, salvaged.
mod salvage_wounds;
/// Steps on a queue, each answer noted in the ledger.
mod script;
/// All short sequences of steps, with a crash and a failure anywhere.
mod sequences;
/// How owner and guests talk without a socket, and what follows when the owner ends.
mod share_world;
/// What a program does, one thing at a time.
mod step;
/// What is polled without an executor.
mod task;
/// Tasks of real executors, and the threads that they must not block.
mod tasks;
/// Several threads at once on a queue that ends, or fails, at any moment.
mod threads;
/// Tickets, with a slow disk behind them.
mod tickets;
/// The architecture, as rules that are checked.
mod tidy;
/// A look at messages beside a busy owner.
mod view_live;
/// A call that never returns ends the run, and says where it was.
mod watch;
/// What the crash tests do before the crash.
mod workloads;
/// One bad copy of what is written twice, after every crash.
mod wounds;
