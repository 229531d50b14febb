//! Load by gRPC: the Go client makes a mix of all kinds of calls and counts them by itself.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::grpc::{Bought, Grpc, rounds};
use crate::netns::Place;
use crate::process::Running;

/// Makes exactly `calls` calls on `connections` connections, `streams` of them at a time on
/// each, and gives what the client counted.
pub fn shop(
    place: Place<'_>,
    address: &str,
    calls: u64,
    (connections, streams): (u32, u32),
) -> Result<Vec<Bought>> {
    let mut command = Grpc::Go.command(Grpc::Go.client_name(), place)?;
    command.arg(address).arg("load").arg(calls.to_string());
    command.arg(connections.to_string()).arg(streams.to_string());
    let text = Running::start(&mut command)?.succeed(Duration::from_secs(300))?;
    Ok(rounds(&text)?.swap_remove(0))
}

/// Calls without an end, until [`Shopping::finish`].
#[derive(Debug)]
pub struct Shopping {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Shopping {
    /// Starts them: `streams` at a time on each of `connections`, each with a pause of so
    /// many milliseconds before its next call.
    pub fn start(
        place: Place<'_>,
        address: &str,
        (connections, streams): (u32, u32),
        pause: u32,
    ) -> Result<Self> {
        let mut command = Grpc::Go.command(Grpc::Go.client_name(), place)?;
        command.arg(address).arg("endless");
        command.args([connections, streams, pause].map(|number| number.to_string()));
        // Not in the group that a terminal interrupts: it ends when it is dropped.
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).process_group(0);
        let mut child = command.spawn()?;
        let input = child.stdin.take();
        let output = child.stdout.take().context("standard output is piped")?;
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Process id of the client.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Calls that begin from now on are counted apart.
    pub fn turn(&mut self) -> Result<()> {
        let input = self.input.as_mut().context("not finished")?;
        writeln!(input)?;
        self.output.read_line(&mut String::new())?;
        Ok(())
    }

    /// Ends when every call underway has ended, and gives the calls by round: those that
    /// began before the first [`Shopping::turn`], those before the second, and so on.
    pub fn finish(mut self) -> Result<Vec<Vec<Bought>>> {
        self.input = None;
        let mut text = String::new();
        self.output.read_to_string(&mut text)?;
        anyhow::ensure!(self.child.wait()?.success(), "the client failed");
        let mut rounds = rounds(&text)?;
        // A round ends with an empty line, and none follows the last.
        rounds.pop();
        Ok(rounds)
    }
}

impl Drop for Shopping {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::{Shopping, shop};
    use crate::netns::Place;
    use crate::workload::grpc::{Cart, Grpc, ledger};

    #[test]
    fn calls_are_counted_to_the_last() {
        if let Some(reason) = Grpc::Go.missing() {
            crate::skip!(reason);
        }
        let cart = Cart::start(Grpc::Go).expect("starts");
        let bought = shop(Place::HERE, &cart.address(), 4000, (2, 10)).expect("shops");
        let counted = ledger(&bought);
        assert_eq!(counted.total(), 4000);
        assert_eq!(counted.iter().count(), 7, "{counted:?}");
    }

    #[test]
    fn rounds_are_told_apart() {
        if let Some(reason) = Grpc::Go.missing() {
            crate::skip!(reason);
        }
        // Connections are told to go away meanwhile, and no call fails for it.
        let cart = Cart::start_in(Grpc::Go, Place::HERE, &["150"]).expect("starts");
        let mut shopping =
            Shopping::start(Place::HERE, &cart.address(), (2, 10), 0).expect("starts");
        for _ in 0..2 {
            std::thread::sleep(Duration::from_millis(300));
            shopping.turn().expect("turns");
        }
        let rounds = shopping.finish().expect("ends");
        assert_eq!(rounds.len(), 3);
        for round in &rounds[..2] {
            assert!(ledger(round).total() > 100, "{rounds:?}");
        }
        for bought in rounds.concat() {
            let known = ["OK", "NOT_FOUND", "FAILED_PRECONDITION", "UNAVAILABLE"];
            assert!(known.contains(&bought.status.as_str()), "{bought:?}");
            let is_asked = bought.status != "UNAVAILABLE" || bought.method == "shop.Cart/Fail";
            assert!(is_asked, "a call was lost: {bought:?}");
        }
    }
}
