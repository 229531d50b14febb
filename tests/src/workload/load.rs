//! curl and wrk.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::netns::Place;
use crate::process::{Running, output, write};

/// Runs curl (quiet, no configuration of the user's) to its end and gives what it printed.
pub fn curl(arguments: &[&str]) -> Result<String> {
    output(curl_in(Place::HERE)?.args(arguments))
}

/// curl somewhere, ready to be given arguments.
pub fn curl_in(place: Place<'_>) -> Result<Command> {
    let mut command = place.inside("curl")?;
    command.args(["-q", "-sS", "--noproxy", "*", "--max-time", "60"]);
    Ok(command)
}

/// What wrk counted by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Answers that it got to their end.
    pub answers: u64,
    /// Answers that were not 2xx or 3xx.
    pub failures: u64,
    /// Connections that failed, reads, writes and timeouts.
    pub errors: u64,
}

/// Runs wrk for some seconds on `connections` connections, over `requests` (method and
/// path) in turn. No HEAD among them: wrk waits for the body that an answer announces.
pub fn wrk(
    place: Place<'_>,
    address: &str,
    requests: &[(&str, &str)],
    connections: u32,
    seconds: u32,
) -> Result<Load> {
    let folder = tempfile::tempdir()?;
    let script = folder.path().join("requests.lua");
    write(&script, &lua(requests))?;
    let mut command = place.inside("wrk")?;
    command.arg("-t1").arg(format!("-c{connections}")).arg(format!("-d{seconds}s"));
    command.arg("--timeout").arg("20s").arg("-s").arg(&script).arg(format!("http://{address}/"));
    let text = Running::start(&mut command)?
        .succeed(Duration::from_secs(u64::from(seconds) + 60))
        .context("wrk")?;
    parse(&text).with_context(|| format!("wrk printed {text}"))
}

/// A script that makes the requests in turn and reports the counts as one line.
fn lua(requests: &[(&str, &str)]) -> String {
    let mut text = "local requests = {\n".to_owned();
    for (method, path) in requests {
        text += &format!("  {{ {method:?}, {path:?} }},\n");
    }
    text += r#"}
local made, next = {}, 0
function init()
  for i, r in ipairs(requests) do made[i] = wrk.format(r[1], r[2]) end
end
function request()
  next = next % #made + 1
  return made[next]
end
function done(summary)
  local e = summary.errors
  io.write(string.format("counted %d %d %d\n", summary.requests, e.status,
    e.connect + e.read + e.write + e.timeout))
end
"#;
    text
}

fn parse(text: &str) -> Option<Load> {
    let line = text.lines().find_map(|line| line.strip_prefix("counted "))?;
    let mut numbers = line.split(' ').map_while(|word| word.parse().ok());
    Some(Load { answers: numbers.next()?, failures: numbers.next()?, errors: numbers.next()? })
}

/// Makes exactly `requests` GET requests by h2load on connections that are kept alive, over
/// `paths` in turn, and waits for every answer: unlike wrk it leaves nothing underway.
pub fn h2load(
    place: Place<'_>,
    address: &str,
    paths: &[&str],
    connections: u32,
    requests: u64,
) -> Result<()> {
    let hands = ["--h1".to_owned(), format!("-c{connections}")];
    h2load_with(place, address, paths, &hands, requests).map(drop)
}

/// Makes exactly `requests` GET requests by h2load over HTTP/2, with `streams` of them at a
/// time on each connection, over `paths` in turn, and waits for every answer.
pub fn h2load_streams(
    place: Place<'_>,
    address: &str,
    paths: &[&str],
    (connections, streams): (u32, u32),
    requests: u64,
) -> Result<()> {
    let hands = [format!("-c{connections}"), format!("-m{streams}")];
    let text = h2load_with(place, address, paths, &hands, requests)?;
    ensure!(text.contains("Application protocol: h2c"), "not by HTTP/2: {text}");
    Ok(())
}

