//! What a client hears of a refused start: the gateway's own error shape, in a frame as a server sends it.

use super::{Limits, Refusal};

/// One text frame. `id` is a JSON string, quotes included.
pub(super) fn frame(id: &str, refusal: Refusal, limits: &Limits) -> Vec<u8> {
    let text = text(id, refusal, limits);
    let mut frame = vec![0x81];
    match u16::try_from(text.len()) {
        Ok(length @ 0..126) => frame.push(length as u8),
        Ok(length) => {
            frame.push(126);
            frame.extend(length.to_be_bytes());
        }
        // Not reached: an id is short.
        Err(_) => {
            frame.push(127);
            frame.extend((text.len() as u64).to_be_bytes());
        }
    }
    frame.extend(text.as_bytes());
    frame
}

fn text(id: &str, refusal: Refusal, limits: &Limits) -> String {
    let (code, message, retry_after) = match refusal {
        Refusal::Rate { retry_after } => {
            let rate = limits.runs_per_minute.map_or(0, |n| n.get());
            let message = format!("too many runs: at most {rate} a minute (SEQGATE_GUARD_RUNS_PER_MINUTE)");
            ("UNAVAILABLE", message, Some(retry_after))
        }
        Refusal::LiveRuns { retry_after } => {
            let most = limits.max_live_runs.map_or(0, |n| n.get());
            let message = format!("too many runs at once: at most {most} (SEQGATE_GUARD_MAX_LIVE_RUNS)");
            ("UNAVAILABLE", message, Some(retry_after))
        }
        Refusal::RunId { limit } => {
            ("INVALID_REQUEST", format!("run id longer than {limit} bytes (SEQGATE_GUARD_MAX_RUN_ID)"), None)
        }
    };
    let retry = match retry_after {
        Some(millis) => format!("true,\"retryAfterMs\":{millis}"),
        None => "false".to_owned(),
    };
    format!(
        r#"{{"type":"res","id":{id},"ok":false,"error":{{"code":"{code}","message":"{message}","retryable":{retry}}}}}"#
    )
}
