//! Are files that are missing, foreign, older or too short refused, and whole ones read?

use super::*;
use crate::format::header::{self, FileKind};
use crate::offsets::shape;
use crate::storage::disk::Disk;
use crate::storage::sim::{Aim, Call, Fault};

const HALVES: [&str; 2] = ["groups/mailer/0.offsets", "groups/mailer/1.offsets"];

fn refused<T: std::fmt::Debug>(found: Result<T>, half: usize, words: &str) {
    let Err(Error::Refused { path, problem }) = found else { panic!("expected a refusal, found {found:?}") };
    assert!(path.ends_with(HALVES[half]), "{path:?}: {problem}");
    assert!(problem.contains(words), "{problem}");
}

fn played(acts: &[Act]) -> SimDisk {
    let disk = new_disk();
    let mut run = Run::open(&disk, 1).unwrap();
    for &act in acts {
        run.act(act).unwrap();
    }
    disk
}

#[test]
fn a_new_group_reads_back_and_so_does_what_it_did() {
    let folder = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Storage> = Arc::new(Disk::new(folder.path()));
    disk.make_dir(names::GROUPS).unwrap();
    birth(&disk).unwrap();
    let mut generation = 1;
    let mut done = 0;

    for (mapped, want) in [(false, 0), (true, 0), (true, 1 << 20), (false, 0), (true, 0)] {
        let loaded = load(&disk, QUEUE, &row(generation)).unwrap();
        assert_eq!(count(&loaded.snapshot, &loaded.entries), Ok(done));
        assert_eq!((loaded.torn, loaded.wounded), (0, false));
        let mut halves = loaded.halves;
        let mut track = halves.switch(&counted(done, 3), 4096, want, mapped, 1).unwrap();
        assert!(track.room() >= want.max(64 << 10));
        for _ in 0..500 {
            track.append(&step(done)).unwrap();
            done += 1;
        }
        if let Some((at, bytes)) = track.take_waiting() {
            halves.write(at, &bytes).unwrap();
        }
        let position = track.position();
        halves.sync().unwrap();
        track.append_own_mark(position).unwrap();
        if let Some((at, bytes)) = track.take_waiting() {
            halves.write(at, &bytes).unwrap();
        }
        halves.sync().unwrap();
        generation = halves.generation();
    }

    assert_eq!((generation, done), (6, 2500));
    let looked = look(&disk, QUEUE, &row(generation)).unwrap();
    assert_eq!(count(&looked.snapshot, &looked.entries), Ok(2500));
    remove(&disk, NAME).unwrap();
    remove(&disk, NAME).unwrap();
    assert!(disk.list(names::GROUPS).unwrap().is_empty());
}

#[test]
fn entries_fill_a_half_to_its_last_slot_and_no_further() {
    for mapped in [false, true] {
        let disk = new_disk();
        let mut run = Run::open(&disk, 1).unwrap();
        run.act(Switch(0, 0, mapped)).unwrap();
        let entry = Entry::new(Kind::Released, 9);
        let track = run.track.as_mut().unwrap();
        assert_eq!(track.is_mapped(), mapped);
        let slots = track.room() / 32;

        for _ in 0..slots {
            track.append(&entry).unwrap();
        }

        assert_eq!((track.room(), track.append(&entry)), (0, None));
        run.write().unwrap();
        run.act(Sync).unwrap();
        let loaded = load(&storage(&disk.crash(0)), QUEUE, &row(2)).unwrap();
        assert_eq!(loaded.entries.len() as u64, slots);
    }
}

#[test]
fn a_half_that_is_missing_foreign_or_too_short_is_refused() {
    for (half, name) in HALVES.into_iter().enumerate() {
        let disk = played(&[Switch(0, 0, false), Append(3), Sync]).crash(0);
        let whole = disk.read_file(name).unwrap();
        let storage = storage(&disk);

        disk.remove_file(HALVES[half]);
        refused(load(&storage, QUEUE, &row(1)), half, "missing");
        refused(look(&storage, QUEUE, &row(1)), half, "missing");
        for length in [0, 100, 4096, 8192, whole.len() - 1] {
            disk.write_file(HALVES[half], &whole[..length]);
            refused(load(&storage, QUEUE, &row(1)), half, "too short");
        }
        disk.write_file(HALVES[half], &vec![b'x'; whole.len()]);
        refused(load(&storage, QUEUE, &row(1)), half, "foreign");
        disk.write_file(HALVES[half], &whole);

        refused(load(&storage, QUEUE + 1, &row(1)), 0, "another queue");
        refused(load(&storage, QUEUE, &GroupRow { incarnation: 6, ..row(1) }), 0, "earlier group");
        assert_eq!(reopen(&disk, 1), Ok(3));
    }
}

