//! The seqgate program.

fn main() {}
