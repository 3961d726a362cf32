//! A small HTTP/1.1 client for a validator's interface: one connection, kept open.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

/// Bytes of a response's head at most.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// Bytes of a response's body at most: a block's page is far below.
const BODY_BYTES_MAX: usize = 64 << 20;

/// Where a validator's HTTP interface is: `http://host:port`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Url {
    authority: String,
}

impl std::str::FromStr for Url {
    type Err = String;

    /// Reads `http://host:port`, also without the scheme, and with a slash at the end.
    fn from_str(text: &str) -> Result<Self, String> {
        let rest = match text.split_once("://") {
            None => text,
            Some(("http", rest)) => rest,
            Some((scheme, _)) => {
                return Err(format!(
                    "{scheme}:// is not spoken here; use http://host:port, and a tunnel to a \
                     validator on another machine"
                ));
            }
        };
        let authority = rest.strip_suffix('/').unwrap_or(rest);
        let port = authority.rsplit_once(':').and_then(|(host, port)| {
            let is_bare = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
            (!host.is_empty() && !is_bare).then(|| port.parse::<u16>().ok()).flatten()
        });
        let is_clean = authority.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/');
        if port.is_none() || !is_clean {
            return Err(format!("`{text}` is not an address such as http://127.0.0.1:4004"));
        }
        Ok(Self { authority: authority.to_string() })
    }
}

impl fmt::Display for Url {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}", self.authority)
    }
}

impl From<std::net::SocketAddr> for Url {
    fn from(address: std::net::SocketAddr) -> Self {
        Self { authority: address.to_string() }
    }
}

/// Why a request got no response; the message names the validator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection.
    #[error("{url}: cannot connect: {source}; is the validator running?")]
    Connect {
        /// Where.
        url: Url,
        /// What the system says.
        source: io::Error,
    },
    /// The connection broke or the time was up.
    #[error("{url}: {source}")]
    Io {
        /// Where.
        url: Url,
        /// What the system says.
        source: io::Error,
    },
    /// The bytes are not a response of ours.
    #[error("{url}: not the answer of a validator: {what}")]
    Protocol {
        /// Where.
        url: Url,
        /// What is wrong.
        what: &'static str,
    },
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// A client of one validator.
#[derive(Debug)]
pub struct Http {
    url: Url,
    timeout: Duration,
    stream: Option<TcpStream>,
}

/// What went wrong inside a request, before the validator is named.
enum Failure {
    Connect(io::Error),
    Io(io::Error),
    Protocol(&'static str),
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        Self::Io(source)
    }
}

impl Http {
    /// Prepares a client; every request ends within `timeout`. Connects at the first request.
    pub const fn new(url: Url, timeout: Duration) -> Self {
        Self { url, timeout, stream: None }
    }

    /// Returns the address.
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// Asks for a path.
    ///
    /// Errors: every [`Error`].
    pub fn get(&mut self, path: &str) -> Result<Response, Error> {
        self.request("GET", path, &[])
    }

    /// Sends bytes to a path. The interface takes the same bytes any number of times as once, so
    /// that a connection that broke is tried again.
    ///
    /// Errors: every [`Error`].
    pub fn post(&mut self, path: &str, body: &[u8]) -> Result<Response, Error> {
        self.request("POST", path, body)
    }

    fn request(&mut self, method: &str, path: &str, body: &[u8]) -> Result<Response, Error> {
        let until = Instant::now() + self.timeout;
        let reused = self.stream.is_some();
        let mut result = self.exchange(method, path, body, until);
        // A kept connection may have been closed by the other side in the meantime.
        if reused
            && matches!(&result, Err(Failure::Io(error)) if error.kind() != io::ErrorKind::TimedOut)
        {
            result = self.exchange(method, path, body, until);
        }
        result.map_err(|failure| {
            let url = self.url.clone();
            match failure {
                Failure::Connect(source) => Error::Connect { url, source },
                Failure::Io(source) => Error::Io { url, source },
                Failure::Protocol(what) => Error::Protocol { url, what },
            }
        })
    }

