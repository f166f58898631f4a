//! How does one mail reach a server? As much of RFC 5321 as that takes.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::Failure;

const PATIENCE: Duration = Duration::from_secs(30);
/// A line of a reply is shorter (RFC 5321 says 512), and there are fewer of them.
const LONGEST_LINE: u64 = 4096;
const MOST_LINES: usize = 100;

/// Sends a mail whose lines end in CRLF. The addresses were checked: they hold no line break, no
/// space and no angle bracket.
pub(crate) fn send(host: &str, from: &str, to: &str, text: &str) -> Result<(), Failure> {
    let mut server =
        connect(host).map_err(|error| Failure::Retry(format!("cannot reach {host}: {error}")))?;
    server.expect(220)?;
    if server.ask("EHLO shop.example", 250).is_err() {
        server.ask("HELO shop.example", 250)?;
    }
    server.ask(&format!("MAIL FROM:<{from}>"), 250)?;
    server.ask(&format!("RCPT TO:<{to}>"), 250)?;
    server.ask("DATA", 354)?;
    server.ask(&stuffed(text), 250)?;
    // The server has taken the mail: whatever it says to this changes nothing.
    let _ = server.ask("QUIT", 221);
    Ok(())
}

/// Doubles a dot that begins a line, and puts the line that ends a mail behind; the last line end
/// is left to [`Server::ask`].
fn stuffed(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for line in text.lines() {
        if line.starts_with('.') {
            out.push('.');
        }
        out.push_str(line);
        out.push_str("\r\n");
    }
    out.push('.');
    out
}

struct Server {
    read: BufReader<TcpStream>,
}

fn connect(host: &str) -> io::Result<Server> {
    let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let place = if has_port { host.to_owned() } else { format!("{host}:25") };
    let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in place.to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => {
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_write_timeout(Some(PATIENCE))?;
                return Ok(Server { read: BufReader::new(stream) });
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

impl Server {
    fn ask(&mut self, line: &str, wanted: u16) -> Result<(), Failure> {
        let line = format!("{line}\r\n");
        self.read.get_mut().write_all(line.as_bytes()).map_err(lost)?;
        self.expect(wanted)
    }

    /// Reads a reply: lines with the same code, a hyphen behind it in all but the last.
    fn expect(&mut self, wanted: u16) -> Result<(), Failure> {
        let mut said = String::new();
        for _ in 0..MOST_LINES {
            let mut line = String::new();
            (&mut self.read).take(LONGEST_LINE).read_line(&mut line).map_err(lost)?;
            if !line.ends_with('\n') {
                return Err(Failure::Retry("the server went away, or talks without end".into()));
            }
            said.push_str(line.trim_end());
            let code = line.get(..3).and_then(|code| code.parse::<u16>().ok());
            match (code, line.as_bytes().get(3)) {
                (Some(_), Some(b'-')) => said.push_str(" / "),
                // 251: it will forward the mail. That is a yes to an address.
                (Some(code), _) if code == wanted || (wanted == 250 && code == 251) => return Ok(()),
                (Some(500..=599), _) => return Err(Failure::Never(said)),
                _ => return Err(Failure::Retry(said)),
            }
        }
        Err(Failure::Retry("the server talks without end".into()))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is handed to map_err")]
fn lost(error: io::Error) -> Failure {
    Failure::Retry(format!("the connection broke: {error}"))
}
