//! What the command line asks for, and the exit code for how it went.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::app::{App, StartError};
use crate::config::{self, BadSetting, Config, Values};
use crate::replay::{self, Error};
use crate::{demo, healthcheck, relay, supervisor, telemetry};

/// The demo's proof did not hold, or the demo broke.
const DEMO_FAILED: u8 = 1;
/// The seqgate that was asked is not ready (Docker: unhealthy).
const NOT_READY: u8 = 1;
/// A setting or the command line can't be used (sysexits: EX_USAGE).
const USAGE: u8 = 64;
/// A file that is not there or may not be read (sysexits: EX_NOINPUT).
const NO_INPUT: u8 = 66;
/// seqgate could not start (sysexits: EX_OSERR).
const OS_ERROR: u8 = 71;
/// A file broke off while it was read or written (sysexits: EX_IOERR).
const IO_ERROR: u8 = 74;
/// A second signal ended the drain (as a shell says of SIGINT).
const INTERRUPTED: i32 = 130;

/// Beyond the drain, until the process has ended on a machine that is busy.
const SPARE: Duration = Duration::from_secs(5);

/// What to do.
pub enum Command {
    /// Be the sidecar.
    Run(Config),
    /// Print the settings.
    Check(Config, Box<Values>),
    /// Ask the seqgate with this admin address whether it is ready.
    Healthcheck(SocketAddr),
    /// Show the main job at work for so long.
    Demo(Duration),
    /// Judge a recording.
    Replay(Box<replay::Job>),
    /// Print this text.
    Print(String),
}

