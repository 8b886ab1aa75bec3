//! What is known of clients: their recent keys, the runs that go on, and how little room it takes.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use seqgate::guard::over::Over;
use seqgate::guard::start::{self, Start};
use seqgate::guard::{Admitted, Client, Guard, Limits, Refusal};
use seqgate::json::Str;
use support::guard::{CONNECTION, chat, client, guard, live_runs, rate, secret};

const NEW: Result<Admitted, Refusal> = Ok(Admitted::New);
const REPEATED: Result<Admitted, Refusal> = Ok(Admitted::Repeated);
const FULL: Result<Admitted, Refusal> = Err(Refusal::LiveRuns { retry_after: 5_000 });
const FIVE_MINUTES: u64 = 300_000;

/// A start by `chat.send`, read as the gate reads it.
fn start(key: &str) -> Start {
    read(&chat("1", key))
}

fn read(request: &str) -> Start {
    start::read(request.as_bytes(), &secret(), CONNECTION).unwrap()
}

fn keyless(id: &str) -> Start {
    read(&format!(
        r#"{{"type":"req","id":"{id}","method":"node.event","params":{{"event":"agent.request"}}}}"#
    ))
}

fn run(key: &str) -> Over {
    Over::Run(secret().run(Str::unescaped(key.as_bytes())))
}

fn answer(id: &str, last: bool) -> Over {
    Over::Answer { request: secret().request(CONNECTION, Str::unescaped(id.as_bytes())), last }
}

fn other() -> Client {
    Client::connection(CONNECTION + 1)
}

// Recent keys.

#[test]
fn a_key_counts_once_in_five_minutes() {
    let guard = guard(rate(2, 1));
    assert_eq!(guard.admit(client(), &start("k"), 0), NEW);
    for now in [0, 1, FIVE_MINUTES - 1] {
        assert_eq!(guard.admit(client(), &start("k"), now), REPEATED, "at {now}");
    }
    assert_eq!(guard.admit(client(), &start("k"), FIVE_MINUTES), NEW);
}

#[test]
fn a_key_that_is_repeated_without_end_counts_again() {
    let guard = guard(rate(2, 1));
    let admitted = [NEW, REPEATED];
    for (round, expected) in [1, 16, 1, 16].into_iter().enumerate() {
        for _ in 0..expected {
            assert_eq!(guard.admit(client(), &start("k"), 0), admitted[round % 2]);
        }
    }
    assert!(matches!(guard.admit(client(), &start("k"), 0), Err(Refusal::Rate { .. })));
}

#[test]
fn what_is_given_back_can_be_spent_again_and_no_more() {
    let guard = guard(rate(1, 1));
    for _ in 0..3 {
        assert_eq!(guard.admit(client(), &keyless("1"), 7), NEW);
        guard.give_back(client());
    }
    guard.give_back(client());
    assert_eq!(guard.admit(client(), &keyless("1"), 7), NEW);
    assert!(matches!(guard.admit(client(), &keyless("1"), 7), Err(Refusal::Rate { .. })));
}

#[test]
fn a_key_is_known_again_however_it_is_written() {
    let guard = guard(rate(1, 1));
    assert_eq!(guard.admit(client(), &start("key"), 0), NEW);
    assert_eq!(guard.admit(client(), &start(r"\u006b\u0065y"), 0), REPEATED);
}

#[test]
fn a_key_of_another_client_is_new() {
    let guard = guard(rate(1, 1));
    assert_eq!(guard.admit(client(), &start("k"), 0), NEW);
    assert_eq!(guard.admit(other(), &start("k"), 0), NEW);
}

#[test]
fn a_key_under_another_method_is_new_for_the_gateway_starts_another_run() {
    let guard = guard(rate(4, 1));
    for method in ["agent", "chat.send", "sessions.send", "sessions.steer"] {
        let request = chat("1", "k").replace("chat.send", method);
        assert_eq!(guard.admit(client(), &read(&request), 0), NEW, "{method}");
        assert_eq!(guard.admit(client(), &read(&request), 0), REPEATED, "{method}");
    }
}

#[test]
fn the_key_of_a_refused_start_was_never_used() {
    let guard = guard(rate(1, 60));
    assert_eq!(guard.admit(client(), &start("a"), 0), NEW);
    let refused = Err(Refusal::Rate { retry_after: 1000 });
    assert_eq!(guard.admit(client(), &start("b"), 0), refused);
    assert_eq!(guard.admit(client(), &start("b"), 0), refused);
    assert_eq!(guard.admit(client(), &start("b"), 1000), NEW);
    assert_eq!(guard.admit(client(), &start("b"), 1000), REPEATED);
}

#[test]
fn the_last_64_keys_are_known_again() {
    let guard = guard(rate(1000, 1));
    for n in 0..=64 {
        assert_eq!(guard.admit(client(), &start(&format!("k{n}")), 0), NEW);
    }
    for n in 1..=64 {
        assert_eq!(guard.admit(client(), &start(&format!("k{n}")), 0), REPEATED);
    }
    assert_eq!(guard.admit(client(), &start("k0"), 0), NEW);
}

#[test]
fn a_run_id_may_be_as_long_as_the_limit_and_no_longer() {
    let guard = guard(rate(9, 9));
    let refused = Err(Refusal::RunId { limit: 64 });
    assert_eq!(guard.admit(client(), &start(&"x".repeat(64)), 0), NEW);
    assert_eq!(guard.admit(client(), &start(&"x".repeat(65)), 0), refused);
    // Counted in UTF-8, whatever the escapes.
    assert_eq!(guard.admit(client(), &start(&r"\u0061".repeat(64)), 0), NEW);
    assert_eq!(guard.admit(client(), &start(&r"\u00e9".repeat(33)), 0), refused);
    assert_eq!(guard.admit(client(), &start(&"é".repeat(33)), 0), refused);
    assert_eq!(guard.clients(0), 1);
}

