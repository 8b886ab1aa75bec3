//! The data path: two sockets, what was read of them already, and bytes that leave as they came.
//!
//! `pump.rs` is the loop of one direction, `strain.rs` what happens to its bytes; here the two directions are
//! one connection, which ends for both sides the way it ended for one: FIN for FIN, RST for RST. `record.rs` is what is
//! said of it then. `guarded.rs` is what the directions have to tell each other where the run guard is on.

mod guarded;
mod pump;
mod record;
mod strain;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep, timeout};

use self::guarded::Guarded;
pub use self::guarded::Protection;
use self::pump::{Broken, Pump};
pub use self::record::{Caller, TraceId};
use self::record::{Ending, Record};
use self::strain::{Heard, Strained};
use crate::drain::{Draining, Phase};
use crate::guard::gate::Gate;
use crate::guard::{Client, Scope};
use crate::journal::Journal;
use crate::metrics::{CLOSE_ABNORMAL, Direction, Initiator, Metrics};
use crate::roster::Roster;
use crate::sieve::{Rules, Sieve};
use crate::socket::Conn;
use crate::telemetry::Seldom;
use crate::wire::MAX_HEAD;

/// Close 1012 "service restart", as a server sends it.
const RESTART: &[u8] = b"\x88\x11\x03\xf4service restart";
/// The same, masked with zeros, as a client sends it.
const RESTART_MASKED: &[u8] = b"\x88\x91\0\0\0\0\x03\xf4service restart";
/// Goodbyes of many connections are spread over this time.
const SPREAD: Duration = Duration::from_secs(1);
/// How long a client may take for the frame that is on its way and for its answer to the Close.
const GOODBYE: Duration = Duration::from_secs(2);
/// How long the gateway may take to close its side.
const GATEWAY_GOODBYE: Duration = Duration::from_millis(500);

/// How long a client may be silent once the gateway has ended its side. A gateway's own system gives it as long
/// (Linux: tcp_fin_timeout); without a limit here, clients that never close would keep their places for ever.
const HALF_CLOSED: Duration = Duration::from_secs(60);

/// How long a drain takes at most, once connections are told to go.
pub const CLOSING: Duration = Duration::from_millis(4000);

/// What all relays share.
pub struct Context {
    /// The filter's rules.
    pub rules: Arc<Rules>,
    /// Where to count.
    pub metrics: Arc<Metrics>,
    /// Where live relays are listed.
    pub roster: Arc<Roster>,
    /// Where dropped events are reported.
    pub journal: Arc<Journal>,
    /// Which clients may start runs; `None`: all.
    pub protection: Option<Protection>,
    /// The zero of the filter's clock.
    pub epoch: Instant,
    /// For the warning that the ends of a message did not say what all of it says.
    pub disagreements: Seldom,
    /// For the warning that a gateway's bytes are not WebSocket messages.
    pub unreadable: Seldom,
}

impl Context {
    /// Milliseconds since the epoch.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.epoch.elapsed().as_millis() as u64
    }

    /// The connection of this number has ended: nothing has to be known of it any more.
    pub fn forget(&self, connection: u64) {
        if let Some(Protection { guard, scope: Scope::Connection }) = &self.protection {
            guard.forget(Client::connection(connection));
        }
    }

    /// The time of a number of milliseconds, rounded up; `None` where that is beyond all clocks.
    fn instant(&self, millis: u64) -> Option<Instant> {
        self.epoch.checked_add(Duration::from_millis(millis.checked_add(1)?))
    }
}

/// One end of a relay.
pub struct Side {
    /// The connection.
    pub stream: Conn,
    /// What was read from it already, behind the handshake.
    pub early: Bytes,
}

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// WebSocket of the control plane: frames that are judged.
    Judged,
    /// WebSocket that may have a protocol of its own: frames that only are followed, the guard aside.
    Followed,
    /// Anything.
    Opaque,
}

