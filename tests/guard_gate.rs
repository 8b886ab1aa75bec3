//! A client's stream goes on as it came, but for the whole messages that were refused; however it is cut.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use std::collections::HashSet;

use proptest::prelude::*;
use seqgate::guard::Limits;
use seqgate::sieve::Mode;
use support::frames::{BINARY, CLOSE, CONTINUATION, FIN, Form, PING, PONG, RSV1, TEXT, frame_as, head};
use support::guard::{
    Turnstile, chat, cut, guard, health, hear, live_runs, masked, rate, said, stream, through,
};
use support::requests::{Meaning, generalized_utf8, meaning};

const LIMIT: usize = 64 * 1024;
const ONE_CHUNK: &[usize] = &[usize::MAX];
const BYTE_BY_BYTE: &[usize] = &[1];

/// The naive twin of a guard that admits so many starts and no more.
struct Budget {
    left: usize,
    max_run_id: usize,
    keys: HashSet<(String, Vec<u8>)>,
}

impl Budget {
    fn wants(&mut self, message: &[u8]) -> bool {
        let known = match meaning(message) {
            Meaning::Other => return true,
            Meaning::Start { method, key: Some(key), .. } => {
                let key = generalized_utf8(&key);
                if key.len() > self.max_run_id {
                    return false;
                }
                Some((method, key))
            }
            Meaning::Start { .. } | Meaning::Unreadable => None,
        };
        if known.as_ref().is_some_and(|known| self.keys.contains(known)) {
            return true;
        }
        if self.left == 0 {
            return false;
        }
        self.left -= 1;
        self.keys.extend(known);
        true
    }
}

fn limits(burst: usize) -> Limits {
    Limits { max_run_id: 8, ..rate(burst as u32, 1) }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_goes_on_is_what_a_naive_reader_of_whole_messages_would_let_go_on(
        script in prop::collection::vec(any::<u8>(), 0..900),
        burst in 1..4usize,
        tail in prop::collection::vec(any::<u8>(), 0..4),
    ) {
        let bytes = [stream(&script), tail].concat();
        let mut budget = Budget { left: burst, max_run_id: 8, keys: HashSet::new() };
        let heard = hear(&bytes, |message| budget.wants(message));
        let pump = through(limits(burst), LIMIT, &bytes, ONE_CHUNK);
        prop_assert_eq!([&pump.out[..], &pump.window].concat(), heard.wanted);
        prop_assert!(!pump.gate.is_broken());
    }

    #[test]
    fn how_the_stream_is_cut_does_not_matter(
        script in prop::collection::vec(any::<u8>(), 0..700),
        sizes in prop::collection::vec(1..60usize, 1..10),
        limit in prop_oneof![Just(LIMIT), 0..200usize],
    ) {
        let bytes = stream(&script);
        let whole = through(limits(2), limit, &bytes, ONE_CHUNK);
        for sizes in [&sizes[..], BYTE_BY_BYTE] {
            let cut = through(limits(2), limit, &bytes, sizes);
            prop_assert_eq!(&cut.out, &whole.out);
            prop_assert_eq!(&cut.answers, &whole.answers);
            prop_assert_eq!(&cut.window, &whole.window);
            prop_assert_eq!(&cut.tally, &whole.tally);
            prop_assert_eq!(cut.gate.close(), whole.gate.close());
            prop_assert_eq!(cut.gate.at_boundary(), whole.gate.at_boundary());
            prop_assert_eq!(cut.gate.is_broken(), whole.gate.is_broken());
        }
    }

    #[test]
    fn an_observer_leaves_every_byte_and_counts_what_a_guard_would_have_refused(
        script in prop::collection::vec(any::<u8>(), 0..700),
        limit in prop_oneof![Just(LIMIT), 0..200usize],
    ) {
        let bytes = stream(&script);
        let guarded = through(limits(1), limit, &bytes, ONE_CHUNK);
        let mut observer = Turnstile::new(&guard(limits(1)), Mode::Observe, limit);
        observer.feed(&bytes);
        prop_assert_eq!([&observer.out[..], &observer.window].concat(), bytes);
        prop_assert!(observer.answers.is_empty() && !observer.gate.is_broken());
        prop_assert_eq!(observer.tally.refused, [0; 3]);
        if guarded.tally.deceits == 0 {
            prop_assert_eq!(observer.tally.would_refuse, guarded.tally.refused);
            prop_assert_eq!(observer.tally.admitted, guarded.tally.admitted);
        }
    }

    #[test]
    fn a_frame_of_our_own_may_follow_only_where_frames_end(
        script in prop::collection::vec(any::<u8>(), 0..500),
        sizes in prop::collection::vec(1..60usize, 1..10),
        limit in prop_oneof![Just(LIMIT), 0..200usize],
    ) {
        let pump = through(limits(1), limit, &stream(&script), &sizes);
        for (passed, boundary) in pump.boundaries {
            if boundary {
                let (_, rest) = support::frames::frames(&pump.out[..passed]);
                prop_assert_eq!(rest, 0);
            }
        }
    }
}

