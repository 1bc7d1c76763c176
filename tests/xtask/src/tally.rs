//! Adding up what test runners print.

use std::fmt;
use std::ops::AddAssign;

/// Counts of tests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub passed: u64,
    pub failed: u64,
    pub skipped: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

impl Tally {
    /// The sum over the closing lines of libtest ("test result: ...") and nextest ("Summary [...] ...").
    pub fn of_output(lines: &[String]) -> Self {
        let mut sum = Self::default();
        for line in lines {
            if let Some(counts) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". ")) {
                sum += Self::of_counts(counts.1, ';');
            } else if line.trim_start().starts_with("Summary [")
                && let Some((_, counts)) = line.split_once(" run: ")
            {
                sum += Self::of_counts(&without_parentheses(counts), ',');
            }
        }
        sum
    }

    /// Tests that found nothing to do returned at once, and their runner counted them as passed.
    pub fn less_skipped(mut self, skipped: u64) -> Self {
        self.passed = self.passed.saturating_sub(skipped);
        self.skipped += skipped;
        self
    }

    /// "5 passed, 1 timed out, 2 skipped"
    fn of_counts(text: &str, separator: char) -> Self {
        let mut tally = Self::default();
        for part in text.split(separator) {
            let Some((count, kind)) = part.trim().split_once(' ') else { continue };
            let Ok(count) = count.parse::<u64>() else { continue };
            match kind.trim() {
                "passed" => tally.passed += count,
                "skipped" | "ignored" => tally.skipped += count,
                "failed" | "timed out" | "exec failed" => tally.failed += count,
                // "measured", "filtered out": no tests of this run.
                _ => {}
            }
        }
        tally
    }
}

/// "9 passed (1 slow, 1 flaky), 0 skipped" without what stands in parentheses.
fn without_parentheses(text: &str) -> String {
    let mut depth = 0_u32;
    text.chars()
        .filter(|&c| {
            depth += u32::from(c == '(');
            let keep = depth == 0;
            depth -= u32::from(c == ')' && depth > 0);
            keep
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Tally {
        Tally::of_output(&text.lines().map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn libtest_lines_add_up() {
        let text = "test a ... ok\ntest result: ok. 5 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out; finished in \
                    0.1s\ntest result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out\n";
        assert_eq!(of(text), Tally { passed: 6, failed: 2, skipped: 1 });
    }

    #[test]
    fn nextest_lines_count_with_their_remarks() {
        let text = "     Summary [   1.206s] 12 tests run: 9 passed (1 slow, 1 flaky), 1 failed, 2 timed out, 3 skipped\n";
        assert_eq!(of(text), Tally { passed: 9, failed: 3, skipped: 3 });
        assert_eq!(
            of("Summary [ 0.1s] 1 test run: 1 passed, 0 skipped"),
            Tally { passed: 1, failed: 0, skipped: 0 }
        );
    }

    #[test]
    fn other_lines_do_not_count() {
        assert_eq!(
            of("4 passed, 2 failed\nnote: test result: unknown\nSummary of 3 passed\n"),
            Tally::default()
        );
    }
}
