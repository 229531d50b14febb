//! gRPC server of tonic: `rustcart PORT`. See `fixtures/grpc/README.md` for the methods.

mod raw;

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::mpsc::{Sender, channel};
use tonic::body::Body;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::{BoxFuture, Context, Poll, Service, http};
use tonic::server::{Grpc, NamedService, StreamingService};
use tonic::transport::Server;
use tonic::{Code, Request, Response, Status, Streaming};

use raw::Raw;

type Answers = Sender<Result<Vec<u8>, Status>>;

/// The service, and one call of it by its method's name.
#[derive(Clone, Debug, Default)]
struct Cart {
    method: String,
}

impl NamedService for Cart {
    const NAME: &'static str = "shop.Cart";
}

impl Service<http::Request<Body>> for Cart {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let path = request.uri().path();
        let method = path.rsplit('/').next().unwrap_or_default().to_owned();
        // Either stream or not, the frames are the same: one kind of handler does for all.
        Box::pin(async move { Ok(Grpc::new(Raw).streaming(Self { method }, request).await) })
    }
}

impl StreamingService<Vec<u8>> for Cart {
    type Response = Vec<u8>;
    type ResponseStream = ReceiverStream<Result<Vec<u8>, Status>>;
    type Future = BoxFuture<Response<Self::ResponseStream>, Status>;

    fn call(&mut self, request: Request<Streaming<Vec<u8>>>) -> Self::Future {
        let method = self.method.clone();
        Box::pin(async move { answer(&method, request.into_inner()).await })
    }
}

/// Numbers that the first message asks with, separated by commas.
fn numbers(message: &[u8]) -> [u32; 3] {
    let text = String::from_utf8_lossy(message);
    let mut words = text.trim().split(',').map(|word| word.parse().unwrap_or_default());
    [(); 3].map(|()| words.next().unwrap_or_default())
}

fn status(code: u32) -> Status {
    Status::new(Code::from_i32(i32::try_from(code).unwrap_or_default()), "as asked")
}

async fn answer(
    method: &str,
    mut requests: Streaming<Vec<u8>>,
) -> Result<Response<ReceiverStream<Result<Vec<u8>, Status>>>, Status> {
    let (answers, stream) = channel(16);
    let mut response = Response::new(ReceiverStream::new(stream));
    match method {
        "Upload" => drop(tokio::spawn(upload(requests, answers))),
        "Chat" => drop(tokio::spawn(chat(requests, answers))),
        "Get" | "Fail" | "Slow" | "Big" | "Watch" => {
            let message = requests.message().await?.unwrap_or_default();
            let asked = numbers(&message);
            match method {
                "Fail" => return Err(status(asked[0])),
                "Slow" => tokio::time::sleep(Duration::from_millis(asked[0].into())).await,
                "Big" => {
                    let receipt = "r".repeat(asked[0] as usize);
                    let receipt = receipt.parse().map_err(|_| Status::internal("a header"))?;
                    response.metadata_mut().insert("x-receipt", receipt);
                }
                _ => {}
            }
            match method {
                "Watch" => drop(tokio::spawn(watch(asked, answers))),
                _ => drop(tokio::spawn(once(message, answers))),
            }
        }
        _ => return Err(Status::unimplemented("no such method")),
    }
    Ok(response)
}

async fn once(message: Vec<u8>, answers: Answers) {
    // The client may have gone.
    drop(answers.send(Ok(message)).await);
}

async fn watch([count, pause, code]: [u32; 3], answers: Answers) {
    for number in 0..count {
        if answers.send(Ok(number.to_string().into_bytes())).await.is_err() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(pause.into())).await;
    }
    match code {
        0 => {}
        99 => answers.closed().await,
        code => drop(answers.send(Err(status(code))).await),
    }
}

async fn upload(mut requests: Streaming<Vec<u8>>, answers: Answers) {
    let mut count = 0_u32;
    while let Ok(Some(_)) = requests.message().await {
        count += 1;
    }
    drop(answers.send(Ok(count.to_string().into_bytes())).await);
}

async fn chat(mut requests: Streaming<Vec<u8>>, answers: Answers) {
    while let Ok(Some(message)) = requests.message().await {
        if answers.send(Ok(message)).await.is_err() {
            return;
        }
    }
}

#[tokio::main(worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let port = std::env::args().nth(1).unwrap_or_default();
    println!("{port}");
    let mut server = Server::builder().http2_max_header_list_size(400_000);
    server.add_service(Cart::default()).serve(format!("0.0.0.0:{port}").parse()?).await?;
    Ok(())
}
