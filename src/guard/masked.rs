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
pub(super) fn payload(mut frames: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(frames.len());
    while let Parse::Head(head) = wire::head(frames) {
        let end = usize::try_from(head.frame()).map_or(frames.len(), |end| end.min(frames.len()));
        if !head.opcode.is_control() {
            let start = message.len();
            message.extend_from_slice(&frames[head.len..end]);
            unmask(&mut message[start..], head.mask.unwrap_or_default());
        }
        frames = &frames[end..];
    }
    message
}

/// Masks and unmasks bytes of which the first belongs to the key's first.
pub(super) fn unmask(bytes: &mut [u8], mask: [u8; 4]) {
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte ^= mask[i % 4];
    }
}
