//! One part of judging, many times, for callgrind to count its instructions; `bench/instructions` runs it.
//!
//! Without a name it only says what there is, and that each works.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a benchmark that meets an error has failed")]

mod works;

/// Events before the count, so that tables have grown.
const BEFORE: usize = 10 * works::RUNS;
/// Events that are counted.
const COUNTED: usize = works::RUNS;

fn main() {
    let name = std::env::args().skip(1).find(|word| !word.starts_with('-'));
    for mut work in works::all() {
        let full_name = format!("{}/{}", work.name, work.size);
        match &name {
            None => {
                (work.run)();
                println!("{full_name}");
            }
            Some(name) if *name == full_name => {
                for _ in 0..BEFORE {
                    (work.run)();
                }
                counted(&mut *work.run);
                println!("{COUNTED}");
            }
            Some(_) => {}
        }
    }
}

/// Counting begins and ends with this function.
#[inline(never)]
fn counted(run: &mut dyn FnMut()) {
    for _ in 0..COUNTED {
        run();
    }
}
