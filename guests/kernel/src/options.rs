//! The command line: words separated by blanks, each `name=value`.

/// A command line.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a>(pub &'a str);

impl<'a> Options<'a> {
    /// The value of the last `name=value`, so that what is appended to a line overrides it.
    pub fn value(self, name: &str) -> Option<&'a str> {
        self.0
            .split_ascii_whitespace()
            .rev()
            .find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }

    /// The value as a decimal number; `None` if it is absent or no number.
    pub fn number(self, name: &str) -> Option<u64> {
        self.value(name)?.parse().ok()
    }

    /// Whether `name=` lists `item` among values separated by commas, or is absent or `all`.
    pub fn selects(self, name: &str, item: &str) -> bool {
        self.value(name).is_none_or(|list| list.split(',').any(|i| i == item || i == "all"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_word_of_a_name_counts() {
        let options = Options("shim=auto  ops=10 workloads=x shim=pv ops");
        assert_eq!(options.value("shim"), Some("pv"));
        assert_eq!(options.value("workload"), None, "a longer name is another name");
        assert_eq!(options.number("ops"), Some(10));
        assert_eq!(options.number("shim"), None);
    }

    #[test]
    fn lists_select_whole_items() {
        let options = Options("workload=cpuid,eoi");
        assert!(options.selects("workload", "eoi"));
        assert!(!options.selects("workload", "cpu"));
        assert!(options.selects("case", "anything"));
        assert!(Options("case=all").selects("case", "anything"));
    }
}
