//! Byte buffers that a thread uses again: to write into, and to read into. Not what is in them.

use std::cell::RefCell;
use std::sync::Arc;

/// Buffers grow to this size in bytes before another one is begun.
pub(crate) const BUFFER_BYTES: usize = 64 * 1024;
/// The most bytes usually read at once.
pub(crate) const READ_BYTES: usize = 64 * 1024;
/// The most bytes read at once where payloads are large: what a read cuts in two is copied, and that should be few of them.
pub(crate) const LARGE_READ_BYTES: usize = 256 * 1024;
/// The first capacity of a buffer in bytes.
const FIRST_BUFFER_BYTES: usize = 512;
/// Spare buffers kept by each thread.
const SPARE_BUFFERS: usize = 16;
/// Smaller buffers are not worth keeping.
const MIN_SPARE_BYTES: usize = 4 * 1024;
/// Buffers of each size to read into kept by each thread, those included that still wait to be written.
const READ_BUFFERS: usize = 8;

/// What was read, shared with those for whom parts of it wait to be written.
pub(crate) type ReadBuffer = Arc<Vec<u8>>;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
    static READ: RefCell<Vec<ReadBuffer>> = const { RefCell::new(Vec::new()) };
    static LARGE_READ: RefCell<Vec<ReadBuffer>> = const { RefCell::new(Vec::new()) };
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

/// Doubles a buffer that is more than half full, up to `BUFFER_BYTES` and to a power of two: allocators have a place of
/// just that size, while a vector left to itself gets a size that depends on what came first.
pub(crate) fn grow_buffer(buffer: &mut Vec<u8>) {
    let used = buffer.len();
    if buffer.capacity() < BUFFER_BYTES && used > buffer.capacity() / 2 {
        let wanted = (used * 2).next_power_of_two().min(BUFFER_BYTES);
        buffer.reserve_exact(wanted.saturating_sub(used));
    }
}

/// A buffer of `READ_BYTES`, or of `LARGE_READ_BYTES`, to read into, shared with nobody.
pub(crate) fn take_read_buffer(is_large: bool) -> ReadBuffer {
    let (pool, bytes) = if is_large { (&LARGE_READ, LARGE_READ_BYTES) } else { (&READ, READ_BYTES) };
    pool.with_borrow_mut(|kept| {
        let free = kept.iter_mut().position(|buffer| Arc::get_mut(buffer).is_some());
        free.map(|at| kept.swap_remove(at))
    })
    .unwrap_or_else(|| Arc::new(vec![0; bytes]))
}

/// Keeps a buffer for a later `take_read_buffer` of this thread, when nobody else holds it any more.
pub(crate) fn give_read_buffer(buffer: ReadBuffer) {
    let pool = if buffer.len() > READ_BYTES { &LARGE_READ } else { &READ };
    pool.with_borrow_mut(|kept| {
        if kept.len() == READ_BUFFERS {
            // One of those that wait the longest: whoever it is shared with frees it.
            kept.swap_remove(0);
        }
        kept.push(buffer);
    });
}
