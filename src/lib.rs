//! seqgate
pub mod distinct;
pub mod event;
pub mod filter;
pub mod json;
pub mod sieve;
pub mod wire;
