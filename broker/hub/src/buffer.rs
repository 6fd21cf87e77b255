//! Byte buffers that a thread uses again. Not what is in them.

use std::cell::RefCell;

/// Buffers grow to this size in bytes before another one is begun.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;
/// The first capacity of a buffer in bytes.
const FIRST_BUFFER_BYTES: usize = 512;
/// Spare buffers kept by each thread.
const SPARE_BUFFERS: usize = 16;
/// Smaller buffers are not worth keeping.
const MIN_SPARE_BYTES: usize = 4 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// An empty buffer, from this thread's spare ones if there are any.
pub(crate) fn take_buffer() -> Vec<u8> {
    SPARE.with_borrow_mut(Vec::pop).unwrap_or_else(|| Vec::with_capacity(FIRST_BUFFER_BYTES))
}

/// Keeps a buffer for the next `take_buffer` of this thread.
pub(crate) fn give_buffer(mut buffer: Vec<u8>) {
    if (MIN_SPARE_BYTES..=2 * BUFFER_BYTES).contains(&buffer.capacity()) {
        SPARE.with_borrow_mut(|spare| {
            if spare.len() < SPARE_BUFFERS {
                buffer.clear();
                spare.push(buffer);
            }
        });
    }
}