#[test]
fn a_half_of_another_group_is_refused() {
    let disk = new_disk();
    create(&storage(&disk), QUEUE, "other", 5, 0, &counted(0, 0)).unwrap();
    disk.write_file(HALVES[1], &disk.read_file("groups/other/1.offsets").unwrap());

    refused(load(&storage(&disk), QUEUE, &row(1)), 1, "group \"other\"");
}

#[test]
fn halves_with_each_others_names_are_the_same_group() {
    let disk = played(&[Switch(0, 0, false), Append(3), Sync]).crash(0);
    let [first, second] = bytes(&disk);

    disk.write_file(HALVES[0], &second);
    disk.write_file(HALVES[1], &first);

    assert_eq!(reopen(&disk, 2), Ok(3));
}

#[test]
fn older_files_that_were_put_back_are_refused() {
    let disk = new_disk();
    let mut run = Run::open(&disk, 1).unwrap();
    let mut states = Vec::new();
    for _ in 0..4 {
        for act in [Switch(0, 0, false), Append(1), Sync] {
            run.act(act).unwrap();
        }
        states.push(bytes(&disk.crash(0)));
    }
    let now = states.last().unwrap().clone();
    let with_row = |generation: u64, first: &[u8], second: &[u8]| {
        let left = disk.crash(0);
        left.write_file(HALVES[0], first);
        left.write_file(HALVES[1], second);
        let before = bytes(&left);
        let found = load(&storage(&left), QUEUE, &row(generation)).map(|_| ());
        assert!(found.is_ok() || bytes(&left) == before, "a refusal changed something");
        found
    };
    let with = |first: &[u8], second: &[u8]| with_row(5, first, second);

    assert!(with(&now[0], &now[1]).is_ok());
    for old in &states[..3] {
        // Both: only the manifest knows. One: the other knows. Half 0 holds now.
        assert!(matches!(with(&old[0], &old[1]), Err(Error::Refused { .. })));
        if old[0] != now[0] {
            refused(with(&old[0], &now[1]), 0, "older file");
        }
    }
    refused(with(&now[0], &states[1][1]), 1, "older file");
    // This one lacks only its `superseded`, as after a crash; the half that holds proves itself.
    assert!(with(&now[0], &states[2][1]).is_ok());
    // A newest half that the manifest does not know yet, over one that it has forgotten.
    refused(with_row(4, &now[0], &states[0][1]), 1, "older file");
    // The same file twice.
    assert!(matches!(with(&now[0], &now[0]), Err(Error::Refused { .. })));
}

#[test]
fn a_birth_over_leftovers_leaves_strangers_alone() {
    let disk = empty_disk();
    disk.write_file(HALVES[0], b"half a half");
    disk.write_file("groups/mailer/notes.txt", b"mine");

    birth(&storage(&disk)).unwrap();

    assert_eq!(reopen(&disk.crash(0), 1), Ok(0));
    remove(&storage(&disk), NAME).unwrap();
    assert_eq!(disk.files(), ["groups/mailer/notes.txt"]);
}

#[test]
fn a_birth_on_a_full_disk_leaves_nothing() {
    let disk = empty_disk();
    let before = disk.used();
    disk.budget(Some(100 << 10));

    let born = birth(&storage(&disk));

    assert!(born.unwrap_err().is_full());
    assert_eq!((disk.used(), disk.files().len()), (before, 0));
}

#[test]
fn looking_changes_nothing_even_where_an_opening_would() {
    let disk = played(&[]);
    let mut run = Run::open(&disk, 1).unwrap();
    let planted = plant(Plant::NotSuperseded);
    run.act(Switch(0, 0, false)).unwrap();
    drop(planted);
    let (before, ops) = (bytes(&disk), disk.ops());

    let looked = look(&storage(&disk), QUEUE, &row(1)).unwrap();

    assert_eq!((looked.generation, looked.wounded), (2, false));
    assert_eq!((bytes(&disk), disk.ops()), (before, ops));
}

