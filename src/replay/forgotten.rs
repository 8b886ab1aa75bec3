//! Runs that were forgotten, in a fixed size: four bits each, at places that their keys choose. One that was not may seem to
//! be among them, about once in a million times when there are 300,000; one that was always does.

use crate::stamp::RunKey;

/// Four MiB of bits.
const BITS: u32 = 1 << 25;

/// A set of runs. Empty, it takes nothing.
#[derive(Default)]
pub(super) struct Forgotten(Vec<u64>);

impl Forgotten {
    pub(super) fn add(&mut self, run: RunKey) {
        self.0.resize(BITS as usize / 64, 0);
        for (word, bit) in places(run) {
            self.0[word] |= bit;
        }
    }

    pub(super) fn may_hold(&self, run: RunKey) -> bool {
        !self.0.is_empty() && places(run).into_iter().all(|(word, bit)| self.0[word] & bit != 0)
    }
}

fn places(run: RunKey) -> [(usize, u64); 4] {
    let (start, stride) = (run.short() as u32, (run.short() >> 32) as u32 | 1);
    [0, 1, 2, 3].map(|i| {
        let place = start.wrapping_add(stride.wrapping_mul(i)) % BITS;
        (place as usize / 64, 1 << (place % 64))
    })
}
