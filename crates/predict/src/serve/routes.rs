//! Which path answers what.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use cxr::output_names;
use model::{Model, Question};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use crate::serve::answer::{NOTICE, answer, thresholds};
use crate::serve::failure::Failure;
use crate::serve::limits::Limits;
use crate::serve::{guard, page, upload};

/// The description of the API; a test holds it against what is answered.
const OPENAPI: &str = include_str!("openapi.json");

/// Bytes are counted in these.
const KIB: usize = 1 << 10;

/// What all requests share.
pub(super) struct Service {
    model: Model,
    limits: Limits,
    bound: SocketAddr,
    stopped: watch::Receiver<bool>,
    /// Images that are here, looked at or waiting.
    places: Arc<Semaphore>,
    /// KiB of bodies that may still come.
    bodies: Arc<Semaphore>,
    /// Images that may be looked at.
    turns: Arc<Semaphore>,
}

impl Service {
    pub(super) fn new(model: Model, limits: Limits, bound: SocketAddr, stopped: watch::Receiver<bool>) -> Service {
        let semaphore = |permits| Arc::new(Semaphore::new(permits));
        Service {
            places: semaphore(limits.parallel + Limits::WAITING),
            bodies: semaphore(Limits::BODIES * limits.body_bytes.div_ceil(KIB)),
            turns: semaphore(limits.parallel),
            model,
            limits,
            bound,
            stopped,
        }
    }

    /// A place for an image whose body has `announced` bytes, or any number of them.
    fn admit(&self, announced: Option<usize>) -> Result<[OwnedSemaphorePermit; 2], Failure> {
        let size = announced.unwrap_or(self.limits.body_bytes).div_ceil(KIB);
        let place = Arc::clone(&self.places).try_acquire_owned();
        let body = Arc::clone(&self.bodies).try_acquire_many_owned(u32::try_from(size).unwrap_or(u32::MAX));
        match (place, body) {
            (Ok(place), Ok(body)) => Ok([place, body]),
            _ => Err(Failure::busy()),
        }
    }
}

/// All routes, behind the guard.
pub(super) fn router(service: Service) -> Router {
    let service = Arc::new(service);
    let page = Arc::new(page::Page::new());
    Router::new()
        .route("/", get(move || async move { page.respond() }))
        .route("/healthz", get(health))
        .route("/openapi.json", get(|| async { ([(header::CONTENT_TYPE, JSON)], OPENAPI) }))
        .route("/v1/model", get(about))
        .route("/v1/predict", post(predict))
        .fallback(|| async { Failure::new(StatusCode::NOT_FOUND, "not_found", "no such path; /openapi.json has all") })
        .method_not_allowed_fallback(|| async {
            let message = "another method is expected; /openapi.json has all";
            Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method", message)
        })
        .layer(middleware::from_fn_with_state(Arc::clone(&service), guarded))
        .with_state(service)
}

const JSON: &str = "application/json";

/// Asks who is there, and adds what every answer says to a browser.
async fn guarded(State(service): State<Arc<Service>>, request: Request, next: Next) -> Response {
    let checked = guard::check(service.bound, request.method(), request.uri(), request.headers());
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(failure) => failure.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    let nothing = HeaderValue::from_static("default-src 'none'; frame-ancestors 'none'");
    headers.entry(header::CONTENT_SECURITY_POLICY).or_insert(nothing);
    response
}

fn sent(value: &Value) -> Response {
    ([(header::CONTENT_TYPE, JSON)], value.to_string()).into_response()
}

async fn health(State(service): State<Arc<Service>>) -> Response {
    sent(&json!({"status": "ok", "model": service.model.digest}))
}

async fn about(State(service): State<Arc<Service>>) -> Response {
    let model = &service.model;
    let network = &model.network;
    sent(&json!({
        "model": model.digest,
        "backbones": network.branches().map(|branch| branch.backbone().name()),
        "findings": output_names(),
        "thresholds": thresholds(model),
        "criterion": model.decision.criterion,
        "temperature": model.decision.temperature,
        "preprocessing": network.preparation(),
        "attention": network.attention(),
        "gate": model.gate,
        "notice": NOTICE,
    }))
}

/// The query of `/v1/predict`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    #[serde(default)]
    no_gate: bool,
    abstain: Option<f64>,
    #[serde(default)]
    pictures: bool,
}

async fn predict(
    State(service): State<Arc<Service>>,
    asked: Result<Query<Asked>, QueryRejection>,
    request: Request,
) -> Result<Response, Failure> {
    let Query(asked) = asked.map_err(|rejection| Failure::bad("query", rejection.body_text()))?;
    if asked.abstain.is_some_and(|rate| !(rate > 0.0 && rate < 1.0)) {
        return Err(Failure::bad("query", "abstain is expected to be above 0, below 1"));
    }
    let question = Question { no_gate: asked.no_gate, error_rate: asked.abstain };
    let place = service.admit(upload::announced(request.headers(), &service.limits)?)?;
    let upload = upload::read(request, &service.limits, service.stopped.clone()).await?;
    let turn = Arc::clone(&service.turns).acquire_owned().await.map_err(|closed| Failure::internal(&closed))?;
    // The image keeps its place until it was looked at, even where its client went away.
    let look = move || {
        let _held = (place, turn);
        answer(&service.model, &upload, service.limits.pixels, question, asked.pictures).map(|value| value.to_string())
    };
    let text = tokio::task::spawn_blocking(look).await.map_err(|panicked| Failure::internal(&panicked))??;
    Ok(([(header::CONTENT_TYPE, JSON)], text).into_response())
}
