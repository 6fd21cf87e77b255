//! How many bytes a group's log took between two indexes, to know how far a follower lags in bytes.

use std::collections::VecDeque;

/// Most points of the byte count kept; beyond it every other one is dropped.
const MAX_SIZE_SAMPLES: usize = 4096;

/// How many bytes were appended up to some indexes, to know how much a follower lags in bytes.
#[derive(Default)]
pub(crate) struct SizeSamples {
    total: u64,
    points: VecDeque<(u64, u64)>,
}

impl SizeSamples {
    pub(crate) fn add(&mut self, last_index: u64, bytes: u64) {
        self.total = self.total.saturating_add(bytes);
        self.points.push_back((last_index, self.total));
        if self.points.len() > MAX_SIZE_SAMPLES {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }

    /// Bytes between two outer indexes, `None` when that was not counted (before a restart).
    pub(crate) fn between(&self, after: u64, upto: u64) -> Option<u64> {
        let at = |index: u64| {
            let point = self.points.partition_point(|(i, _)| *i <= index);
            let point = point.checked_sub(1)?;
            self.points.get(point).map(|(_, total)| *total)
        };
        Some(at(upto)?.saturating_sub(at(after)?))
    }

    /// Bytes appended behind an outer index, as far as they were counted.
    pub(crate) fn counted_after(&self, index: u64) -> u64 {
        let point = self.points.partition_point(|(i, _)| *i <= index);
        let before = point.checked_sub(1).and_then(|point| self.points.get(point));
        self.total.saturating_sub(before.map_or(0, |(_, total)| *total))
    }

    pub(crate) fn forget_upto(&mut self, index: u64) {
        while self.points.len() > 1 && self.points.get(1).is_some_and(|(i, _)| *i <= index) {
            self.points.pop_front();
        }
    }

    pub(crate) fn truncate_after(&mut self, index: u64) {
        while self.points.back().is_some_and(|(i, _)| *i > index) {
            self.points.pop_back();
        }
        self.total = self.points.back().map_or(0, |(_, total)| *total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_between_counted_indexes_are_known_and_others_are_not() {
        let mut sizes = SizeSamples::default();
        for index in 11..=20 {
            sizes.add(index, 100);
        }
        assert_eq!(sizes.between(11, 20), Some(900));
        assert_eq!(sizes.between(15, 15), Some(0));
        assert_eq!(sizes.between(5, 20), None);
        assert_eq!((sizes.counted_after(18), sizes.counted_after(5)), (200, 1000));
        sizes.truncate_after(15);
        sizes.add(16, 7);
        assert_eq!(sizes.between(15, 16), Some(7));
        sizes.forget_upto(14);
        assert_eq!(sizes.between(14, 16), Some(107));
        assert_eq!(sizes.between(12, 16), None);
    }

    #[test]
    fn points_stay_bounded_and_totals_right() {
        let mut sizes = SizeSamples::default();
        let count = MAX_SIZE_SAMPLES as u64 * 3;
        for index in 1..=count {
            sizes.add(index, 10);
        }
        assert!(sizes.points.len() <= MAX_SIZE_SAMPLES);
        let all = sizes.between(2, count).unwrap_or(0);
        assert!(all.abs_diff((count - 2) * 10) <= 40, "{all}");
    }
}
