//! The smallest HTTP client that the harness itself needs: one GET, one answer, to the end of the connection.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context as _, Result};

/// An answer.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// The header lines, as they came.
    pub head: String,
    /// The body with chunk framing removed.
    pub body: String,
}

/// Asks `address` for `path` and reads until it closes.
pub fn get(address: SocketAddr, path: &str) -> Result<Answer> {
    get_with(address, path, "")
}

/// [`get`] with further header lines, each ended by CRLF.
pub fn get_with(address: SocketAddr, path: &str, headers: &str) -> Result<Answer> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request =
        format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{headers}Connection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    parse(&String::from_utf8_lossy(&bytes))
}

fn parse(text: &str) -> Result<Answer> {
    let (head, body) = text.split_once("\r\n\r\n").context("an answer without an end of head")?;
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok());
    let status = status.with_context(|| format!("no status in {head:?}"))?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunked(body)? } else { body.to_owned() };
    Ok(Answer { status, head: head.to_owned(), body })
}

fn unchunked(mut rest: &str) -> Result<String> {
    let mut body = String::new();
    loop {
        let (size, after) = rest.split_once("\r\n").context("a chunk without a size")?;
        let size = usize::from_str_radix(size.trim(), 16).context("a chunk size")?;
        if size == 0 {
            return Ok(body);
        }
        body.push_str(after.get(..size).context("a chunk cut short")?);
        rest = after.get(size + 2..).context("a chunk without an end")?;
    }
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn chunks_are_joined() {
        let answer = parse(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
        )
        .expect("parses");
        assert_eq!((answer.status, answer.body.as_str()), (200, "abcde"));
    }

    #[test]
    fn a_cut_answer_is_an_error() {
        assert!(parse("HTTP/1.1 200 OK\r\nContent-Le").is_err());
        assert!(parse("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc").is_err());
    }
}
