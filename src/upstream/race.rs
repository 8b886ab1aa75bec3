//! Connects to one of several addresses (RFC 8305): attempts start one after the other, [`STAGGER`] apart or as soon as
//! one fails, and run side by side; the first that succeeds wins.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::time::sleep;

/// Between the starts of two attempts.
pub(super) const STAGGER: Duration = Duration::from_millis(250);
/// Addresses that are tried for one connection.
const MOST: usize = 8;

/// The order of attempts: the address that worked last, then the others with the families in turn, beginning with the
/// family that the system prefers.
pub(super) fn order(addresses: &[SocketAddr], worked: Option<SocketAddr>) -> Vec<SocketAddr> {
    let mut order: Vec<_> = worked.into_iter().filter(|address| addresses.contains(address)).collect();
    let others = addresses.iter().copied().filter(|address| Some(*address) != worked);
    let is_preferred = |address: &SocketAddr| {
        order.first().or(addresses.first()).is_some_and(|first| first.is_ipv4() == address.is_ipv4())
    };
    let (preferred, other): (VecDeque<_>, VecDeque<_>) = others.partition(is_preferred);
    // An address that worked has taken its family's first turn.
    let mut turns = if order.is_empty() { [preferred, other] } else { [other, preferred] };
    while order.len() < MOST && turns.iter().any(|turn| !turn.is_empty()) {
        order.extend(turns[0].pop_front());
        turns.swap(0, 1);
    }
    order
}

/// The connection to the first address that accepts one; otherwise the last error, `None` without addresses.
pub(super) async fn race<A, T, E, F: Future<Output = Result<T, E>>>(
    addresses: impl IntoIterator<Item = A>,
    stagger: Duration,
    connect: impl Fn(A) -> F,
) -> Result<T, Option<E>> {
    let mut waiting = addresses.into_iter().peekable();
    let mut attempts = FuturesUnordered::new();
    let mut last = None;
    loop {
        match waiting.next() {
            Some(address) => attempts.push(connect(address)),
            None if attempts.is_empty() => return Err(last),
            None => {}
        }
        let is_last = waiting.peek().is_none();
        tokio::select! {
            biased;
            Some(result) = attempts.next() => match result {
                Ok(connection) => return Ok(connection),
                Err(error) => last = Some(error),
            },
            () = sleep(stagger), if !is_last => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::future::pending;

    use futures::FutureExt;

    use super::*;

    const NEVER: Duration = Duration::from_secs(3600);
    const SOON: Duration = Duration::from_millis(1);

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_the_address_that_worked_is_first() {
        let [a, b, c] = ["[fd00::1]:1", "[fd00::2]:1", "[fd00::3]:1"];
        let [x, y] = ["10.0.0.1:1", "10.0.0.2:1"];
        let all = addresses(&[a, b, c, x, y]);
        assert_eq!(order(&all, None), addresses(&[a, x, b, y, c]));
        assert_eq!(order(&all, Some(y.parse().unwrap())), addresses(&[y, a, x, b, c]));
        assert_eq!(order(&all, Some(b.parse().unwrap())), addresses(&[b, x, a, y, c]));
        // An address that the name no longer has is not used.
        assert_eq!(order(&all, Some("10.9.9.9:1".parse().unwrap())), addresses(&[a, x, b, y, c]));
        assert_eq!(order(&addresses(&[x, a]), None), addresses(&[x, a]));
        assert_eq!(order(&[], None), []);
        let many: Vec<SocketAddr> = (1..100).map(|n| format!("10.0.0.{n}:1").parse().unwrap()).collect();
        assert_eq!(order(&many, None), many[..MOST]);
    }

    #[tokio::test]
    async fn a_silent_address_does_not_hold_the_next_one_up() {
        let result: Result<_, Option<()>> = race([1, 2, 3], SOON, async |n| match n {
            3 => Ok(n),
            _ => pending().await,
        })
        .await;
        assert_eq!(result, Ok(3));
    }

    #[tokio::test]
    async fn an_address_that_fails_is_followed_by_the_next_at_once() {
        let result = race([1, 2, 3], NEVER, async |n| if n == 3 { Ok(n) } else { Err(n) }).await;
        assert_eq!(result, Ok(3));
    }

    #[tokio::test]
    async fn a_second_attempt_waits_for_the_stagger() {
        let started = RefCell::new(Vec::new());
        let racing: Option<Result<(), Option<()>>> = race([1, 2], NEVER, |n| {
            started.borrow_mut().push(n);
            pending()
        })
        .now_or_never();
        assert!(racing.is_none());
        assert_eq!(*started.borrow(), [1]);
    }

    #[tokio::test]
    async fn an_earlier_attempt_still_wins_while_later_ones_are_silent() {
        let second = tokio::sync::Notify::new();
        let result: Result<_, Option<()>> = race([1, 2], SOON, async |n| {
            if n == 1 {
                second.notified().await;
                return Ok(n);
            }
            second.notify_one();
            pending().await
        })
        .await;
        assert_eq!(result, Ok(1));
    }

    #[tokio::test]
    async fn when_all_fail_the_last_error_is_returned() {
        let result: Result<(), _> = race([1, 2, 3], NEVER, async |n| Err(n)).await;
        assert_eq!(result, Err(Some(3)));
        let result: Result<(), Option<()>> = race([0; 0], NEVER, async |_| Ok(())).await;
        assert_eq!(result, Err(None));
    }
}