// Live runs.

#[test]
fn no_more_runs_go_on_than_the_limit_and_an_end_makes_room() {
    let guard = guard(live_runs(2));
    assert_eq!(guard.admit(client(), &start("a"), 0), NEW);
    assert_eq!(guard.admit(client(), &start("b"), 0), NEW);
    assert_eq!(guard.admit(client(), &start("c"), 0), FULL);
    assert_eq!(guard.admit(client(), &start("a"), 0), REPEATED);
    assert_eq!(guard.admit(other(), &start("c"), 0), NEW);
    guard.over(other(), &run("a"));
    guard.over(client(), &run("c"));
    assert_eq!(guard.admit(client(), &start("c"), 0), FULL);
    guard.over(client(), &run("a"));
    assert_eq!(guard.admit(client(), &start("c"), 0), NEW);
    assert_eq!(guard.admit(client(), &start("d"), 0), FULL);
}

#[test]
fn a_run_with_a_key_outlives_answers_that_are_not_the_last() {
    let guard = guard(live_runs(1));
    assert_eq!(guard.admit(client(), &start("a"), 0), NEW);
    guard.over(client(), &answer("1", false));
    guard.over(client(), &answer("2", true));
    assert_eq!(guard.admit(client(), &start("b"), 0), FULL);
    guard.over(client(), &answer("1", true));
    assert_eq!(guard.admit(client(), &start("b"), 0), NEW);
}

#[test]
fn a_run_without_a_key_lasts_until_its_request_is_answered() {
    let guard = guard(live_runs(1));
    assert_eq!(guard.admit(client(), &keyless("7"), 0), NEW);
    assert_eq!(guard.admit(client(), &keyless("7"), 0), FULL);
    guard.over(client(), &answer("8", true));
    assert_eq!(guard.admit(client(), &keyless("8"), 0), FULL);
    guard.over(client(), &answer("7", false));
    assert_eq!(guard.admit(client(), &keyless("8"), 0), NEW);
}

#[test]
fn a_run_whose_end_nobody_saw_expires() {
    let guard = guard(Limits { live_run_ttl: 1000, ..live_runs(1) });
    assert_eq!(guard.admit(client(), &start("a"), 5), NEW);
    assert_eq!(guard.admit(client(), &start("b"), 1004), FULL);
    assert_eq!(guard.admit(client(), &start("b"), 1005), NEW);
}

#[test]
fn a_clock_that_went_back_holds_no_run_for_ever() {
    let guard = guard(Limits { live_run_ttl: 1000, ..live_runs(1) });
    assert_eq!(guard.admit(client(), &start("a"), u64::MAX), NEW);
    assert_eq!(guard.admit(client(), &start("b"), 10), FULL);
    assert_eq!(guard.admit(client(), &start("b"), 1010), NEW);
    assert_eq!(guard.admit(client(), &start("a"), 10 + FIVE_MINUTES), NEW);
}

// The table.

fn nth(n: u64) -> Client {
    Client::connection(n)
}

#[test]
fn clients_of_which_nothing_is_left_to_say_are_forgotten() {
    let guard = guard(rate(2, 60));
    guard.admit(nth(1), &keyless("1"), 0).unwrap();
    guard.admit(nth(2), &start("k"), 0).unwrap();
    assert_eq!((guard.clients(0), guard.clients(999), guard.clients(1000)), (2, 2, 1));
    assert_eq!((guard.clients(FIVE_MINUTES - 1), guard.clients(FIVE_MINUTES)), (1, 0));
    assert_eq!(guard.evicted(), 0);
}

#[test]
fn a_run_that_goes_on_keeps_its_client() {
    let guard = guard(live_runs(1));
    guard.admit(client(), &start("k"), 0).unwrap();
    assert_eq!(guard.clients(FIVE_MINUTES), 1);
    guard.over(client(), &run("k"));
    assert_eq!(guard.clients(FIVE_MINUTES), 0);
}

#[test]
fn a_full_table_forgets_first_who_says_nothing_and_then_who_started_nothing_for_the_longest_time() {
    let guard = Guard::new(rate(1, 60), secret(), 3);
    // The first has a key that is remembered, the second only a bucket that is soon full again.
    guard.admit(nth(1), &start("k"), 0).unwrap();
    guard.admit(nth(2), &keyless("1"), 1).unwrap();
    guard.admit(nth(3), &start("k"), 2).unwrap();
    guard.admit(nth(4), &start("k"), 2000).unwrap();
    assert_eq!((guard.clients(2000), guard.evicted()), (3, 0));
    assert_eq!(guard.admit(nth(1), &start("k"), 2000), REPEATED);
    // All say something now: the third was heard of before the others.
    guard.admit(nth(5), &start("k"), 4000).unwrap();
    assert_eq!((guard.clients(4000), guard.evicted()), (3, 1));
    assert_eq!(guard.admit(nth(1), &start("k"), 4000), REPEATED);
    assert_eq!(guard.admit(nth(4), &start("k"), 4000), REPEATED);
    assert_eq!(guard.admit(nth(3), &start("k"), 4000), NEW);
}

#[test]
fn a_connection_that_has_ended_leaves_nothing() {
    let guard = guard(rate(1, 1));
    guard.admit(client(), &start("k"), 0).unwrap();
    guard.forget(client());
    assert_eq!(guard.clients(0), 0);
}
