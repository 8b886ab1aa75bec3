//! Who has spent all starts nothing, whatever they send and however it is cut or given up; how it is cut changes nothing
//! else either; and of messages that can be held, those go on that a naive reader of whole messages would let go on.
#![no_main]

use libfuzzer_sys::fuzz_target;
use seqgate::guard::Limits;
use seqgate::sieve::Mode;
use support::guard::{Turnstile, chat, guard, hear, rate, said, stream, through};
use support::requests::{Meaning, meaning};

#[path = "../../tests/support/mod.rs"]
mod support;

/// No message of a fuzzer's is larger.
const ROOM: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    let Some((&[shape, limit, first, second], rest)) = input.split_first_chunk() else { return };
    // Half of the time frames are made of the bytes, else they are the frames.
    let bytes = if shape & 1 == 0 { stream(rest) } else { rest.to_vec() };
    let sizes = [usize::from(first) + 1, usize::from(second) + 1];
    let limit = usize::from(limit);

    let tight = || Limits { max_run_id: 8, ..rate(2, 1) };
    let whole = through(tight(), limit, &bytes, &[]);
    for sizes in [&[1][..], &sizes] {
        let cut = through(tight(), limit, &bytes, sizes);
        assert_eq!(cut.out, whole.out);
        assert_eq!(cut.answers, whole.answers);
        assert_eq!(cut.window, whole.window);
        assert_eq!(cut.tally, whole.tally);
        assert_eq!(cut.gate.close(), whole.gate.close());
        assert_eq!(cut.gate.at_boundary(), whole.gate.at_boundary());
        assert_eq!(cut.gate.is_broken(), whole.gate.is_broken());
    }

    let held = spent(ROOM, &bytes, &sizes, false);
    let heard = hear(&bytes, |message| meaning(message) == Meaning::Other || is_known(message));
    assert_eq!([&held.out[..], &held.window].concat(), heard.wanted);

    let hasty = spent(limit, &bytes, &sizes, shape & 2 == 0);
    for message in hear(&hasty.out, |_| true).messages {
        assert!(!matches!(meaning(&message), Meaning::Start { .. }) || is_known(&message));
    }
});

/// Bytes of a client that has spent all it had.
fn spent(limit: usize, bytes: &[u8], sizes: &[usize], impatient: bool) -> Turnstile {
    let mut pump = Turnstile::new(&guard(rate(1, 1)), Mode::Enforce, limit);
    pump.feed(&said(chat("first", "first")));
    pump.out.clear();
    let mut sizes = sizes.iter().cycle();
    let mut rest = bytes;
    while let Some(size) = sizes.next()
        && !rest.is_empty()
    {
        let (chunk, behind) = rest.split_at((*size).min(rest.len()));
        pump.feed(chunk);
        if impatient {
            pump.give_up();
        }
        rest = behind;
    }
    pump
}

/// It repeats the one start that was admitted.
fn is_known(message: &[u8]) -> bool {
    let first: Vec<u16> = "first".encode_utf16().collect();
    matches!(meaning(message), Meaning::Start { method, key: Some(key), .. } if method == "chat.send" && key == first)
}
