//! gRPC client of tonic: `rustbuyer ADDRESS STEP...`. See `fixtures/grpc/README.md` for the steps.

mod raw;

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::sync::mpsc::channel;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use raw::Raw;

/// `NotFound` as `NOT_FOUND`.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// A message: its text, with blanks behind it up to a size.
fn padded(text: &str, size: usize) -> Vec<u8> {
    let mut content = text.as_bytes().to_vec();
    content.resize(size.max(content.len()), b' ');
    content
}

/// What one call did so far.
#[derive(Debug, Default)]
struct Done {
    received: usize,
    metadata: usize,
}

#[derive(Debug)]
struct Step {
    method: String,
    messages: usize,
    content: Vec<u8>,
    deadline: u64,
    cancel_after: usize,
    metadata: usize,
    pause: u64,
}

impl Step {
    fn parse(word: &str) -> Result<Self> {
        let parts: Vec<&str> = word.split(':').collect();
        let [method, messages, size, text, deadline, cancel_after, metadata, pause] = *parts else {
            anyhow::bail!("not a step: {word}");
        };
        Ok(Self {
            method: format!("shop.Cart/{method}"),
            messages: messages.parse()?,
            content: padded(text, size.parse()?),
            deadline: deadline.parse()?,
            cancel_after: cancel_after.parse()?,
            metadata: metadata.parse()?,
            pause: pause.parse()?,
        })
    }

    fn request(&self) -> Result<Request<ReceiverStream<Vec<u8>>>> {
        let (messages, stream) = channel(16);
        let (count, content, pause) = (self.messages, self.content.clone(), self.pause);
        drop(tokio::spawn(async move {
            for _ in 0..count {
                if messages.send(content.clone()).await.is_err() {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(pause)).await;
            }
        }));
        let mut request = Request::new(ReceiverStream::new(stream));
        if self.deadline > 0 {
            request.set_timeout(Duration::from_millis(self.deadline));
        }
        if self.metadata > 0 {
            request.metadata_mut().insert("x-basket", "b".repeat(self.metadata).parse()?);
        }
        Ok(request)
    }
}

async fn run(channel: &Channel, step: &Step, done: &mut Done) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let path = PathAndQuery::try_from(format!("/{}", step.method));
    let path = path.map_err(|error| Status::internal(error.to_string()))?;
    let request = step.request().map_err(|error| Status::internal(error.to_string()))?;
    let answer = client.streaming(request, path, Raw).await?;
    done.metadata = answer.metadata().get("x-receipt").map_or(0, |value| value.len());
    let mut stream = answer.into_inner();
    while stream.message().await?.is_some() {
        done.received += 1;
        if done.received == step.cancel_after {
            return Err(Status::cancelled("enough"));
        }
    }
    Ok(())
}

#[tokio::main(worker_threads = 2)]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let address = arguments.next().context("an address")?;
    let endpoint = Endpoint::try_from(format!("http://{address}"))?;
    let channel = endpoint.http2_max_header_list_size(400_000).connect().await?;
    for word in arguments {
        let step = Step::parse(&word)?;
        let mut done = Done::default();
        let status = match run(&channel, &step, &mut done).await {
            Ok(()) => Code::Ok,
            Err(status) => status.code(),
        };
        println!(
            "{}",
            json!({"method": step.method, "status": name(status), "sent": step.messages,
                   "received": done.received, "metadata": done.metadata})
        );
    }
    Ok(())
}
