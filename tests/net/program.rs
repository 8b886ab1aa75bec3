//! The program itself, in a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::{Arc, Mutex};

use super::tls::{self, SIDES};
use super::{eventually, metric_in, page};

/// The program with an environment of its own.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seqgate"));
    command.env_clear().stdin(Stdio::null());
    command
}

/// Runs it to its end: how it ended, what it said, and what it complained of.
pub fn output(command: &mut Command) -> (Output, String, String) {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    (output, out, err)
}

/// A seqgate in a process of its own.
pub struct Running {
    pub child: Child,
    log: Arc<Mutex<Vec<String>>>,
    pub listen: SocketAddr,
    pub admin: SocketAddr,
}

impl Running {
    /// Starts one in front of a gateway.
    pub async fn start(gateway: SocketAddr, flags: &[&str]) -> Self {
        Self::start_as(&mut program(), gateway, flags).await.unwrap()
    }

    /// Starts one by a command that ends in the program; hands back what it said where it does not come up.
    pub async fn start_as(
        command: &mut Command,
        gateway: SocketAddr,
        flags: &[&str],
    ) -> Result<Self, String> {
        let own = tls::settings(gateway);
        let mut child = command
            .args(own.iter().map(|(name, value)| format!("--{name}={value}")))
            .args(flags)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let log = Arc::new(Mutex::new(Vec::new()));
        let reader = BufReader::new(child.stderr.take().unwrap());
        let lines = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in reader.lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let unknown = ([0, 0, 0, 0], 0).into();
        let mut running = Self { child, log, listen: unknown, admin: unknown };
        let mut has_ended = false;
        eventually("seqgate to be up", async || {
            has_ended = running.child.try_wait().unwrap().is_some();
            let log = running.logged();
            let up = log.lines().find(|line| line.contains("seqgate is up"));
            if let Some(line) = up {
                running.listen = address_behind(line, "listen");
                running.admin = address_behind(line, "admin");
                tls::note(running.listen, SIDES.clients);
                tls::note(running.admin, false);
            }
            up.is_some() || has_ended
        })
        .await;
        if has_ended { Err(running.logged()) } else { Ok(running) }
    }

    /// The value of a series.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, page) = page(self.admin, "/metrics").await;
        metric_in(&page, series).unwrap_or_else(|| panic!("no series {series}"))
    }

    /// Its entry in /proc.
    pub fn id(&self) -> String {
        self.child.id().to_string()
    }

    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.id()]).status().unwrap().success());
    }

    pub async fn exit(&mut self) -> ExitStatus {
        let mut exit = None;
        eventually("the process to end", async || {
            exit = self.child.try_wait().unwrap();
            exit.is_some()
        })
        .await;
        exit.unwrap()
    }

    pub fn logged(&self) -> String {
        self.log.lock().unwrap().join("\n")
    }

    pub async fn logs(&self, what: &str) {
        eventually(what, async || self.logged().contains(what)).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The address that a line of the log gives under a name.
pub fn address_behind(line: &str, name: &str) -> SocketAddr {
    let behind = line.split(name).nth(1).unwrap();
    let address = &behind[behind.find("127.").unwrap()..];
    let end = address.find(|c: char| !c.is_ascii_digit() && !".:".contains(c)).unwrap_or(address.len());
    address[..end].parse().unwrap()
}