    fn exchange(
        &mut self,
        method: &str,
        path: &str,
        body: &[u8],
        until: Instant,
    ) -> Result<Response, Failure> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => self.connect(until).map_err(Failure::Connect)?,
        };
        let authority = &self.url.authority;
        let mut request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {authority}\r\nuser-agent: althing\r\n\
             content-length: {}\r\n",
            body.len()
        )
        .into_bytes();
        if !body.is_empty() {
            request.extend_from_slice(b"content-type: application/octet-stream\r\n");
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body);
        stream.set_write_timeout(Some(left(until)?))?;
        stream.write_all(&request)?;
        let mut reader = Reader { stream: &mut stream, until, bytes: Vec::new(), at: 0 };
        let (response, keep) = reader.response()?;
        if keep {
            self.stream = Some(stream);
        }
        Ok(response)
    }

    fn connect(&self, until: Instant) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in self.url.authority.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, left(until)?) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// The time that is left, at least a millisecond, which the system calls ask for.
fn left(until: Instant) -> io::Result<Duration> {
    let left = until.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
    }
    Ok(left.max(Duration::from_millis(1)))
}

struct Reader<'a> {
    stream: &'a mut TcpStream,
    until: Instant,
    bytes: Vec<u8>,
    at: usize,
}

impl Reader<'_> {
    fn response(&mut self) -> Result<(Response, bool), Failure> {
        let status_line = self.line()?;
        let status = status_line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse::<u16>().ok())
            .ok_or(Failure::Protocol("it does not begin like HTTP/1.1"))?;
        let (mut length, mut chunked, mut keep) = (None, false, true);
        loop {
            let line = self.line()?;
            let Some((name, value)) = line.split_once(':') else {
                if line.is_empty() {
                    break;
                }
                return Err(Failure::Protocol("a header has no name"));
            };
            let value = value.trim();
            match name.to_ascii_lowercase().as_str() {
                "content-length" => {
                    let wrong = Failure::Protocol("its length is not a number");
                    length = Some(value.parse::<usize>().map_err(|_| wrong)?);
                }
                "transfer-encoding" => chunked = value.eq_ignore_ascii_case("chunked"),
                "connection" => keep = !value.eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        let body = match (chunked, length) {
            (true, _) => self.chunks()?,
            (false, Some(length)) => self.exactly(length)?,
            (false, None) => return Err(Failure::Protocol("it has no length")),
        };
        // Bytes beyond the response belong to nothing that was asked for.
        keep &= self.at == self.bytes.len();
        Ok((Response { status, body }, keep))
    }

    fn chunks(&mut self) -> Result<Vec<u8>, Failure> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let digits = line.split(';').next().unwrap_or_default().trim();
            let size = usize::from_str_radix(digits, 16)
                .map_err(|_| Failure::Protocol("a chunk has no size"))?;
            if size == 0 {
                while !self.line()?.is_empty() {}
                return Ok(body);
            }
            if size > BODY_BYTES_MAX - body.len() {
                return Err(Failure::Protocol("it is too long"));
            }
            body.extend_from_slice(&self.exactly(size)?);
            if !self.line()?.is_empty() {
                return Err(Failure::Protocol("a chunk is longer than it says"));
            }
        }
    }

    fn line(&mut self) -> Result<String, Failure> {
        loop {
            let unread = &self.bytes[self.at..];
            if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line = unread[..end].strip_suffix(b"\r").unwrap_or(&unread[..end]);
                let text = String::from_utf8_lossy(line).into_owned();
                self.at += end + 1;
                return Ok(text);
            }
            if unread.len() > HEAD_BYTES_MAX {
                return Err(Failure::Protocol("a line is too long"));
            }
            self.more()?;
        }
    }

    fn exactly(&mut self, length: usize) -> Result<Vec<u8>, Failure> {
        if length > BODY_BYTES_MAX {
            return Err(Failure::Protocol("it is too long"));
        }
        while self.bytes.len() - self.at < length {
            self.more()?;
        }
        let body = self.bytes[self.at..self.at + length].to_vec();
        self.at += length;
        Ok(body)
    }

    fn more(&mut self) -> Result<(), Failure> {
        self.stream.set_read_timeout(Some(left(self.until)?))?;
        let mut piece = [0; 16 * 1024];
        let count = match self.stream.read(&mut piece) {
            Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time").into());
            }
            Err(error) => return Err(error.into()),
        };
        self.bytes.drain(..self.at);
        self.at = 0;
        self.bytes.extend_from_slice(&piece[..count]);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::thread;

    /// Serves each connection with its list of answers, one for each request head that arrives.
    fn serve(connections: Vec<Vec<&'static str>>) -> (Url, thread::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::from(listener.local_addr().unwrap());
        let thread = thread::spawn(move || {
            let mut requests = Vec::new();
            for answers in connections {
                let (mut stream, _) = listener.accept().unwrap();
                for answer in answers {
                    let mut request = Vec::new();
                    let mut byte = [0];
                    while !request.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
                        request.push(byte[0]);
                    }
                    let head = String::from_utf8(request).unwrap();
                    let length =
                        head.lines().find_map(|line| line.strip_prefix("content-length: "));
                    let mut body = vec![0; length.unwrap().parse().unwrap()];
                    stream.read_exact(&mut body).unwrap();
                    requests.push(head + &String::from_utf8(body).unwrap());
                    // In two pieces, so that no answer arrives at once.
                    let (first, second) = answer.split_at(answer.len() / 2);
                    stream.write_all(first.as_bytes()).unwrap();
                    stream.flush().unwrap();
                    thread::sleep(Duration::from_millis(5));
                    stream.write_all(second.as_bytes()).unwrap();
                }
            }
            requests
        });
        (url, thread)
    }

    fn client(url: Url) -> Http {
        Http::new(url, Duration::from_secs(5))
    }

    #[test]
    fn one_connection_carries_several_requests() {
        let (url, server) = serve(vec![vec![
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
            "HTTP/1.1 202 Accepted\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
            "HTTP/1.1 503 Service Unavailable\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
        ]]);
        let mut http = client(url);
        assert_eq!(http.get("/a").unwrap(), Response { status: 200, body: b"hello".to_vec() });
        assert_eq!(http.post("/b", b"xyz").unwrap().body, b"abcde");
        assert_eq!(http.get("/c").unwrap().status, 503);
        let requests = server.join().unwrap();
        assert!(requests[0].starts_with("GET /a HTTP/1.1\r\nhost: 127.0.0.1:"));
        assert!(requests[1].contains("content-length: 3\r\n") && requests[1].ends_with("xyz"));
        assert!(http.stream.is_none(), "closed when told so");
    }

    #[test]
    fn a_kept_connection_that_died_is_replaced_once() {
        let ok = "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\nx";
        let (url, server) = serve(vec![vec![ok], vec![ok]]);
        let mut http = client(url);
        assert_eq!(http.get("/1").unwrap().status, 200);
        assert_eq!(http.get("/2").unwrap().status, 200);
        assert_eq!(server.join().unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_answer_is_an_error_that_names_the_validator() {
        for (answer, part) in [
            ("SSH-2.0-x\r\n", "does not begin"),
            ("HTTP/1.1 200 OK\r\n\r\n", "no length"),
            ("HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", "not a number"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", "too long"),
            ("HTTP/1.1 200 OK\r\nnonsense\r\n\r\n", "no name"),
            ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", "no size"),
            ("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nabc", "end of file"),
        ] {
            let (url, server) = serve(vec![vec![answer]]);
            let error = client(url.clone()).get("/").unwrap_err().to_string();
            assert!(error.contains(part) && error.contains(&url.to_string()), "{error}");
            server.join().unwrap();
        }
    }

    #[test]
    fn nobody_there_and_no_answer_end_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::from(listener.local_addr().unwrap());
        let mut http = Http::new(url.clone(), Duration::from_millis(50));
        let error = http.get("/").unwrap_err().to_string();
        assert!(error.contains("no answer in time"), "{error}");
        drop(listener);
        let error = client(url).get("/").unwrap_err().to_string();
        assert!(error.contains("is the validator running?"), "{error}");
    }

    #[test]
    fn addresses_are_read_with_or_without_scheme() {
        for text in ["http://127.0.0.1:80", "127.0.0.1:80", "http://127.0.0.1:80/"] {
            assert_eq!(text.parse::<Url>().unwrap().to_string(), "http://127.0.0.1:80");
        }
        assert_eq!("[::1]:9".parse::<Url>().unwrap().to_string(), "http://[::1]:9");
        for text in ["", "http://", "localhost", "::1:9", "a:b", "http://a:80/x", ":80", "a b:80"] {
            assert!(text.parse::<Url>().unwrap_err().contains("is not an address"), "{text}");
        }
        assert!("https://a:443".parse::<Url>().unwrap_err().contains("not spoken"));
    }
}
