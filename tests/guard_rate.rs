//! A client starts as many runs at once as the burst allows, then so many a minute, and is told to the millisecond when
//! there is room for the next.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod support;

use proptest::prelude::*;
use seqgate::guard::start::Start;
use seqgate::guard::{Admitted, Client, Guard, Refusal};
use support::guard::{client, guard, rate};

/// A start without a key: none is like another.
fn start() -> Start {
    Start { id: None, request: None, key: None, certain: true }
}

fn admits(guard: &Guard, client: Client, now: u64) -> Result<(), u64> {
    match guard.admit(client, &start(), now) {
        Ok(Admitted::New) => Ok(()),
        Err(Refusal::Rate { retry_after }) => Err(retry_after),
        other => panic!("{other:?}"),
    }
}

/// The naive twin: tokens in exact fractions of which each has 60,000 parts, the milliseconds of a minute.
struct Tokens {
    per_minute: u128,
    capacity: u128,
    parts: u128,
    last: u64,
}

impl Tokens {
    const ONE: u128 = 60_000;

    fn new(burst: u32, per_minute: u32) -> Self {
        let capacity = u128::from(burst) * Self::ONE;
        Self { per_minute: per_minute.into(), capacity, parts: capacity, last: 0 }
    }

    fn take(&mut self, now: u64) -> bool {
        let grown = u128::from(now - self.last) * self.per_minute;
        self.parts = (self.parts + grown).min(self.capacity);
        self.last = now;
        let there = self.parts >= Self::ONE;
        if there {
            self.parts -= Self::ONE;
        }
        there
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn what_is_admitted_is_what_a_bucket_of_exact_tokens_would_give(
        burst in prop_oneof![1..6u32, Just(u32::MAX)],
        per_minute in prop_oneof![1..100u32, 59_990..60_010u32, 1_000_000..u32::MAX],
        waits in prop::collection::vec(prop_oneof![Just(0), 0..50u64, 0..70_000u64], 1..60),
    ) {
        let guard = guard(rate(burst, per_minute));
        let mut twin = Tokens::new(burst, per_minute);
        let mut now = 0;
        for wait in waits {
            now += wait;
            prop_assert_eq!(admits(&guard, client(), now).is_ok(), twin.take(now), "at {}", now);
        }
    }

    #[test]
    fn who_is_refused_is_admitted_after_the_time_named_and_not_a_millisecond_earlier(
        burst in 1..4u32,
        per_minute in prop_oneof![1..100u32, 50_000..70_000u32],
        waits in prop::collection::vec(0..3_000u64, 1..40),
    ) {
        let guard = guard(rate(burst, per_minute));
        let mut now = 0;
        for wait in waits {
            now += wait;
            if let Err(retry_after) = admits(&guard, client(), now) {
                prop_assert!(retry_after > 0);
                let early = admits(&guard, client(), now + retry_after - 1);
                prop_assert_eq!(early, Err(1));
                now += retry_after;
                prop_assert_eq!(admits(&guard, client(), now), Ok(()));
            }
        }
    }

    #[test]
    fn a_clock_that_jumps_does_no_harm(times in prop::collection::vec(
        prop_oneof![any::<u64>(), 0..100_000u64, Just(u64::MAX)], 1..30,
    )) {
        let guard = guard(rate(2, 60));
        for now in times {
            if let Err(retry_after) = admits(&guard, client(), now) {
                // The wait of an empty bucket, at most.
                prop_assert!(retry_after <= 1000, "{}", retry_after);
            }
        }
    }
}

#[test]
fn a_refused_start_costs_nothing() {
    let guard = guard(rate(1, 60));
    assert_eq!(admits(&guard, client(), 0), Ok(()));
    for now in 0..1000 {
        assert_eq!(admits(&guard, client(), now), Err(1000 - now));
    }
    assert_eq!(admits(&guard, client(), 1000), Ok(()));
}

#[test]
fn nobody_spends_what_is_anothers() {
    let guard = guard(rate(1, 1));
    let clients = ["192.0.2.1", "192.0.2.2", "2001:db8:0:1::1", "2001:db8:0:2::1"];
    for address in clients {
        assert_eq!(admits(&guard, Client::address(address.parse().unwrap()), 0), Ok(()), "{address}");
    }
    assert_eq!(admits(&guard, Client::connection(0), 0), Ok(()));
    assert_eq!(admits(&guard, Client::connection(1), 0), Ok(()));
}

#[test]
fn a_host_has_one_bucket_for_all_its_addresses() {
    for (one, other) in [
        ("2001:db8:0:1::1", "2001:db8:0:1:ffff:ffff:ffff:ffff"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("fe80::1", "fe80::2"),
    ] {
        let guard = guard(rate(1, 1));
        assert_eq!(admits(&guard, Client::address(one.parse().unwrap()), 0), Ok(()));
        assert_eq!(admits(&guard, Client::address(other.parse().unwrap()), 0), Err(60_000), "{other}");
    }
}

#[test]
fn without_a_rate_any_number_is_admitted() {
    let guard = guard(rate(1, 0));
    assert!((0..1000).all(|_| admits(&guard, client(), 0).is_ok()));
}
