//! Connections: how many, how long, and how they end.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::serve::limits::Limits;

/// After the system refused a connection.
const RECOVERY: Duration = Duration::from_millis(100);

/// How long bytes are thrown away that a client sends after it was answered.
const LINGER: Duration = Duration::from_secs(2);

/// Answers clients until `stopped`, and says whether all were answered that had asked by then.
pub(super) async fn accept(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    mut stopped: watch::Receiver<bool>,
) -> bool {
    let places = Arc::new(Semaphore::new(Limits::CONNECTIONS));
    let mut open = JoinSet::new();
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await;
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            next = next => next,
            _ = stopped.wait_for(|&stopped| stopped) => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, stopped) = (router.clone(), stopped.clone());
                open.spawn(async move {
                    let _place = place;
                    connection(stream, router, limits, stopped).await;
                });
            }
            Err(error) => {
                stage::warn!("a connection was not accepted: {error}");
                sleep(RECOVERY).await;
            }
        }
        while open.try_join_next().is_some() {}
    }
    drop(listener);
    timeout(Limits::FAREWELL, async { while open.join_next().await.is_some() {} }).await.is_ok()
}

/// Answers the requests of one connection, one after the other.
async fn connection(stream: TcpStream, router: Router, limits: Limits, mut stopped: watch::Receiver<bool>) {
    let _ = stream.set_nodelay(true);
    let router = TowerToHyperService::new(router);
    let service = service_fn(move |request| Box::pin(router.call(request)));
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.patience)
        .max_buf_size(Limits::HEADER_BYTES)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        _ = &mut connection => true,
        _ = stopped.wait_for(|&stopped| stopped) => false,
        () = sleep(Limits::CONNECTION_AGE) => false,
    };
    if !ended {
        Pin::new(&mut connection).graceful_shutdown();
        // Until the request at hand is answered, and no longer than a client may take for all of it.
        let _ = timeout(limits.patience + Limits::FAREWELL, &mut connection).await;
    }
    linger(connection.into_parts().io.into_inner(), stopped).await;
}

/// Takes leave. A client that still sends when its connection is closed is told that it was reset, and may never see the
/// answer that it was too much; so what it sends is thrown away for a moment.
async fn linger(mut stream: TcpStream, mut stopped: watch::Receiver<bool>) {
    let mut waste = vec![0; 1 << 16];
    let drain = async {
        let mut open = stream.shutdown().await.is_ok();
        while open {
            open = stream.read(&mut waste).await.is_ok_and(|count| count > 0);
        }
    };
    tokio::select! {
        _ = timeout(LINGER, drain) => {}
        _ = stopped.wait_for(|&stopped| stopped) => {}
    }
}