#[test]
fn a_refused_message_is_left_out_in_all_its_frames_and_control_frames_stay_in_order() {
    let (ping, pong) = (masked(FIN | PING, "?"), masked(FIN | PONG, "!"));
    let refused = cut(TEXT, chat("2", "b"), &[3, 3, 50]);
    let between = [&refused[0][..], &ping, &refused[1], &pong, &refused[2], &ping, &refused[3]].concat();
    let bytes = [said(chat("1", "a")), between, masked(FIN | BINARY, health("3"))].concat();
    let expected =
        [&said(chat("1", "a"))[..], &ping, &pong, &ping, &masked(FIN | BINARY, health("3"))].concat();
    for sizes in [ONE_CHUNK, BYTE_BY_BYTE] {
        let pump = through(rate(1, 1), LIMIT, &bytes, sizes);
        assert_eq!(pump.out, expected);
        assert_eq!((pump.tally.admitted, pump.tally.refused), (1, [1, 0, 0]));
    }
}

#[test]
fn every_form_of_a_frame_that_is_admitted_stays_as_it_was() {
    let forms = [Form::Minimal, Form::Two, Form::Eight];
    let keys = [[0; 4], [1, 2, 3, 4], [0xff; 4]];
    let frames =
        forms.iter().zip(keys).map(|(form, key)| frame_as(FIN | TEXT, *form, Some(key), health("1")));
    let bytes: Vec<u8> = frames.flatten().collect();
    assert_eq!(through(rate(1, 1), LIMIT, &bytes, BYTE_BY_BYTE).out, bytes);
}

#[test]
fn what_no_server_takes_for_frames_passes_with_all_that_is_behind_it() {
    let start = said(chat("1", "a"));
    for broken in [
        frame_as(FIN | TEXT, Form::Minimal, None, chat("1", "a")),
        masked(FIN | RSV1 | TEXT, chat("1", "a")),
        masked(FIN | 3, chat("1", "a")),
        masked(FIN | CONTINUATION, chat("1", "a")),
        [masked(TEXT, "{"), masked(TEXT, chat("1", "a"))].concat(),
        masked(PING, "cut"),
        masked(FIN | PING, [0; 126]),
        head(FIN | TEXT, Form::Eight, true, 1 << 63),
    ] {
        let bytes = [&broken[..], &start, &start].concat();
        let pump = through(rate(1, 1), LIMIT, &bytes, ONE_CHUNK);
        assert_eq!(pump.out, bytes);
        assert_eq!(pump.tally.admitted, 0);
        assert!(!pump.gate.at_boundary());
    }
}

#[test]
fn a_close_passes_with_what_is_behind_it_and_its_code_is_known() {
    for (payload, code) in [(&b"\x03\xe8bye"[..], Some(1000)), (b"", None), (b"\x03", None)] {
        let bytes = [said(health("1")), masked(FIN | CLOSE, payload), said("behind")].concat();
        for sizes in [ONE_CHUNK, BYTE_BY_BYTE] {
            let pump = through(rate(1, 1), LIMIT, &bytes, sizes);
            assert_eq!(pump.out, bytes);
            assert_eq!(pump.gate.close(), Some(code));
            assert!(!pump.gate.at_boundary());
        }
    }
    assert_eq!(through(rate(1, 1), LIMIT, &said(health("1")), ONE_CHUNK).gate.close(), None);
}

#[test]
fn a_close_inside_a_message_takes_the_beginning_with_it() {
    let first = masked(TEXT, &chat("1", "a")[..20]);
    let bytes = [&first[..], &masked(FIN | CLOSE, [3, 232])].concat();
    let pump = through(rate(1, 1), LIMIT, &bytes, BYTE_BY_BYTE);
    assert_eq!(pump.out, bytes);
    assert_eq!(pump.gate.close(), Some(Some(1000)));
}

#[test]
fn a_repeated_key_goes_on_and_counts_as_such() {
    let bytes = [said(chat("1", "a")), said(chat("2", "a")), said(chat("3", "b"))].concat();
    let pump = through(rate(1, 1), LIMIT, &bytes, ONE_CHUNK);
    assert_eq!(pump.out, [said(chat("1", "a")), said(chat("2", "a"))].concat());
    assert_eq!((pump.tally.admitted, pump.tally.repeated, pump.tally.refused), (1, 1, [1, 0, 0]));
}

#[test]
fn two_connections_of_one_client_share_what_it_may_do() {
    let guard = guard(live_runs(1));
    let mut one = Turnstile::new(&guard, Mode::Enforce, LIMIT);
    let mut other = Turnstile::new(&guard, Mode::Enforce, LIMIT);
    one.feed(&said(chat("1", "a")));
    other.feed(&said(chat("1", "b")));
    assert_eq!((one.tally.admitted, other.tally.refused), (1, [0, 1, 0]));
}
