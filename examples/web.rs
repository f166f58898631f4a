//! A sign-up service that answers when the mail it owes is durable, and a worker that sends it.
//!
//!     cargo run --example web -- serve 127.0.0.1:8080 QUEUE OUTBOX      both in one process
//!     cargo run --example web -- accept 127.0.0.1:8080 QUEUE            the service alone
//!     cargo run --example web -- worker QUEUE OUTBOX                    the worker alone
//!     curl -d ann@example.org http://127.0.0.1:8080/signup
//!
//! A mail is a file in the outbox, named by the message's ID: should a message come again after a crash, its
//! mail takes the place of the one before. So each is there once, whatever is killed when.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::{env, fs};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use backlog::{Consumer, Delivery, Queue};
use tokio::net::TcpListener;

/// So many mails are sent at the same time.
const WORKERS: usize = 4;

type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

#[tokio::main]
async fn main() -> Outcome {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (address, folder, outbox) = match arguments[..] {
        ["serve", address, folder, outbox] => (Some(address), folder, Some(outbox)),
        ["accept", address, folder] => (Some(address), folder, None),
        ["worker", folder, outbox] => (None, folder, Some(outbox)),
        _ => return Err("serve ADDRESS QUEUE OUTBOX, accept ADDRESS QUEUE, or worker QUEUE OUTBOX".into()),
    };
    let queue = Queue::open(folder)?;
    let mut workers = Vec::new();
    if let Some(outbox) = outbox {
        fs::create_dir_all(outbox)?;
        for _ in 0..WORKERS {
            workers.push(tokio::spawn(work(queue.consumer()?, outbox.into())));
        }
    }
    match address {
        Some(address) => serve(queue.clone(), address).await?,
        None => tokio::signal::ctrl_c().await?,
    }
    // Mails that are not sent yet go back uncounted, and the workers' streams end.
    tokio::task::spawn_blocking(move || queue.close()).await??;
    for worker in workers {
        worker.await??;
    }
    Ok(())
}

async fn serve(queue: Queue, address: &str) -> Outcome {
    let service = Router::new().route("/signup", post(sign_up)).with_state(queue);
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let stop = async {
        // Without signals it serves until it is killed.
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    axum::serve(listener, service).with_graceful_shutdown(stop).await?;
    Ok(())
}

/// Takes an address. Once the answer is out, a mail goes there, whatever happens to this process.
async fn sign_up(State(queue): State<Queue>, address: String) -> (StatusCode, String) {
    if address.len() > 254 || !address.contains('@') || address.contains(char::is_control) {
        return (StatusCode::BAD_REQUEST, "that is no address\n".into());
    }
    // Many requests share one sync: none of them holds a thread meanwhile.
    let pushed = async { queue.push_deferred(&address)?.await };
    match pushed.await {
        Ok(offset) => (StatusCode::ACCEPTED, format!("mail {offset} is on its way\n")),
        Err(error) if error.is_full() => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

/// Sends mails until the queue is closed.
async fn work(worker: Consumer, outbox: PathBuf) -> Outcome {
    loop {
        let job = match worker.recv_async().await {
            Ok(job) => job,
            Err(error) if error.is_closed() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let settled = match send(&job, &outbox).await {
            // Not waited for: acks share their syncs, and a mail that comes again does no harm.
            Ok(()) => job.ack_deferred().map(drop),
            Err(error) => job.nack(error),
        };
        match settled {
            Err(error) if !error.is_closed() => return Err(error.into()),
            _ => {}
        }
    }
}

/// Writes a mail into the outbox; a real one talks to a server here.
async fn send(job: &Delivery, outbox: &Path) -> std::io::Result<()> {
    let address = String::from_utf8_lossy(job.payload()).into_owned();
    let file = outbox.join(job.id());
    let mail = format!("To: {address}\nSubject: Welcome\n\nYou are in.\n");
    tokio::task::spawn_blocking(move || fs::write(file, mail)).await??;
    println!("sent {address}");
    Ok(())
}
