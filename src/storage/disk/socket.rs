//! How do processes that have the same folder reach each other?
//!
//! By a socket in the folder, for the same user only. Its path goes through the handle on the folder
//! (`/proc/self/fd/N/SOCKET`): an address holds 108 bytes, and a path may be longer.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::fs::Mode;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use super::{Disk, retry};
use crate::error::is_lack_of_room;

/// How many connections may wait to be accepted.
const WAITING: i32 = 1024;

impl Disk {
    fn address(&self, name: &str) -> io::Result<SocketAddrUnix> {
        let folder = format!("/proc/self/fd/{}", self.folder()?.as_raw_fd());
        // Where there is no /proc a short path will do.
        let folder = if Path::new(&folder).exists() { Path::new(&folder) } else { &self.root };
        Ok(SocketAddrUnix::new(folder.join(name))?)
    }

    /// Makes the socket; only the same user can connect to it. Its name is free: who has the lock removed it. `None`
    /// where the file system has no sockets, or no room for one: that is no reason not to open a queue.
    pub(super) fn bind(&self, name: &str) -> io::Result<Option<UnixListener>> {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // Before it has a name: never is it there for others.
        retry(|| Ok(rustix::fs::fchmod(&socket, Mode::from_raw_mode(0o600))?))?;
        match rustix::net::bind(&socket, &self.address(name)?).map_err(io::Error::from) {
            Err(error) if is_none_there(&error) => return Ok(None),
            bound => bound?,
        }
        rustix::net::listen(&socket, WAITING)?;
        Ok(Some(socket.into()))
    }

    /// Connects; `NotFound` or `ConnectionRefused` where nobody listens.
    pub(super) fn connect_to(&self, name: &str) -> io::Result<UnixStream> {
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let address = self.address(name)?;
        retry(|| Ok(rustix::net::connect(&socket, &address)?))?;
        let stream = UnixStream::from(socket);
        if other_user(&stream)? {
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, "another user listens there"));
        }
        Ok(stream)
    }
}

/// Tells whether an error says that no socket can be made in this folder, in which all else can.
fn is_none_there(error: &io::Error) -> bool {
    let refused = matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied);
    refused || is_lack_of_room(error)
}

/// Tells whether another user than this process's is at the other end.
pub(crate) fn other_user(stream: &impl AsFd) -> io::Result<bool> {
    let peer = rustix::net::sockopt::socket_peercred(stream)?;
    Ok(peer.uid != rustix::process::geteuid())
}

/// Returns the process at the other end: of a listener's, the one that made it.
pub(crate) fn process_of(stream: &impl AsFd) -> Option<u32> {
    let peer = rustix::net::sockopt::socket_peercred(stream).ok()?;
    u32::try_from(peer.pid.as_raw_nonzero().get()).ok()
}
