//! The captured traffic in `tests/fixtures`.

use std::path::Path;

use serde_json::Value;

/// One gateway's traffic with one or more clients.
pub(crate) struct Capture {
    pub(crate) name: String,
    /// Connection and text of every frame from the gateway, in order.
    pub(crate) frames: Vec<(String, String)>,
}

impl Capture {
    /// The texts of each connection, in order.
    pub(crate) fn connections(&self) -> Vec<(String, Vec<&str>)> {
        let mut found: Vec<(String, Vec<&str>)> = Vec::new();
        for (conn, text) in &self.frames {
            match found.iter_mut().find(|(name, _)| name == conn) {
                Some((_, texts)) => texts.push(text),
                None => found.push((conn.clone(), vec![text])),
            }
        }
        found
    }
}

/// All captures, by name.
pub(crate) fn captures() -> Vec<Capture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/captures");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "no captures");
    paths.iter().map(|path| read(path)).collect()
}

/// The texts of each connection of each capture, under a name that says whose.
pub(crate) fn connections() -> Vec<(String, Vec<String>)> {
    let owned = |texts: Vec<&str>| texts.into_iter().map(str::to_owned).collect();
    let of = |capture: &Capture| {
        let named = |(conn, texts)| (format!("{} {conn}", capture.name), owned(texts));
        capture.connections().into_iter().map(named).collect::<Vec<_>>()
    };
    captures().iter().flat_map(of).collect()
}

fn read(path: &Path) -> Capture {
    let lines = std::fs::read_to_string(path).unwrap();
    let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let word = |line: &Value, key: &str| line[key].as_str().unwrap().to_owned();
    let frames = lines
        .filter(|line| line["dir"] == "in")
        .map(|line| (word(&line, "conn"), word(&line, "text")))
        .collect();
    Capture { name: path.file_stem().unwrap().to_string_lossy().into_owned(), frames }
}
