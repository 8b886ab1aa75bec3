//! A connection whose client may start so many runs only: its gate, and the answers that the one direction has for the
//! other to send.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::task::AtomicWaker;

use crate::guard::gate::Gate;
use crate::guard::over;
use crate::guard::{Client, Guard, Scope};
use crate::sieve::Mode;
use crate::wire::{self, Opcode, Parse};

/// Bytes of answers that wait at most, but for the last; until the client has taken them, nothing more of it is read.
pub(super) const WAITING: usize = 16 * 1024;

/// The run guard, and who counts as one client.
#[derive(Clone)]
pub struct Protection {
    /// What is known of all clients.
    pub guard: Arc<Guard>,
    /// Who shares the limits.
    pub scope: Scope,
}

/// What the two directions of a guarded connection share.
pub(super) struct Guarded {
    guard: Arc<Guard>,
    client: Client,
    connection: u64,
    tunnel: bool,
    inspect_limit: usize,
    /// The gateway has welcomed the client.
    greeted: AtomicBool,
    /// Whole frames for the client; `None` when none can be sent any more.
    answers: Mutex<Option<Vec<u8>>>,
    /// The direction that sends them, and the one that waits until they are gone.
    sender: AtomicWaker,
    waiting: AtomicWaker,
}

impl Guarded {
    pub(super) fn new(
        guard: &Arc<Guard>,
        client: Client,
        connection: u64,
        tunnel: bool,
        inspect_limit: usize,
    ) -> Self {
        Self {
            guard: Arc::clone(guard),
            client,
            connection,
            tunnel,
            inspect_limit,
            greeted: AtomicBool::new(false),
            answers: Mutex::new(Some(Vec::new())),
            sender: AtomicWaker::new(),
            waiting: AtomicWaker::new(),
        }
    }

    pub(super) fn gate(&self, mode: Mode) -> Gate {
        let gate = Gate::new(Arc::clone(&self.guard), mode, self.client, self.connection, self.inspect_limit);
        let gate = gate.before_hello();
        if self.tunnel { gate.in_tunnel() } else { gate }
    }

    /// Lets the gate act, which knows then whether the client has been welcomed; what it answers waits to be sent.
    pub(super) fn at<T>(&self, gate: &mut Gate, act: impl FnOnce(&mut Gate) -> T) -> T {
        if self.is_greeted() {
            gate.greet();
        }
        let outcome = act(gate);
        self.answer(&gate.take_answers());
        outcome
    }

    fn answer(&self, frames: &[u8]) {
        if !frames.is_empty()
            && let Some(answers) = &mut *self.answers()
        {
            answers.extend_from_slice(frames);
            self.sender.wake();
        }
    }

    /// No answer can reach the client any more: nobody is to wait until it has taken them.
    pub(super) fn hush(&self) {
        if self.answers().take().is_some() {
            self.waiting.wake();
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.answers().as_ref().is_some_and(|answers| answers.len() >= WAITING)
    }

    /// Resolves when answers may follow again.
    pub(super) fn poll_room(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.waiting.register(cx.waker());
        if self.is_full() { Poll::Pending } else { Poll::Ready(()) }
    }

    /// Resolves when there are answers to send, with all of them.
    pub(super) fn poll_answers(&self, cx: &mut Context<'_>) -> Poll<Vec<u8>> {
        self.sender.register(cx.waker());
        let answers = self.answers().as_mut().map(std::mem::take).unwrap_or_default();
        if answers.is_empty() {
            return Poll::Pending;
        }
        self.waiting.wake();
        Poll::Ready(answers)
    }

    fn is_greeted(&self) -> bool {
        self.greeted.load(Relaxed)
    }

    /// Looks at the gateway's message at the start of the window: whether it welcomes the client, or says that a run is
    /// over.
    pub(super) fn hear(&self, window: &[u8]) {
        let is_greeted = self.is_greeted();
        if is_greeted && self.guard.limits().max_live_runs.is_none() {
            return;
        }
        let Parse::Head(head) = wire::head(window) else { return };
        if head.opcode.is_control() {
            return;
        }
        let is_plain = head.opcode == Opcode::Text && head.fin && !head.extended && head.mask.is_none();
        let end = usize::try_from(head.frame()).unwrap_or(usize::MAX);
        let text = window.get(head.len..end).filter(|_| is_plain);
        if !is_greeted {
            // What streams is never seen whole; the gateway's first words are short.
            let streams = !is_plain || self.tunnel || head.payload > self.inspect_limit as u64;
            self.greeted.store(text.map_or(streams, over::welcomes), Relaxed);
        }
        if let Some(over) = text.and_then(|text| over::read(text, self.guard.secret(), self.connection)) {
            self.guard.over(self.client, &over);
        }
    }

    fn answers(&self) -> MutexGuard<'_, Option<Vec<u8>>> {
        // What this protects is whole at every moment.
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
