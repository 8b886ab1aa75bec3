//! `seqgate replay` as a program: what it prints, what it refuses, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

#[path = "net/mod.rs"]
mod net;
mod support;

use std::io::{BufRead, BufReader, BufWriter, Write};
use std::process::{Command, Stdio};

use net::program::{output, program};
use serde_json::Value;
use support::events::event;

const CAPTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/captures/2026.9.6-tool.ndjson");

/// What `seqgate replay` makes of these arguments and this standard input: exit code, output, complaints.
fn replay(arguments: &[&str], input: &str) -> (Option<i32>, String, String) {
    let mut child = program()
        .arg("replay")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    // It may end before it has read all, or any.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input.as_bytes())));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// An event, its repeat, and one that only its stream has not moved past.
fn recording() -> String {
    let events = [event("r", 1), event("r", 1), event("r", 3).stream("tool"), event("r", 2)];
    events.iter().map(|event| format!("{event}\n")).collect()
}

#[test]
fn a_capture_is_replayed_with_a_table_and_without_complaints() {
    let (output, out, err) = output(program().args(["replay", CAPTURE]));
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""));
    assert!(out.contains("\nforwarded  new_run  "), "{out}");
    assert!(out.contains("\n1024 are enough; SEQGATE_RUNS_PER_CONNECTION=64 "), "{out}");
}

#[test]
fn where_there_is_no_run_no_size_is_recommended() {
    for input in ["", "not JSON\n", "{\"type\":\"event\",\"event\":\"tick\"}\n"] {
        let (code, out, _) = replay(&["-"], input);
        assert_eq!(code, Some(0), "{out}");
        assert!(out.contains("\nNo run was found"), "{out}");
        assert!(!out.contains("enough"), "{out}");
        let (_, json, _) = replay(&["--json", "-"], input);
        let summary: serde_json::Value = serde_json::from_str(json.lines().last().unwrap()).unwrap();
        assert!(summary["runs_per_connection_recommended"].is_null(), "{json}");
    }
}

#[test]
fn the_example_in_the_readme_is_what_the_program_prints() {
    let root = env!("CARGO_MANIFEST_DIR");
    let recording = format!("{root}/tests/fixtures/repeats.ndjson");
    let (_, out, _) = output(program().args(["replay", &recording]));
    let readme = std::fs::read_to_string(format!("{root}/README.md")).unwrap();
    let example = readme.split("$ seqgate replay tests/fixtures/repeats.ndjson\n").nth(1).unwrap();
    assert_eq!(without_hashes(&out), without_hashes(example.split("```").next().unwrap()));
}

/// The keys of runs are other ones in each process.
fn without_hashes(text: &str) -> String {
    let (first, rest) = text.split_once(" of run #").unwrap();
    let others = rest.split(" of run #").map(|part| part.trim_start_matches(|c: char| c.is_ascii_hexdigit()));
    std::iter::once(first).chain(others).collect::<Vec<_>>().join(" of run #")
}

#[test]
fn standard_input_is_replayed_and_flags_may_stand_on_either_side_of_the_file() {
    for arguments in [&["-", "--order", "run", "--drops=1"][..], &["--drops", "1", "--order=run", "-"]] {
        let (code, out, err) = replay(arguments, &recording());
        assert_eq!((code, err.as_str()), (Some(0), ""));
        assert!(out.starts_with("line 2: dropped as duplicate: "), "{out}");
        assert!(!out.contains("line 4"), "{out}");
        assert!(out.contains("\ndrops not explained: 1 (--drops all explains them)\n"), "{out}");
    }
    let (_, out, _) = replay(&["-", "--order", "run", "--drops", "all"], &recording());
    assert!(out.contains("\nline 4: dropped as out of order: "), "{out}");
}