/// Makes exactly `requests` GET requests by h2load with further arguments of its own, over
/// `paths` in turn, waits for every answer, and gives what it printed.
pub fn h2load_with(
    place: Place<'_>,
    address: &str,
    paths: &[&str],
    arguments: &[String],
    requests: u64,
) -> Result<String> {
    let mut command = place.inside("h2load")?;
    command.arg("-t1").arg(format!("-n{requests}")).args(arguments);
    command.args(paths.iter().map(|path| format!("http://{address}{path}")));
    let text = Running::start(&mut command)?.succeed(Duration::from_secs(180)).context("h2load")?;
    let done = format!("{requests} total, {requests} started, {requests} done");
    ensure!(text.contains(&done), "h2load did not get every answer: {text}");
    Ok(text)
}

/// Makes exactly `requests` GET requests by ab, each on a connection of its own.
pub fn ab(place: Place<'_>, url: &str, at_once: u32, requests: u64) -> Result<()> {
    let mut command = place.inside("ab")?;
    command.args(["-q", "-r"]).arg(format!("-n{requests}")).arg(format!("-c{at_once}")).arg(url);
    let text = Running::start(&mut command)?.succeed(Duration::from_secs(180)).context("ab")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Complete requests:"));
    let complete = line.and_then(|count| count.trim().parse().ok());
    ensure!(complete == Some(requests), "ab did not get every answer: {text}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Load, ab, h2load, parse, wrk};
    use crate::netns::Place;
    use crate::workload::Nginx;

    #[test]
    fn counts_are_read() {
        let load = parse("Running\ncounted 7 1 0\n");
        assert_eq!(load, Some(Load { answers: 7, failures: 1, errors: 0 }));
        assert_eq!(parse("nothing"), None);
    }

    /// wrk ends by closing connections with requests underway: nginx may have logged up
    /// to one more per connection than wrk got.
    #[test]
    fn wrk_and_the_log_agree() {
        if ["nginx", "wrk"].iter().any(|name| crate::requirement::program(name).is_none()) {
            crate::skip!("not installed: nginx, wrk");
        }
        let nginx = Nginx::start().expect("starts");
        let address = format!("127.0.0.1:{}", nginx.port());
        let requests = [("GET", "/ok"), ("GET", "/nothing"), ("DELETE", "/ok")];
        let load = wrk(Place::HERE, &address, &requests, 8, 1).expect("runs");
        let ledger = nginx.ledger().expect("is there");
        assert!(load.answers > 100 && load.errors == 0, "{load:?}");
        assert!((load.answers..=load.answers + 8).contains(&ledger.total()), "{load:?} {ledger:?}");
        assert!(load.failures.abs_diff(ledger.count("GET", "/nothing", Some(404))) <= 8);
    }

    #[test]
    fn loads_that_end_cleanly_are_in_the_log_exactly() {
        let needed = ["nginx", "h2load", "ab"];
        if needed.iter().any(|name| crate::requirement::program(name).is_none()) {
            crate::skip!("not installed: nginx, h2load or ab");
        }
        let nginx = Nginx::start().expect("starts");
        let address = format!("127.0.0.1:{}", nginx.port());
        h2load(Place::HERE, &address, &["/ok", "/nothing", "/broken"], 4, 3000).expect("runs");
        ab(Place::HERE, &format!("http://{address}/empty"), 4, 500).expect("runs");
        let ledger = nginx.ledger().expect("is there");
        let count = |path, status| ledger.count("GET", path, Some(status));
        let counts = [count("/ok", 200), count("/nothing", 404), count("/broken", 500)];
        assert_eq!(counts.iter().sum::<u64>(), 3000);
        assert!(counts.iter().all(|count| *count > 900), "{ledger:?}");
        assert_eq!((count("/empty", 204), ledger.total()), (500, 3500));
    }
}
