//! `predict serve`: a page for people and an API for programs, on this machine.
//!
//! [`listen`] takes an address, [`serve`] answers there until a signal asks to stop. A request goes through these files:
//! `connections` (open connections, slow clients, the stop), `guard` (who asks, from where), `routes`, `upload` (a body
//! becomes an image's bytes, within bounds), `answer` (the bytes become JSON), `failure` (what is said where that fails),
//! `page`. Nothing is written to disk, and no path of a request is ever opened.

mod answer;
mod connections;
mod failure;
mod guard;
mod limits;
mod page;
mod routes;
mod upload;

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use model::Model;
use tokio::sync::watch;

use crate::error::Error;

pub use limits::Limits;

/// Between two looks at whether a signal came.
const LOOK: Duration = Duration::from_millis(50);

/// Threads that read requests and write answers; the networks have others.
const WORKERS: usize = 2;

/// Takes an address; port 0 is any free one.
///
/// # Errors
/// [`Error::Listen`] where somebody else has it.
pub fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Answers until SIGINT or SIGTERM, after which what is being computed is still answered.
///
/// # Errors
/// [`Error::Interrupted`] where that took longer than some seconds; an address or a runtime that the system refuses.
pub fn serve(listener: TcpListener, model: Model, limits: Limits) -> Result<(), Error> {
    let _hold = stage::hold();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKERS)
        .max_blocking_threads(limits.parallel)
        .enable_io()
        .enable_time()
        .build()?;
    let finished = runtime.block_on(answer_all(listener, model, limits));
    // A network that still computes for nobody is not waited for.
    runtime.shutdown_background();
    if finished? { Ok(()) } else { Err(Error::Interrupted) }
}

async fn answer_all(listener: TcpListener, model: Model, limits: Limits) -> Result<bool, Error> {
    let address = listener.local_addr()?;
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let (stop, stopped) = watch::channel(false);
    tokio::spawn(async move {
        while !stage::interrupted() {
            tokio::time::sleep(LOOK).await;
        }
        stop.send_replace(true);
    });
    let router = routes::router(routes::Service::new(model, limits, address, stopped.clone()));
    stage::print(&format!("listening on http://{address}\n"))?;
    Ok(connections::accept(listener, router, limits, stopped).await)
}
