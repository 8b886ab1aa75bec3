//! A client that is not on loopback, from a network namespace of its own.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

/// Two ends of a cable, one of them in a namespace; both go with this.
pub struct Cable {
    namespace: String,
    here: String,
}

fn ip(arguments: &str) -> bool {
    let words = arguments.split_whitespace();
    let status = Command::new("ip").args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

impl Cable {
    /// `None` where this is not permitted.
    pub fn lay(v4: [&str; 2], v6: [&str; 2]) -> Option<Self> {
        let id = std::process::id();
        let cable = Self { namespace: format!("sgt{id}"), here: format!("sga{id}") };
        let Self { namespace, here } = &cable;
        let there = format!("sgb{id}");
        if !ip(&format!("netns add {namespace}")) {
            std::mem::forget(cable);
            return None;
        }
        let laid = [
            format!("link add {here} type veth peer name {there} netns {namespace}"),
            format!("addr add {}/30 dev {here}", v4[0]),
            format!("link set {here} up"),
            format!("-n {namespace} addr add {}/30 dev {there}", v4[1]),
            format!("-n {namespace} link set {there} up"),
        ];
        if !laid.iter().all(|arguments| ip(arguments)) {
            return None;
        }
        // Not every system has IPv6.
        ip(&format!("-6 addr add {}/126 dev {here} nodad", v6[0]));
        ip(&format!("-n {namespace} -6 addr add {}/126 dev {there} nodad", v6[1]));
        Some(cable)
    }

    /// Whoever is in the namespace has vanished for this address: no word of it gets through any more.
    pub fn silence(&self, here: &str) {
        assert!(ip(&format!("-n {} route add blackhole {here}/32", self.namespace)));
    }

    /// Sends a request from the namespace; it ends when this process does, at the latest.
    pub fn send(&self, to: SocketAddr, request: &str) -> std::process::Child {
        // bash can speak TCP, and is where `ip` is.
        let script =
            format!("exec 3<>/dev/tcp/{}/{} && printf %b \"$1\" >&3 && head -c 1 <&3", to.ip(), to.port());
        let escaped = request.replace('\\', "\\\\").replace('\r', "\\r").replace('\n', "\\n");
        Command::new("ip")
            .args([
                "netns",
                "exec",
                &self.namespace,
                "timeout",
                "30",
                "bash",
                "-c",
                &script,
                "bash",
                &escaped,
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The pair goes with either of its ends.
        ip(&format!("link del {}", self.here));
        ip(&format!("netns del {}", self.namespace));
    }
}
