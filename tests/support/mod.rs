//! What the tests share.
#![allow(dead_code, reason = "every test crate uses its own part of it")]

pub(crate) mod captures;
pub(crate) mod events;
pub(crate) mod frames;
pub(crate) mod guard;
pub(crate) mod naive_json;
pub(crate) mod naive_table;
pub(crate) mod pump;
pub(crate) mod readers;
pub(crate) mod requests;