/// What one relay can hold in memory at most, in bytes, besides the table of its runs: in both directions
/// what was read at once and not taken by the other side, and a message that is not complete.
#[must_use]
pub fn buffer_bound(inspect_limit: usize) -> usize {
    2 * pump::READ + inspect_limit + pump::spare(inspect_limit) + 2 * MAX_HEAD + 4 * 1024
}

/// What a relay can hold besides where its client is guarded: a request that is not complete, or that waits until
/// the client has taken its answers, and these.
#[must_use]
pub fn guarded_bound(inspect_limit: usize, max_run_id: usize) -> usize {
    let held = inspect_limit + pump::spare(inspect_limit) + MAX_HEAD;
    Gate::bytes(inspect_limit, max_run_id) + held + 2 * guarded::WAITING + 1024
}

/// Who broke it, client to gateway.
fn whose_on_the_way_up(broken: Broken) -> Initiator {
    match broken {
        Broken::Source => Initiator::Client,
        Broken::Destination => Initiator::Gateway,
    }
}

/// Who broke it, gateway to client.
fn whose_on_the_way_down(broken: Broken) -> Initiator {
    match broken {
        Broken::Source => Initiator::Gateway,
        Broken::Destination => Initiator::Client,
    }
}

/// A place of its own for each relay, evenly spread, whatever their number (the golden ratio's multiples).
fn place_in_spread(id: u64) -> Duration {
    let fraction = id.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    SPREAD.mul_f64(fraction as f64 / f64::from(u32::MAX))
}

/// One connection, from its upgrade to its end.
pub struct Relay {
    up: Pump<Heard>,
    down: Pump<Strained>,
    client: Conn,
    gateway: Conn,
    protocol: Protocol,
    ending: Arc<Ending>,
    record: Record,
    /// What was read of the client and of the gateway before.
    early: (Bytes, Bytes),
}

impl Relay {
    /// A relay between two sides.
    #[must_use]
    pub fn new(
        context: &Arc<Context>,
        client: Side,
        gateway: Side,
        protocol: Protocol,
        caller: Caller,
    ) -> Self {
        let membership = context.roster.join(protocol == Protocol::Judged);
        let sieve = match protocol {
            Protocol::Judged => Some(Sieve::judging(Arc::clone(&context.rules))),
            Protocol::Followed => Some(Sieve::following(Arc::clone(&context.rules))),
            Protocol::Opaque => None,
        };
        let ending = Arc::new(Ending::default());
        // On the path of a protocol that it does not have, the gateway speaks its own.
        let protection = context.protection.as_ref().filter(|_| protocol != Protocol::Opaque);
        let guarded = protection.map(|Protection { guard, scope }| {
            let counts_as = scope.client(caller.client, caller.connection);
            let (tunnel, limit) = (protocol == Protocol::Followed, context.rules.inspect_limit);
            Arc::new(Guarded::new(guard, counts_as, caller.connection, tunnel, limit))
        });
        Self {
            up: Pump::new(Heard::new(context, sieve.is_some(), guarded.as_ref(), &ending)),
            down: Pump::new(Strained::new(context, sieve, &membership.member, &ending, guarded)),
            client: client.stream,
            gateway: gateway.stream,
            protocol,
            record: Record::begin(&context.metrics, protocol, caller, &ending, membership),
            ending,
            early: (client.early, gateway.early),
        }
    }

    /// Takes what was read already. It may be part of larger buffers, which are not to live as long as the relay.
    fn begin(&mut self) -> Result<(), Initiator> {
        let (of_client, of_gateway) = std::mem::take(&mut self.early);
        let (_, to_client) = self.client.split();
        let (_, to_gateway) = self.gateway.split();
        // A side that has broken is no reason not to hear what it said before.
        let down = self.down.begin(&of_gateway, &to_client);
        let up = self.up.begin(&of_client, &to_gateway);
        down.map_err(whose_on_the_way_down)?;
        up.map_err(whose_on_the_way_up)
    }