impl Command {
    /// Reads arguments (the program's name first) and environment.
    ///
    /// # Errors
    /// A command, flag or value that can't be used.
    pub fn new(
        arguments: impl IntoIterator<Item = OsString>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, BadSetting> {
        let mut words = Vec::new();
        for argument in arguments.into_iter().skip(1) {
            words.push(argument.into_string().map_err(|a| usage(&format!("{a:?} is not UTF-8")))?);
        }
        let mut words = words.into_iter().peekable();
        let name = words.next_if(|word| !word.starts_with('-'));
        let (flags, operands) = sort(words)?;
        if let Some((flag, _)) = flags.iter().find(|(_, value)| value.is_none()) {
            return match flag.as_str() {
                "help" | "h" => Ok(Self::Print(help())),
                "version" | "V" => Ok(Self::Print(format!("seqgate {}", env!("CARGO_PKG_VERSION")))),
                _ => Err(usage(&format!("--{flag} needs a value"))),
            };
        }
        let flags = flags.into_iter().filter_map(|(flag, value)| Some((flag, value?)));
        if let (Some(operand), true) = (operands.first(), name.as_deref() != Some("replay")) {
            return Err(usage(&format!("{operand:?} is not a flag")));
        }
        match name.as_deref() {
            None | Some("run") => Ok(Self::Run(Config::new(&values(environment, flags)?)?)),
            Some("check") => {
                let values = values(environment, flags)?;
                let config = Config::new(&values)?;
                config.read_files().map_err(|error| BadSetting::new(error.to_string()))?;
                Ok(Self::Check(config, Box::new(values)))
            }
            Some("healthcheck") => {
                Config::new(&values(environment, flags)?).map(|config| Self::Healthcheck(config.admin_listen))
            }
            Some("demo") => demo_time(flags).map(Self::Demo),
            Some("replay") => Ok(Self::Replay(Box::new(replay::Job::new(&operands, flags, environment)?))),
            Some("help") => Ok(Self::Print(help())),
            Some(other) => Err(usage(&format!("{other:?} is not a command"))),
        }
    }
}

fn usage(what: &str) -> BadSetting {
    BadSetting::new(format!("{what}; see `seqgate --help`"))
}

type Flags = Vec<(String, Option<String>)>;

/// The flags, `--name value` and `--name=value`, and what is none; flags that take no value have none.
fn sort(words: impl Iterator<Item = String>) -> Result<(Flags, Vec<String>), BadSetting> {
    let mut words = words;
    let (mut flags, mut operands) = (Vec::new(), Vec::new());
    while let Some(word) = words.next() {
        if word == "-" || !word.starts_with('-') {
            operands.push(word);
            continue;
        }
        let flag = word
            .strip_prefix("--")
            .or_else(|| word.strip_prefix('-').filter(|short| ["h", "V"].contains(short)))
            .ok_or_else(|| usage(&format!("{word:?} is not a flag")))?;
        flags.push(match flag.split_once('=') {
            Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
            None if ["help", "h", "version", "V"].contains(&flag) => (flag.to_owned(), None),
            None if flag == "json" => (flag.to_owned(), Some(String::new())),
            None => (flag.to_owned(), words.next()),
        });
    }
    Ok((flags, operands))
}

fn values(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
    flags: impl Iterator<Item = (String, String)>,
) -> Result<Values, BadSetting> {
    let mut values = Values::default();
    values.environment(environment)?;
    for (name, value) in flags {
        values.flag(&name, value)?;
    }
    Ok(values)
}

fn demo_time(flags: impl Iterator<Item = (String, String)>) -> Result<Duration, BadSetting> {
    let mut time = demo::DEFAULT_TIME;
    for (name, value) in flags {
        time = match name.as_str() {
            "for" => config::duration(&value).ok_or_else(|| {
                usage(&format!("--for is {value:?}: expected a duration such as 10s or 1m"))
            })?,
            _ => return Err(usage(&format!("--{name} is not a flag of demo"))),
        };
    }
    Ok(time)
}

fn help() -> String {
    format!(
        "seqgate {}: a transparent sidecar in front of an OpenClaw gateway\n\n\
         seqgate [run] [FLAGS]    be the sidecar\n\
         seqgate check [FLAGS]    print the settings, where each came from, and the memory they promise\n\
         seqgate healthcheck      ask the sidecar that has these settings whether it is ready\n\
         seqgate demo [--for 15s] show the main job at work, with a gateway and a client of its own\n\
         seqgate replay FILE      judge a recording: a frame a line, or {{\"conn\",\"dir\",\"ms\",\"text\"}}; - is standard input\n\
         seqgate --help, --version\n\n\
         {}\n\
         Settings, as environment variables or flags (a flag wins):\n{}",
        env!("CARGO_PKG_VERSION"),
        replay::help(),
        config::help()
    )
}

/// Does what the command line asks for.
pub fn main(
    arguments: impl IntoIterator<Item = OsString>,
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> ExitCode {
    match Command::new(arguments, environment) {
        Ok(Command::Run(config)) => run(config),
        Ok(Command::Check(config, values)) => print(&check(&config, &values)),
        Ok(Command::Healthcheck(admin)) => check_health(admin),
        Ok(Command::Demo(time)) => show_demo(time),
        Ok(Command::Replay(job)) => show_replay(&job),
        Ok(Command::Print(text)) => print(&text),
        Err(error) => fail(USAGE, &error),
    }
}

fn run(config: Config) -> ExitCode {
    on_runtime(async {
        telemetry::init(config.log, config.log_format)?;
        allow_descriptors(&config);
        let bound = config.memory_bound();
        let signals = signals()?;
        let app = match App::bind(config.clone()).await {
            Err(StartError::File(error)) => return Ok(fail(USAGE, &error)),
            app => app?,
        };
        let addresses = app.addresses();
        tracing::info!(
            listen = %addresses.listen,
            admin = %addresses.admin,
            upstream = %config.upstream,
            mode = %config.mode,
            version = env!("CARGO_PKG_VERSION"),
            "seqgate is up"
        );
        tracing::info!("memory: {bound}");
        supervisor::ready();
        let told_to_stop = async {
            first_signal(signals).await;
            supervisor::stopping(config.drain_timeout + relay::CLOSING + SPARE);
        };
        app.run(told_to_stop).await;
        Ok(ExitCode::SUCCESS)
    })
}

/// Raises the soft limit of descriptors, 1024 in most shells, to what the settings can need. That a program asks for more is
/// what the hard limit is for.
fn allow_descriptors(config: &Config) {
    let needed = config.descriptors();
    let allowed = rlimit::increase_nofile_limit(needed);
    if allowed.as_ref().is_ok_and(|allowed| *allowed >= needed) {
        return;
    }
    let allowed = allowed.map_or_else(|error| error.to_string(), |allowed| allowed.to_string());
    tracing::warn!(
        needed,
        allowed,
        "fewer descriptors than SEQGATE_MAX_CONNECTIONS can need: clients may have to wait; see ulimit -Hn"
    );
}

fn check_health(admin: SocketAddr) -> ExitCode {
    on_runtime(async {
        Ok(match healthcheck::ask(admin).await {
            Ok(()) => print("ready"),
            Err(reason) => fail(NOT_READY, &format!("not ready: {reason}")),
        })
    })
}

fn show_demo(time: Duration) -> ExitCode {
    on_runtime(async {
        let signals = signals()?;
        Ok(match demo::run(time, first_signal(signals)).await {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(DEMO_FAILED),
            Err(error) => fail(DEMO_FAILED, &format!("the demo broke: {error}")),
        })
    })
}

fn show_replay(job: &replay::Job) -> ExitCode {
    match job.run() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closed the output does not want to see more.
        Err(Error::Write(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error @ Error::Open(..)) => fail(NO_INPUT, &error),
        Err(error @ Error::Random(_)) => fail(OS_ERROR, &error),
        Err(error) => fail(IO_ERROR, &error),
    }
}

type StartResult = Result<ExitCode, Box<dyn std::error::Error>>;

fn on_runtime(work: impl Future<Output = StartResult>) -> ExitCode {
    let outcome = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => {
            let outcome = runtime.block_on(work);
            // Not waited for: a name that is being looked up may take any time.
            runtime.shutdown_background();
            outcome
        }
        Err(error) => Err(error.into()),
    };
    telemetry::flush();
    outcome.unwrap_or_else(|error| fail(OS_ERROR, &error))
}

/// SIGTERM and SIGINT.
fn signals() -> std::io::Result<[Signal; 2]> {
    Ok([signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?])
}

/// Resolves with the first signal; the second ends the process at once.
async fn first_signal([mut terminate, mut interrupt]: [Signal; 2]) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::warn!("second signal: stopped at once");
        telemetry::flush();
        std::process::exit(INTERRUPTED);
    });
}

fn check(config: &Config, values: &Values) -> String {
    let lines = values.iter().map(|(name, value, source)| {
        let value = if value.is_empty() { "(empty)" } else { value };
        format!("{name:<29} {source:<12} {value}\n")
    });
    format!("{}memory: {}", lines.collect::<String>(), config.memory_bound())
}

fn print(text: &str) -> ExitCode {
    use std::io::Write;
    // Whoever closed the output does not want to see more.
    let _ = writeln!(std::io::stdout(), "{text}");
    ExitCode::SUCCESS
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "seqgate: {error}");
    ExitCode::from(code)
}
