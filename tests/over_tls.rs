//! What is promised without TLS, with TLS: these tests once more, with seqgate speaking it on both sides (or on one, see
//! `tests/net/tls.rs`).

#![allow(clippy::duplicate_mod, reason = "each of these files stands for itself, too")]

#[path = "bounds.rs"]
mod bounds;
#[path = "early_answers.rs"]
mod early_answers;
#[path = "headers.rs"]
mod headers;
#[path = "http.rs"]
mod http;
#[path = "http_1_0.rs"]
mod http_1_0;
#[path = "http_answers.rs"]
mod http_answers;
#[path = "http_ends.rs"]
mod http_ends;
#[path = "http_refusals.rs"]
mod http_refusals;
#[path = "life_cycle.rs"]
mod life_cycle;
#[path = "relay_bytes.rs"]
mod relay_bytes;
#[path = "relay_ends.rs"]
mod relay_ends;
#[path = "transparency.rs"]
mod transparency;
