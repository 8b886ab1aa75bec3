//! Frames by hand, lawful and not.

/// FIN and opcode.
pub const TEXT: u8 = 0x81;
pub const BINARY: u8 = 0x82;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;
/// Without FIN.
pub const TEXT_BEGINS: u8 = 0x01;
pub const GOES_ON: u8 = 0x00;
pub const ENDS: u8 = 0x80;

const KEY: [u8; 4] = [0xa1, 0x00, 0x5c, 0xff];

/// A frame with the shortest length.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(first, shortest(payload.len()), false, payload)
}

/// The same, masked as a client's.
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    frame_with(first, shortest(payload.len()), true, payload)
}

/// How many further bytes a length takes at least.
pub fn shortest(length: usize) -> usize {
    match length {
        0..126 => 0,
        126..0x1_0000 => 2,
        _ => 8,
    }
}

/// A frame whose length takes 0, 2 or 8 further bytes, needed or not.
pub fn frame_with(first: u8, length_bytes: usize, mask: bool, payload: &[u8]) -> Vec<u8> {
    let bit = if mask { 0x80 } else { 0 };
    let n = payload.len() as u64;
    let mut frame = vec![first];
    match length_bytes {
        0 => frame.push(bit | u8::try_from(n).unwrap()),
        2 => {
            frame.push(bit | 126);
            frame.extend(u16::try_from(n).unwrap().to_be_bytes());
        }
        _ => {
            frame.push(bit | 127);
            frame.extend(n.to_be_bytes());
        }
    }
    if mask {
        frame.extend(KEY);
        frame.extend(payload.iter().zip(KEY.iter().cycle()).map(|(byte, key)| byte ^ key));
    } else {
        frame.extend(payload);
    }
    frame
}

/// A Close with a code and a reason.
pub fn close(code: u16, reason: &str) -> Vec<u8> {
    frame(CLOSE, &close_payload(code, reason))
}

/// The same, masked as a client's.
pub fn masked_close(code: u16, reason: &str) -> Vec<u8> {
    masked(CLOSE, &close_payload(code, reason))
}

fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes()[..], reason.as_bytes()].concat()
}

/// The JSON of an agent event, with an outer seq or without.
pub fn event(run: &str, stream: &str, seq: u64, ts: u64, outer: Option<u64>) -> String {
    let outer = outer.map(|n| format!(r#","seq":{n}"#)).unwrap_or_default();
    format!(
        r#"{{"type":"event","event":"agent","payload":{{"runId":"{run}","stream":"{stream}","data":{{"text":"word {seq}","delta":"{seq}"}},"sessionKey":"agent:main:main","seq":{seq},"ts":{ts}}}{outer}}}"#
    )
}

/// A text frame with an agent event of stream `assistant`, emitted `seq` ms after some time.
pub fn agent(run: &str, seq: u64, outer: u64) -> Vec<u8> {
    frame(TEXT, event(run, "assistant", seq, 1_769_900_000_000 + seq, Some(outer)).as_bytes())
}

/// First byte and payload of each frame, unmasked, and what is left behind the last whole one.
pub fn unmasked(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let Some((first, payload, rest)) = split_frame(bytes) {
        frames.push((first, payload));
        bytes = rest;
    }
    frames.push((0, bytes.to_vec()));
    frames
}

fn split_frame(bytes: &[u8]) -> Option<(u8, Vec<u8>, &[u8])> {
    let (&first, rest) = bytes.split_first()?;
    let (&second, rest) = rest.split_first()?;
    let width = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let (length, rest) = rest.split_at_checked(width)?;
    let length = match width {
        0 => usize::from(second & 0x7f),
        _ => length.iter().fold(0, |n, byte| n << 8 | usize::from(*byte)),
    };
    let (key, rest) = rest.split_at_checked(if second & 0x80 == 0 { 0 } else { 4 })?;
    let (payload, rest) = rest.split_at_checked(length)?;
    let key = if key.is_empty() { &[0][..] } else { key };
    Some((first, payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect(), rest))
}
