//! seqgate: a transparent sidecar in front of an OpenClaw gateway.
//!
//! The map of the house. Layers are one-way: a file uses only what stands above it in this list.
//!
//! 0. Pure, without tokio, clock, log or metrics: [`wire`] (frame heads), [`json`] and [`event`] (what a message
//!    says), [`stamp`] and [`filter`] (the rule table), [`distinct`] (how many different runs), [`sieve`] (bytes in, steps
//!    out), [`guard`] (which clients may start runs).
//! 1. Observing: [`roster`], [`metrics`], [`journal`], [`telemetry`], [`drain`].
//! 2. The data path: [`credentials`], [`socket`], [`relay`].
//! 3. Doors: [`upstream`], [`front`], [`status`], [`admin`].
//! 4. Assembly: [`config`], [`app`], [`supervisor`], [`healthcheck`], [`demo`], [`replay`], [`cli`].

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod credentials;
pub mod demo;
pub mod distinct;
pub mod drain;
pub mod event;
pub mod filter;
pub mod front;
pub mod guard;
pub mod healthcheck;
pub mod journal;
pub mod json;
pub mod metrics;
pub mod relay;
pub mod replay;
pub mod roster;
pub mod sieve;
pub mod socket;
pub mod stamp;
pub mod status;
pub mod supervisor;
pub mod telemetry;
pub mod upstream;
pub mod wire;
