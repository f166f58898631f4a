//! How does a file system answer the kernel that has one file, kept in a [`Record`]?
//!
//! The protocol of /dev/fuse by hand, as far as one file of a fixed length needs it: a crate for it
//! would bring thirty others into every run of the tests.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use crate::recorder::Record;

/// The name of the file.
pub(crate) const NAME: &str = "device";

const ROOT: u64 = 1;
const FILE: u64 = 2;
/// What one write may carry at most.
const LONGEST: u32 = 1 << 20;
const HEADER: usize = 40;

const ENOENT: i32 = 2;
const EIO: i32 = 5;
const ENOSYS: i32 = 38;
const EOPNOTSUPP: i32 = 95;

/// A request: what the kernel asks, about which inode, and the arguments.
struct Request<'a> {
    operation: u32,
    unique: u64,
    inode: u64,
    body: &'a [u8],
}

/// Mounts the file system on a folder and answers the kernel in a thread, until it is unmounted.
pub(crate) fn mount(folder: &Path, record: Arc<Mutex<Record>>) -> io::Result<()> {
    let device = File::options().read(true).write(true).open("/dev/fuse")?;
    // Standard input of `mount` is the device: so no file descriptor has to be inherited by number.
    let status = Command::new("mount")
        .args(["-i", "-t", "fuse", "-o", "fd=0,rootmode=40000,user_id=0,group_id=0", "backlog-record"])
        .arg(folder)
        .stdin(Stdio::from(device.try_clone()?))
        .status()?;
    if !status.success() {
        return Err(io::Error::other("cannot mount a FUSE file system"));
    }
    std::thread::Builder::new().name("fuse".into()).spawn(move || serve(device, &record))?;
    Ok(())
}

/// Answers until the file system is unmounted.
fn serve(mut device: File, record: &Mutex<Record>) {
    let mut buffer = vec![0; LONGEST as usize + (1 << 14)];
    loop {
        let length = match device.read(&mut buffer) {
            Ok(length) => length,
            // ENOENT: the request was taken back before it was read.
            Err(error) if matches!(error.raw_os_error(), Some(2 | 4 | 11)) => continue,
            // ENODEV: unmounted.
            Err(_) => return,
        };
        let request = Request {
            operation: u32_at(&buffer, 4),
            unique: u64_at(&buffer, 8),
            inode: u64_at(&buffer, 16),
            body: &buffer[HEADER..length],
        };
        if let Some(answer) = answer(&request, record) {
            let (error, body) = match answer {
                Ok(body) => (0, body),
                Err(error) => (-error, Vec::new()),
            };
            let length = u32::try_from(16 + body.len()).expect("an answer is shorter than 4 GiB");
            let mut bytes = length.to_le_bytes().to_vec();
            bytes.extend(error.to_le_bytes());
            bytes.extend(request.unique.to_le_bytes());
            bytes.extend(body);
            // Fails if whoever asked was killed: then nobody waits for it.
            let _ = device.write(&bytes);
        }
    }
}

/// Returns the answer's body or an error number; `None` where the kernel expects no answer.
fn answer(request: &Request<'_>, record: &Mutex<Record>) -> Option<Result<Vec<u8>, i32>> {
    const FORGET: u32 = 2;
    const BATCH_FORGET: u32 = 42;
    const INTERRUPT: u32 = 36;
    let body = request.body;
    let size = || record.lock().unwrap().size();
    Some(match request.operation {
        FORGET | BATCH_FORGET | INTERRUPT => return None,
        // LOOKUP
        1 if request.inode == ROOT && body.strip_suffix(b"\0") == Some(NAME.as_bytes()) => Ok(entry(size())),
        1 => Err(ENOENT),
        // GETATTR
        3 => {
            let mut answer = vec![0; 16];
            answer.extend(attributes(request.inode, size()));
            Ok(answer)
        }
        // OPEN: direct, so that each write of the device is a write here, and none is kept back.
        14 => Ok([&[0; 8][..], &1_u32.to_le_bytes(), &[0; 4]].concat()),
        // READ
        15 => Ok(record.lock().unwrap().read(u64_at(body, 8), u32_at(body, 16) as usize)),
        // WRITE
        16 => {
            let (at, length) = (u64_at(body, 8), u32_at(body, 16));
            let written = record.lock().unwrap().write(at, &body[40..40 + length as usize]);
            if written { Ok([length.to_le_bytes(), [0; 4]].concat()) } else { Err(EIO) }
        }
        // STATFS
        17 => Ok(vec![0; 80]),
        // FSYNC: the device's flush.
        20 => {
            if record.lock().unwrap().flush() {
                Ok(Vec::new())
            } else {
                Err(EIO)
            }
        }
        // INIT
        26 => Ok(init(body)),
        // RELEASE, FLUSH (a close, which promises nothing), ACCESS, DESTROY
        18 | 25 | 34 | 38 => Ok(Vec::new()),
        // FALLOCATE: a discard; it may be refused.
        43 => Err(EOPNOTSUPP),
        _ => Err(ENOSYS),
    })
}

fn init(body: &[u8]) -> Vec<u8> {
    const BIG_WRITES: u32 = 1 << 5;
    const MAX_PAGES: u32 = 1 << 22;
    let read_ahead = u32_at(body, 8);
    let mut answer = Vec::new();
    // The version of the protocol; what the kernel knows beyond it, it does not use.
    for word in [7, 31, read_ahead, u32_at(body, 12) & (BIG_WRITES | MAX_PAGES)] {
        answer.extend(word.to_le_bytes());
    }
    answer.extend(64_u16.to_le_bytes());
    answer.extend(48_u16.to_le_bytes());
    answer.extend(LONGEST.to_le_bytes());
    answer.extend(1_u32.to_le_bytes());
    answer.extend(256_u16.to_le_bytes());
    answer.resize(64, 0);
    answer
}

fn entry(size: u64) -> Vec<u8> {
    let mut answer = FILE.to_le_bytes().to_vec();
    answer.resize(40, 0);
    answer.extend(attributes(FILE, size));
    answer
}

fn attributes(inode: u64, size: u64) -> Vec<u8> {
    let (size, mode) = if inode == ROOT { (0, 0o040_700_u32) } else { (size, 0o100_600) };
    let mut bytes = Vec::new();
    for field in [inode, size, size / 512, 0, 0, 0] {
        bytes.extend(field.to_le_bytes());
    }
    for field in [0, 0, 0, mode, 1, 0, 0, 0, 4096, 0_u32] {
        bytes.extend(field.to_le_bytes());
    }
    bytes
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"))
}
