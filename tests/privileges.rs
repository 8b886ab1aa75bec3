//! The program asks its system for nothing: no user, no capability, no file that it could write.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

mod net;

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use net::frames::{TEXT, agent, frame, masked};
use net::program::{Running, program};
use net::{CONSENT, Gateway, Peer, handshake, page};

/// Everything that is mounted becomes read-only, for this process and no other.
const READ_ONLY: &str = r#"
for place in $(cut -d ' ' -f 2 /proc/mounts); do
  mount -o remount,bind,ro "$place" 2> /dev/null || true
done
exec $AS_NOBODY "$0" "$@"
"#;
const AS_NOBODY: &str = "setpriv --reuid=65534 --regid=65534 --clear-groups --no-new-privs \
                         --bounding-set=-all --inh-caps=-all";

/// A copy of the program that everybody may run, for as long as this is kept.
struct Copy(PathBuf);

impl Copy {
    fn new() -> Self {
        let path = std::env::temp_dir().join(format!("seqgate-of-nobody-{}", std::process::id()));
        std::fs::copy(program().get_program(), &path).unwrap();
        Self(path)
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        std::fs::remove_file(&self.0).unwrap();
    }
}

/// It serves, tells, and stops as ever.
async fn works(mut running: Running, gateway: Gateway) {
    let mut relayed =
        net::open(Peer::connect(running.listen).await, &gateway, &handshake("/"), CONSENT).await;
    relayed.gateway.send([agent("r", 1, 1), agent("r", 1, 2), frame(TEXT, b"{}")].concat()).await;
    relayed.client.expect(&[agent("r", 1, 1), frame(TEXT, b"{}")].concat()).await;
    relayed.client.send(masked(TEXT, b"hello")).await;
    relayed.gateway.expect(&masked(TEXT, b"hello")).await;
    let (status, said) = page(running.admin, "/readyz").await;
    assert_eq!(status, 200, "{said}");
    // What /proc tells is told here too.
    assert!(running.metric("process_resident_memory_bytes").await > 0.0);
    drop(relayed);
    running.signal("TERM");
    assert_eq!(running.exit().await.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_runs_as_nobody_without_capabilities_on_a_read_only_system() {
    let permitted =
        ["unshare --mount mount --make-rprivate /", &format!("{AS_NOBODY} true")].iter().all(|line| {
            let mut words = line.split_whitespace();
            let mut command = Command::new(words.next().unwrap());
            let status = command.args(words).stdout(Stdio::null()).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        });
    if !permitted {
        return eprintln!("skipped: `unshare --mount` and `setpriv` are not permitted here");
    }
    let gateway = Gateway::bind().await;
    let copy = Copy::new();
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", READ_ONLY]).arg(&copy.0).env("AS_NOBODY", AS_NOBODY);
    let running = Running::start_as(command.stdin(Stdio::null()), gateway.address, &["--drain-timeout=1s"])
        .await
        .unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", running.id())).unwrap();
    let line = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(line("Uid:"), ["65534"; 4]);
    assert_eq!(line("Gid:"), ["65534"; 4]);
    assert_eq!(line("Groups:"), [""; 0]);
    assert_eq!(line("NoNewPrivs:"), ["1"]);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(line(set), ["0000000000000000"], "{set}");
    }
    // Of several mounts on one place, the last is the one that is seen.
    let mounts = std::fs::read_to_string(format!("/proc/{}/mounts", running.id())).unwrap();
    let options: HashMap<&str, &str> = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .map(|words| (words[1], words[3]))
        .collect();
    let writable: Vec<_> =
        options.iter().filter(|(_, options)| !options.split(',').any(|o| o == "ro")).collect();
    assert!(writable.is_empty(), "{writable:?}");
    works(running, gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_never_writes_into_a_file() {
    let gateway = Gateway::bind().await;
    // Who writes a byte into a file under this limit gets SIGXFSZ.
    let mut command = Command::new("sh");
    command.env_clear().stdin(Stdio::null()).args(["-c", "ulimit -f 0 && exec \"$0\" \"$@\""]);
    command.arg(program().get_program());
    let running = Running::start_as(&mut command, gateway.address, &["--drain-timeout=1s", "--log=trace"])
        .await
        .unwrap();
    works(running, gateway).await;
}
