//! Requests over plain HTTP that start runs, where the run guard is on.

use std::net::IpAddr;
use std::sync::Arc;

use hyper::header::{CONTENT_TYPE, RETRY_AFTER};
use hyper::http::request::Parts;
use hyper::{Method, Response, StatusCode};
use memchr::memmem;

use super::answer::Own;
use super::{Front, Guest, target};
use crate::guard::gate::Tally;
use crate::guard::over::Over;
use crate::guard::start::Start;
use crate::guard::{Admitted, Client, Guard, Refusal};
use crate::metrics::Rejection;

/// The gateway's paths that start a run. Which tool is called stands in the body: `sessions_spawn` and `sessions_send`,
/// which old gateways (2026.1.30) serve to everybody, start runs.
const PATHS: [&str; 3] = ["/v1/chat/completions", "/v1/responses", "/tools/invoke"];
/// And all below this one.
const HOOKS: &str = "/hooks/";
/// Behind this and one name more, newer gateways (2026.9.6) serve any of their paths.
const SCOPED: &str = "/__openclaw__/cap/";

/// A run that goes on until its request has been answered.
pub(super) struct Run {
    guard: Arc<Guard>,
    client: Client,
    request: u64,
}

impl Run {
    /// The gateway has begun to answer: whoever it does not let in spends nothing of an address.
    pub(super) fn answered<B>(&self, response: &Response<B>) {
        if started_nothing(response) {
            self.guard.give_back(self.client);
        }
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        self.guard.over(self.client, &Over::Answer { request: self.request, last: true });
    }
}

/// Lets a request go on, or says why not; if it starts a run, that goes on until what comes back is dropped.
pub(super) fn admit(
    front: &Front,
    guest: &Guest,
    parts: &Parts,
    address: IpAddr,
) -> Result<Option<Run>, Own> {
    let Some(protection) = &front.relay.protection else { return Ok(None) };
    if parts.method != Method::POST || !may_start(target::path(&parts.uri, &parts.extensions)) {
        return Ok(None);
    }
    let guard = Arc::clone(&protection.guard);
    let client = protection.scope.client(address, guest.number);
    // Numbers of connections are never hashes of requests, and on a connection one request follows the other.
    let request = guest.number;
    let start = Start { id: None, request: Some(request), key: None, certain: true };
    let outcome = guard.admit(client, &start, front.relay.now());
    let mut tally = Tally::default();
    let refusal = tally.count(outcome, front.relay.rules.mode);
    front.relay.metrics.guarded(&tally);
    match refusal {
        Some(refusal) => Err(too_many(refusal)),
        None => Ok((outcome == Ok(Admitted::New)).then(|| Run { guard, client, request })),
    }
}

/// Whether the gateway may take a path for one that starts a run. It resolves `.` and `..`, `%2e` like a dot and `\` like
/// a slash (WHATWG URL, section 4.4), and reads a name behind `//` as a host: a path with any of these may be any.
fn may_start(path: &[u8]) -> bool {
    let odd = ["//", "/.", "\\"].iter().any(|part| memmem::find(path, part.as_bytes()).is_some())
        || path.windows(3).any(|part| part.eq_ignore_ascii_case(b"%2e"));
    odd || path.starts_with(SCOPED.as_bytes())
        || std::str::from_utf8(path).is_ok_and(|path| PATHS.contains(&path.trim_end_matches('/')))
        || path.starts_with(HOOKS.as_bytes())
}

/// Whether the gateway has answered that it let nobody in, or that it does not serve this. Other errors of the client say
/// no such thing: newer gateways (2026.9.6) pass on the status with which a run's model was refused, in JSON.
fn started_nothing<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    let is_json =
        headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    match response.status() {
        StatusCode::UNAUTHORIZED => true,
        StatusCode::TOO_MANY_REQUESTS => headers.contains_key(RETRY_AFTER) || !is_json,
        status => status.is_client_error() && !is_json,
    }
}

fn too_many(refusal: Refusal) -> Own {
    let (what, retry_after) = match refusal {
        Refusal::LiveRuns { retry_after } => {
            ("too many runs at once (SEQGATE_GUARD_MAX_LIVE_RUNS)", retry_after)
        }
        Refusal::Rate { retry_after } => ("too many runs (SEQGATE_GUARD_RUNS_PER_MINUTE)", retry_after),
        // Not reached: such a request names no run.
        Refusal::RunId { .. } => ("the run id is too long (SEQGATE_GUARD_MAX_RUN_ID)", 0),
    };
    Own {
        status: StatusCode::TOO_MANY_REQUESTS,
        rejection: Rejection::Guard,
        message: what.to_owned(),
        retry_after: u32::try_from(retry_after.div_ceil(1000).max(1)).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_the_gateway_could_read_as_one_that_starts_a_run_is_one() {
        for path in [
            "/v1/chat/completions",
            "/v1/chat/completions/",
            "/v1/responses",
            "/tools/invoke",
            "/hooks/agent",
            "/hooks/a/b",
            "/x/../v1/responses",
            "/v1/./responses",
            "/v1/%2E/responses",
            "/x/.%2e/v1/responses",
            "//host/v1/responses",
            "/v1\\responses",
            "/__openclaw__/cap/x/v1/responses",
            "/__openclaw__/cap/x/hooks/agent",
        ] {
            assert!(may_start(path.as_bytes()), "{path}");
        }
        for path in ["/", "/v1/models", "/hooks", "/healthz", "/v1/responses2", "/assets/a.b.js", "/x/%2f"] {
            assert!(!may_start(path.as_bytes()), "{path}");
        }
    }
}
