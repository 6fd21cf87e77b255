//! Header blocks, which anybody may fill with anything.

use weir_proto::{HeaderBlock, HeaderBuilder};

pub(crate) fn headers(data: &[u8]) {
    let block = HeaderBlock(data);
    let _ = (block.status_line(), block.status_code());
    let mut count = 0;
    for (name, _) in block.iter() {
        count += 1;
        assert!(count <= data.len(), "more headers than bytes");
        let _ = (block.get(name_of(name)), block.get_str(name_of(name)));
    }
    // What was taken over from a block and written anew stays the same when that is done again.
    let once = HeaderBuilder::from_block(data).finish();
    let twice = HeaderBuilder::from_block(&once).finish();
    assert_eq!(once, twice);
}

fn name_of(name: &[u8]) -> &str {
    std::str::from_utf8(name).unwrap_or("X")
}
