//! `seqgate replay`: from the command line to the output.

use std::ffi::OsString;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::PathBuf;

use super::progress::Progress;
use super::{Lines, Replay};
use crate::config::{BadSetting, Config, Values};
use crate::distinct::Distinct;
use crate::sieve::Rules;
use crate::stamp::Secret;

/// The settings that decide what becomes of a recording.
const SETTINGS: [&str; 6] =
    ["order", "events", "runs-per-connection", "run-ttl", "inspect-limit", "max-connections"];
/// Drops that are explained to people if nobody says.
const DROPS: u64 = 20;
/// What is read from the input at once.
const CHUNK: usize = 256 << 10;

/// A recording to be replayed.
#[derive(Debug)]
pub struct Job {
    /// None is standard input.
    file: Option<PathBuf>,
    config: Config,
    /// Drops to be explained.
    drops: u64,
    json: bool,
}

/// Why a replay did not come to its end.
#[derive(Debug)]
pub enum Error {
    /// The file can't be opened.
    Open(PathBuf, io::Error),
    /// The input can't be read any further.
    Read(io::Error),
    /// The output can't be written.
    Write(io::Error),
    /// The system has no random numbers.
    Random(getrandom::Error),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(path, error) => write!(f, "{} can't be opened: {error}", path.display()),
            Self::Read(error) => write!(f, "the recording can't be read: {error}"),
            Self::Write(error) => write!(f, "the output can't be written: {error}"),
            Self::Random(error) => write!(f, "the system gives no random numbers: {error}"),
        }
    }
}

/// The part of `--help` that tells of replay's own flags.
#[must_use]
pub fn help() -> String {
    format!(
        "Flags of replay, besides those of the settings that it judges by (--{}):\n  \
         --drops N|all                 explain so many drops (default {DROPS}; all with --json)\n  \
         --json                        an object a line: each drop as it happens, then a summary\n  \
         --max-connections             is the number of connections that are followed at one time\n",
        SETTINGS.join(", --")
    )
}

impl Job {
    /// Reads what stands behind `replay`.
    ///
    /// # Errors
    /// A flag or value that can't be used.
    pub fn new(
        operands: &[String],
        flags: impl Iterator<Item = (String, String)>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, BadSetting> {
        let [file] = operands else {
            return Err(BadSetting::new("replay needs one file, or - for standard input".to_owned()));
        };
        let mut values = Values::default();
        values.environment(environment)?;
        let (mut drops, mut json) = (None, false);
        for (name, value) in flags {
            match name.as_str() {
                "json" if value.is_empty() => json = true,
                "json" => return Err(BadSetting::new("--json takes no value".to_owned())),
                "drops" => drops = Some(number_or_all(&value)?),
                name if SETTINGS.contains(&name) => values.flag(name, value)?,
                _ => {
                    return Err(BadSetting::new(format!(
                        "--{} is not a flag of replay",
                        name.escape_debug()
                    )));
                }
            }
        }
        Ok(Self {
            file: (file != "-").then(|| file.into()),
            config: Config::new(&values)?,
            drops: drops.unwrap_or(if json { u64::MAX } else { DROPS }),
            json,
        })
    }

    /// Replays the recording.
    ///
    /// # Errors
    /// It could not be read, or its outcome not be told.
    pub fn run(&self) -> Result<(), Error> {
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(Error::Random)?;
        let mut out = BufWriter::new(io::stdout().lock());
        match &self.file {
            None => self.replay(io::stdin().lock(), Progress::new(None), random, &mut out),
            Some(path) => {
                let open = |error| Error::Open(path.clone(), error);
                let file = File::open(path).map_err(open)?;
                let about = file.metadata().map_err(open)?;
                let size = about.is_file().then_some(about.len());
                let input = BufReader::with_capacity(CHUNK, file);
                self.replay(input, Progress::new(size), random, &mut out)
            }
        }
    }

    fn replay(
        &self,
        input: impl BufRead,
        mut progress: Progress,
        random: [u8; 16],
        out: &mut impl Write,
    ) -> Result<(), Error> {
        let mut replay = Replay::new(self.rules(random), self.config.max_connections);
        let mut lines = Lines::new(input);
        let mut drops = 0;
        loop {
            let line = lines.read_line().map_err(|error| {
                progress.clear();
                Error::Read(error)
            })?;
            let Some(line) = line else { break };
            if let Some(dropped) = replay.line(&line) {
                drops += 1;
                if drops <= self.drops {
                    progress.clear();
                    let told = if self.json {
                        writeln!(out, "{}", dropped.json())
                    } else {
                        writeln!(out, "{dropped}")
                    };
                    told.and_then(|()| out.flush()).map_err(Error::Write)?;
                }
            }
            progress.advance(lines.read);
        }
        progress.clear();
        let report = replay.report();
        let told = if self.json {
            writeln!(out, "{}", report.json())
        } else {
            let untold = match drops.saturating_sub(self.drops) {
                0 => String::new(),
                untold => format!("drops not explained: {untold} (--drops all explains them)\n"),
            };
            let gap = if drops > 0 { "\n" } else { "" };
            write!(out, "{untold}{gap}{report}")
        };
        told.and_then(|()| out.flush()).map_err(Error::Write)
    }

    fn rules(&self, random: [u8; 16]) -> Rules {
        Rules {
            mode: self.config.mode,
            order: self.config.order,
            events: self.config.events.clone(),
            runs: self.config.runs_per_connection,
            ttl: self.config.run_ttl.as_millis() as u64,
            inspect_limit: self.config.inspect_limit,
            secret: Secret::new(random),
            distinct: Distinct::default(),
        }
    }
}

fn number_or_all(text: &str) -> Result<u64, BadSetting> {
    if text == "all" {
        return Ok(u64::MAX);
    }
    text.parse().map_err(|_| BadSetting::new(format!("--drops is {text:?}: expected a number or all")))
}