#[test]
fn lengths_that_no_file_has_are_damage_and_take_no_memory() {
    for shape in [
        shape::Shape { generation: 9, snapshot: u64::MAX, entries: 8192, length: 8192 },
        shape::Shape { generation: 9, snapshot: 100, entries: u64::MAX, length: 8192 },
        shape::Shape { generation: 9, snapshot: 100, entries: 4096, length: 8192 },
        shape::Shape { generation: 9, snapshot: 100, entries: 8200, length: 16384 },
        shape::Shape { generation: 9, snapshot: 100, entries: 8192, length: u64::MAX },
        shape::Shape { generation: 9, snapshot: 0, entries: 8192, length: 8192 },
    ] {
        let disk = new_disk();
        let owner = shape::Owner::of(QUEUE, &row(1));
        let page = shape::page(&owner.header(77, 0, shape), None);
        let mut whole = disk.read_file(HALVES[1]).unwrap();
        whole[..4096].copy_from_slice(&page);
        disk.write_file(HALVES[1], &whole);

        // In nobody's use as far as anybody knows: torn. In use, as the manifest says: bad.
        let in_use = load(&storage(&disk.crash(0)), QUEUE, &row(9));
        assert!(matches!(in_use, Err(Error::Damaged { .. } | Error::Refused { .. })), "{shape:?}");
        assert_eq!(reopen(&disk, 1), Ok(0), "{shape:?}");
    }
}

#[test]
fn an_opening_of_sound_files_writes_nothing_and_looking_reads_them_once() {
    let disk = played(&[Switch(3, 0, false), Append(5), Mark, Sync]);
    let before = bytes(&disk);
    disk.record();

    load(&storage(&disk), QUEUE, &row(2)).unwrap();

    assert!(disk.made().iter().all(|made| made.call != Call::Write), "{:?}", disk.made());
    assert_eq!(bytes(&disk), before);
    let reads = disk.reads();
    look(&storage(&disk), QUEUE, &row(2)).unwrap();
    // Pages, a snapshot, entries; and the pages again, which tell that nothing changed meanwhile.
    assert!(disk.reads() - reads < 10, "{} reads", disk.reads() - reads);
    disk.flip(HALVES[1], 4096 * 8);
    let reads = disk.reads();
    look(&storage(&disk), QUEUE, &row(2)).unwrap_err();
    assert!(disk.reads() - reads < 10, "{} reads", disk.reads() - reads);
}

#[test]
fn an_opening_knows_how_much_a_switch_can_count_on() {
    let disk = played(&[Switch(3, 1 << 20, false), Append(5), Switch(3, 0, false), Sync]);
    let least = bytes(&disk).map(|half| half.len() as u64).into_iter().min().unwrap();

    let halves = load(&storage(&disk), QUEUE, &row(3)).unwrap().halves;

    assert_eq!(halves.least_bytes(), least);
    assert!(least > 64 << 10);
}

#[test]
fn a_file_of_which_a_later_version_must_write_more_is_looked_at_and_not_opened() {
    for half in HALVES {
        let disk = played(&[Switch(3, 0, false), Sync]);
        let mut whole = disk.read_file(half).unwrap();
        let page = header::decode(FileKind::Half, &whole[..4096]).unwrap();
        let features = header::Features { writing: 1 << 9, ..page.header.features };
        let header = header::Header { features, ..page.header };
        whole[..4096].copy_from_slice(&shape::page(&header, page.superseded));
        disk.write_file(half, &whole);

        let found = load(&storage(&disk), QUEUE, &row(2));

        assert!(matches!(found, Err(Error::Version { .. })), "{found:?}");
        assert_eq!(look(&storage(&disk), QUEUE, &row(2)).unwrap().generation, 2);
        assert_eq!(disk.read_file(half).unwrap(), whole);
    }
}

#[test]
fn files_that_cannot_be_removed_are_told() {
    for (call, name) in
        [(Call::Remove, HALVES[0]), (Call::Remove, HALVES[1]), (Call::RemoveDir, "groups/mailer")]
    {
        let disk = new_disk();
        disk.aim(Aim::at(call, name), Fault::Io);

        let found = remove(&storage(&disk), NAME);

        assert!(matches!(found, Err(Error::Io { .. })), "{call:?} {name}: {found:?}");
        remove(&storage(&disk), NAME).unwrap();
        assert_eq!(disk.files(), Vec::<String>::new());
    }
}

#[test]
fn a_folder_that_finds_no_room_is_a_full_disk() {
    let disk = empty_disk();
    disk.aim(Aim::at(Call::MakeDir, "groups/mailer"), Fault::Full);

    let born = birth(&storage(&disk));

    assert!(born.as_ref().is_err_and(Error::is_full), "{born:?}");
    birth(&storage(&disk)).unwrap();
}
