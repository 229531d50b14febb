//! What every client of the service asks, and what must be seen of it.

use super::Grpc;
use crate::expected::{Causes, Expected};

/// A call: what the client is told, and what comes of it at both ends.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// For the client; see `fixtures/grpc/README.md`.
    pub word: &'static str,
    /// The status code's name.
    pub status: &'static str,
    /// Messages of the request and of the answer.
    pub messages: (u64, u64),
    /// Bytes of the two bodies: of each message itself, and five before it.
    pub bytes: (u64, u64),
}

const fn step(
    word: &'static str,
    status: &'static str,
    messages: (u64, u64),
    bytes: (u64, u64),
) -> Step {
    Step { word, status, messages, bytes }
}

/// What every client asks of every server, in this order, on one connection.
pub const SCRIPT: [Step; 13] = [
    step("Get:1:20:milk:0:0:0:0", "OK", (1, 1), (25, 25)),
    step("Watch:1:0:5,0:0:0:0:0", "OK", (1, 5), (8, 30)),
    step("Watch:1:0:3,0,5:0:0:0:0", "NOT_FOUND", (1, 3), (10, 18)),
    step("Watch:1:0:0,0,0:0:0:0:0", "OK", (1, 0), (10, 0)),
    step("Upload:4:10:eggs:0:0:0:0", "OK", (4, 1), (60, 6)),
    step("Chat:4:10:salt:0:0:0:20", "OK", (4, 4), (60, 60)),
    step("Fail:1:0:5:0:0:0:0", "NOT_FOUND", (1, 0), (6, 0)),
    step("Fail:1:0:13:0:0:0:0", "INTERNAL", (1, 0), (7, 0)),
    step("Slow:1:0:20:0:0:0:0", "OK", (1, 1), (7, 7)),
    step("Get:1:200000:large:0:0:0:0", "OK", (1, 1), (200_005, 200_005)),
    step("Upload:3:100000:large:0:0:0:0", "OK", (3, 1), (300_015, 6)),
    // Header blocks of more than one frame, both ways.
    step("Big:1:10:30000:0:0:30000:0", "OK", (1, 1), (15, 15)),
    step("Nope:1:0:7:0:0:0:0", "UNIMPLEMENTED", (1, 0), (6, 0)),
];

/// A call that its client gives up after three answers.
pub const CANCELLED: &str = "Watch:1:0:3,0,99:0:3:0:0";
/// A call whose time runs out long before its answer.
pub const TOO_SLOW: &str = "Slow:1:0:3000:300:0:0:0";

impl Step {
    /// `Get`
    #[must_use]
    pub fn method(&self) -> &'static str {
        self.word.split(':').next().unwrap_or_default()
    }

    /// The call as it must be seen.
    #[must_use]
    pub fn expected(&self) -> Expected {
        let call = |messages| Expected::rpc(&full_name(self.method()), self.status, messages);
        let whole = call(self.messages).bytes(self.bytes.0, self.bytes.1);
        if self.status != "UNIMPLEMENTED" {
            return whole;
        }
        // The server answers the head and resets the stream: the message may come too late.
        whole.or(call((0, 0)).bytes(0, self.bytes.1))
    }
}

/// [`CANCELLED`] as it must be seen.
#[must_use]
pub fn cancelled() -> Expected {
    let causes = Causes { client: &["cancelled"], server: &["cancelled"] };
    Expected::rpc(&full_name("Watch"), "", (1, 3)).broken(causes)
}

/// [`TOO_SLOW`] as it must be seen between this client and this server. Go's server leaves
/// the end of time to the client; all others have a clock of their own, and who is first
/// with a reset or a status, differs from call to call.
#[must_use]
pub fn too_slow(client: Grpc, server: Grpc) -> Expected {
    let method = full_name("Slow");
    let unanswered = Expected::rpc(&method, "", (1, 0)).http_status(None);
    if client == Grpc::Go && server == Grpc::Go {
        let cause = &["deadline_exceeded"];
        return unanswered.broken(Causes { client: cause, server: cause });
    }
    let cause = &["deadline_exceeded", "cancelled"];
    let broken = |call: Expected| call.broken(Causes { client: cause, server: cause });
    let said = |status| Expected::rpc(&method, status, (1, 0));
    let mut all = broken(unanswered);
    for status in ["DEADLINE_EXCEEDED", "CANCELLED"] {
        all = all.or(said(status)).or(broken(said(status)));
    }
    all
}

pub(super) fn full_name(method: &str) -> String {
    format!("shop.Cart/{method}")
}