    /// Relays until both sides have ended, one has broken, or the process ends.
    pub async fn run(&mut self, mut draining: Draining) {
        let place = place_in_spread(self.record.membership.id);
        let time_to_go = async {
            draining.reached(Phase::Closing).await;
            sleep(place).await;
        };
        tokio::select! {
            result = self.both_ways() => if let Err(initiator) = result {
                self.ending.note(initiator, CLOSE_ABNORMAL);
                self.reset();
            },
            () = time_to_go => {
                self.ending.note(Initiator::Seqgate, 1012);
                if self.protocol != Protocol::Opaque {
                    // Whoever does not take part in the goodbye is left.
                    let _ = timeout(GOODBYE, self.close_client()).await;
                    self.close_gateway().await;
                }
            }
        }
    }

    /// Both directions, until both have ended or one has broken; then says who broke it.
    async fn both_ways(&mut self) -> Result<(), Initiator> {
        self.begin()?;
        let ending = &self.ending;
        let (mut from_client, mut to_client) = self.client.split();
        let (mut from_gateway, mut to_gateway) = self.gateway.split();
        let up = async {
            let result = self.up.run(&mut from_client, &mut to_gateway).await;
            result.map(|()| from_client).map_err(whose_on_the_way_up)
        };
        let down = async {
            let result = self.down.run(&mut from_gateway, &mut to_client).await;
            result.map(|()| from_gateway).map_err(whose_on_the_way_down)
        };
        tokio::pin!(up, down);
        // Of a side that has said all nothing is read: a reset behind its FIN has to be watched for.
        tokio::select! {
            ended = &mut up => {
                let from_client = ended?;
                tokio::select! {
                    biased;
                    ended = down => ended.map(drop),
                    () = from_client.broke() => Err(Initiator::Client),
                }
            }
            ended = &mut down => {
                let from_gateway = ended?;
                loop {
                    let heard = ending.bytes(Direction::ToGateway);
                    tokio::select! {
                        biased;
                        ended = &mut up => break ended.map(drop),
                        () = from_gateway.broke() => break Err(Initiator::Gateway),
                        () = sleep(HALF_CLOSED) => if ending.bytes(Direction::ToGateway) == heard {
                            break Err(Initiator::Gateway);
                        }
                    }
                }
            }
        }
    }

    /// Both sides see a reset.
    fn reset(&self) {
        self.client.reset();
        self.gateway.reset();
    }

    /// Lets the frame that is on its way to the client end, sends the Close behind it, and hands the client's
    /// answer to the gateway.
    async fn close_client(&mut self) -> Result<(), Broken> {
        let (mut from_client, mut to_client) = self.client.split();
        let (mut from_gateway, mut to_gateway) = self.gateway.split();
        self.down.flush(&from_gateway, &to_client).await?;
        while !self.down.sift.at_boundary() && !self.down.sift.has_closed() {
            if self.down.advance(&mut from_gateway, &mut to_client).await? == 0 {
                return Ok(());
            }
            self.down.flush(&from_gateway, &to_client).await?;
        }
        if !self.down.sift.has_closed() {
            to_client.send(RESTART).await.map_err(|_| Broken::Destination)?;
        }
        while !self.up.sift.has_closed() {
            if self.up.advance(&mut from_client, &mut to_gateway).await? == 0 {
                break;
            }
        }
        self.up.flush(&from_client, &to_gateway).await
    }

    /// Tells the gateway if the client has not, and lets it close first, so that nothing it still sends turns
    /// our end into a reset.
    async fn close_gateway(&mut self) {
        let unsaid = !self.up.sift.has_closed() && self.up.sift.at_boundary() && self.up.is_flushed();
        let goodbye = async {
            if unsaid {
                self.gateway.write_all(RESTART_MASKED).await?;
            }
            self.gateway.shutdown().await?;
            self.client.shutdown().await?;
            tokio::io::copy(&mut self.gateway, &mut tokio::io::sink()).await
        };
        // A gateway that does not answer is left.
        let _ = timeout(GATEWAY_GOODBYE, goodbye).await;
    }
}