#[test]
fn json_is_an_object_a_line_each_drop_and_then_the_summary() {
    let (code, out, err) = replay(&["--json", "-", "--order", "run"], &recording());
    assert_eq!((code, err.as_str()), (Some(0), ""));
    let objects: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = objects.iter().map(|object| object["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["drop", "drop", "summary"]);
    let [duplicate, stale, summary] = &objects[..] else { panic!("{out}") };
    assert_eq!(
        (&duplicate["line"], &duplicate["reason"], &duplicate["same_line"]),
        (&2.into(), &"duplicate".into(), &1.into())
    );
    assert_eq!(
        (&stale["line"], &stale["reason"], &stale["run_high"]),
        (&4.into(), &"out_of_order".into(), &3.into())
    );
    assert_eq!(duplicate["run"], stale["run"]);
    assert_eq!(
        (&summary["dropped"]["duplicate"], &summary["dropped"]["out_of_order"]),
        (&1.into(), &1.into())
    );
    assert_eq!((&summary["forwarded"]["new_run"], &summary["forwarded"]["gap"]), (&1.into(), &1.into()));
}

#[test]
fn drops_are_told_while_the_recording_still_comes() {
    let mut child =
        program().args(["replay", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(recording().as_bytes()).unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("line 2: "), "{first}");
    drop(stdin);
    // Its output is closed by now, of which it makes nothing.
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn what_cannot_be_used_ends_with_its_exit_code_and_one_line() {
    for (code, arguments, complaint) in [
        (64, &[][..], "replay needs one file, or - for standard input"),
        (64, &["a", "b"], "replay needs one file, or - for standard input"),
        (64, &["-", "--listen", "127.0.0.1:1"], "--listen is not a flag of replay"),
        (64, &["-", "--json=yes"], "--json takes no value"),
        (64, &["-", "--drops", "some"], "--drops is \"some\": expected a number or all"),
        (64, &["-", "--order", "up"], "--order is \"up\": expected stream, run or none"),
        (66, &["/nowhere"], "/nowhere can't be opened: "),
        (74, &["/"], "the recording can't be read: "),
    ] {
        let (ended, out, err) = replay(arguments, "");
        assert_eq!((ended, out.as_str()), (Some(code), ""), "{arguments:?}: {err}");
        assert!(err.starts_with(&format!("seqgate: {complaint}")) && err.matches('\n').count() == 1, "{err}");
    }
}

#[test]
fn settings_of_the_environment_count_and_flags_win() {
    let run = |flags: &[&str]| {
        let mut command = program();
        output(command.env("SEQGATE_RUNS_PER_CONNECTION", "7").args(["replay", CAPTURE]).args(flags)).1
    };
    assert!(run(&[]).contains("\nWith 7 runs per connection: "));
    assert!(run(&["--runs-per-connection", "9"]).contains("\nWith 9 runs per connection: "));
}

#[test]
fn runs_connections_and_lines_without_end_take_no_more_memory_than_promised() {
    flood(250_000);
}

#[test]
#[ignore = "a minute"]
fn a_million_runs_take_no_more_memory_than_promised() {
    flood(1_000_000);
}

/// So many runs, each on a line, a tenth of them on connections of their own, and a line larger than what may be used.
fn flood(runs: usize) {
    const KIB: usize = 128 << 10;
    let mut child = Command::new("sh")
        .args(["-c", "ulimit -v $1; exec \"$0\" replay - --json --max-connections 16"])
        .args([env!("CARGO_BIN_EXE_seqgate"), &KIB.to_string()])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = BufWriter::with_capacity(1 << 20, child.stdin.take().unwrap());
    for i in 0..runs {
        let conn = if i % 10 == 0 { i } else { 0 };
        writeln!(
            input,
            r#"{{"conn":"{conn}","dir":"in","text":"{{\"type\":\"event\",\"event\":\"agent\",\"payload\":{{\"runId\":\"{i}\",\"seq\":1}}}}"}}"#
        )
        .unwrap();
    }
    let block = vec![b'x'; 1 << 20];
    (0..2 * (KIB >> 10)).for_each(|_| input.write_all(&block).unwrap());
    drop(input);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{:?}", output.status);
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["forwarded"]["new_run"], runs);
    assert_eq!(summary["connections_total"], runs / 10);
    assert_eq!(summary["unusable_lines"], 1);
}
