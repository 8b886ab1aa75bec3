//! The programs around the proxy that is measured; `bench/run` starts them.

mod clients;
mod gateway;
mod relay;

use std::io;
use std::process::ExitCode;

use bench::events::Plan;
use tokio::runtime::Builder;

const USAGE: &str = "\
bench gateway LISTEN
bench relay LISTEN UPSTREAM
bench clients ADDRESS CONNECTIONS SIZE EVENTS RUNS RATE
bench handshakes ADDRESS COUNT WORKERS";

/// Of the relay, as of every peer.
const WORKERS: usize = 2;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match run(&words) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench {}: {error}", words.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[&str]) -> io::Result<()> {
    let one = || Builder::new_current_thread().enable_all().build();
    let many = || Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    match *words {
        ["gateway", listen] => one()?.block_on(gateway::serve(listen)),
        ["relay", listen, upstream] => many()?.block_on(relay::serve(listen, upstream)),
        ["clients", address, connections, size, events, runs, rate] => {
            let plan = Plan {
                size: number(size)?,
                events: number(events)? as u64,
                runs: number(runs)?.max(1) as u64,
                rate: number(rate)? as u32,
            };
            one()?.block_on(clients::run(address, number(connections)?, plan))
        }
        ["handshakes", address, count, workers] => {
            one()?.block_on(clients::handshakes(address, number(count)?, number(workers)?))
        }
        _ => Err(io::Error::other(USAGE)),
    }
}

fn number(word: &str) -> io::Result<usize> {
    word.parse().map_err(|_| io::Error::other(format!("{word:?} is not a number")))
}
