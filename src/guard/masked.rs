//! Frames as clients send them.

use crate::wire::{self, Head, Opcode, Parse};

/// The masking key of a data frame that a server accepts as the first of a message, or as a later one.
pub(super) fn lawful_mask(head: Head, first: bool) -> Option<[u8; 4]> {
    let opcode = match head.opcode {
        Opcode::Text | Opcode::Binary => first,
        Opcode::Continuation => !first,
        Opcode::Close | Opcode::Ping | Opcode::Pong => false,
    };
    head.mask.filter(|_| opcode && !head.extended)
}

/// The message in these frames, the last of which need not be whole.
pub(super) fn payload(frames: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(frames.len());
    for (masked, mask) in payloads(frames) {
        let start = message.len();
        message.extend_from_slice(masked);
        unmask(&mut message[start..], mask);
    }
    message
}

/// The first byte of masked text that `JSON.parse` does not skip. `at` is the text's place in its frame's payload.
pub(super) fn first_byte(masked: &[u8], mask: [u8; 4], at: usize) -> Option<u8> {
    let mut bytes = masked.iter().enumerate().map(|(i, byte)| byte ^ mask[(at + i) % 4]);
    bytes.find(|byte| !matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
}

/// The payloads of these frames, those of control frames aside, each with its mask.
fn payloads(mut frames: &[u8]) -> impl Iterator<Item = (&[u8], [u8; 4])> {
    std::iter::from_fn(move || {
        let Parse::Head(head) = wire::head(frames) else { return None };
        let end = usize::try_from(head.frame()).map_or(frames.len(), |end| end.min(frames.len()));
        let (frame, rest) = frames.split_at(end);
        frames = rest;
        Some((head, frame))
    })
    .filter(|(head, _)| !head.opcode.is_control())
    .map(|(head, frame)| (&frame[head.len..], head.mask.unwrap_or_default()))
}

/// Masks and unmasks bytes of which the first belongs to the key's first.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte ^= mask[i % 4];
    }
}
