//! A head is read as tungstenite reads it, but for lengths of 2^63 and more, which are broken; no byte is asked for
//! in vain; and a follower comes to the same end however the bytes are cut.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use seqgate::wire::{Follower, Head, MAX_HEAD, Parse, head};
use tungstenite::protocol::frame::FrameHeader;

fuzz_target!(|bytes: &[u8]| {
    let parsed = head(bytes);
    match parsed {
        Parse::Head(head) => same_as_tungstenite(bytes, head),
        Parse::More(needed) => {
            assert!(bytes.len() < needed && needed <= MAX_HEAD);
            let zeros = [bytes, &[0; MAX_HEAD]].concat();
            assert!(!matches!(head(&zeros[..needed - 1]), Parse::Head(_)), "less would have done");
        }
        Parse::Broken => {}
    }
    // What was said of a part of the bytes holds for all of them.
    for cut in 0..bytes.len().min(MAX_HEAD + 2) {
        match head(&bytes[..cut]) {
            Parse::More(_) => {}
            said => assert_eq!(said, parsed),
        }
    }
    let follow = |size: usize| {
        let mut follower = Follower::default();
        bytes.chunks(size).for_each(|chunk| follower.follow(chunk));
        (follower.at_boundary(), follower.close())
    };
    let whole = follow(bytes.len().max(1));
    for size in [1, 2, 3, 7, 13] {
        assert_eq!(follow(size), whole);
    }
});

fn same_as_tungstenite(bytes: &[u8], head: Head) {
    let mut cursor = Cursor::new(bytes);
    let (theirs, payload) = FrameHeader::parse(&mut cursor).expect("a lawful opcode").expect("a whole head");
    assert_eq!((head.len as u64, head.payload), (cursor.position(), payload));
    assert_eq!(u8::from(theirs.opcode), head.opcode as u8);
    assert_eq!((theirs.is_final, theirs.mask), (head.fin, head.mask));
    assert_eq!(theirs.rsv1 || theirs.rsv2 || theirs.rsv3, head.extended);
}
