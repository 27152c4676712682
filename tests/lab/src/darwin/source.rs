//! Rust's sources as far as conditional compilation needs them read (The Rust Reference, "Tokens" and
//! "Conditional compilation"): which lines a `cfg` is about, and on which systems they are there.
//!
//! No grammar: comments and literals are told from code, brackets are matched, and an attribute is about
//! what follows it up to its `;`, its `,` or its closing brace.

use super::predicate::{Predicate, System};
use std::ops::Range;

/// A `cfg`, `cfg_attr` or `cfg!`.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// Where it is, from 1.
    pub(super) line: usize,
    pub(super) predicate: Predicate,
    /// The lines, from 1, that no Linux compiles because of it, and macOS does.
    pub(super) only_macos: Range<usize>,
    /// The module whose file these lines name: `mod name;`.
    pub(super) module: Option<String>,
    /// It says which file of `sys/` is a module's.
    pub(super) opens_sys: bool,
}

/// A file, and the same with comments and the insides of literals blanked.
#[derive(Debug)]
pub(super) struct Source<'a> {
    text: &'a str,
    code: Vec<u8>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, code: blank(text.as_bytes()) }
    }

    /// Every condition in it.
    ///
    /// # Errors
    /// Names a line whose predicate cannot be read.
    pub(super) fn conditions(&self) -> Result<Vec<Condition>, String> {
        let words = ["cfg", "cfg_attr"];
        let starts =
            (0..self.code.len()).filter(|at| self.word_at(*at).is_some_and(|w| words.contains(&w)));
        starts.filter_map(|at| self.condition(at).transpose()).collect()
    }

    /// How many of `lines` have code in them.
    pub(super) fn count(&self, lines: Range<usize>) -> usize {
        let code = self.code.split(|byte| *byte == b'\n');
        let lines = code.skip(lines.start.saturating_sub(1)).take(lines.len());
        lines.filter(|line| !line.trim_ascii().is_empty()).count()
    }

    /// All lines, from 1.
    pub(super) fn lines(&self) -> Range<usize> {
        1..self.text.lines().count() + 1
    }

    fn condition(&self, at: usize) -> Result<Option<Condition>, String> {
        let macro_call = self.code.get(at + 3) == Some(&b'!');
        let word = self.word_at(at).unwrap_or_default();
        let open = at + word.len() + usize::from(macro_call);
        let attribute = self.code[..at].trim_ascii_end().last() == Some(&b'[');
        if self.code.get(open) != Some(&b'(') || !(attribute || macro_call) {
            return Ok(None);
        }
        let line = self.line(at);
        let inside = &self.text[open + 1..self.closing(open)];
        let predicate = Predicate::parse(inside).map_err(|why| format!("line {line}: {why}"))?;
        let governed = match (word, macro_call) {
            (_, true) => self.branch(at, open, &predicate),
            // What it adds is a path, a lint: a file that is there on one system only is in `sys`.
            ("cfg_attr", false) => at..at,
            _ if !only_macos(&predicate) => at..at,
            _ => self.item(at),
        };
        let module = self.module(&governed);
        let opens_sys =
            word == "cfg_attr" && inside.contains("path = \"") && inside.contains("sys/");
        let only_macos = match governed.is_empty() {
            true => line..line,
            false => self.line(governed.start)..self.line(governed.end - 1) + 1,
        };
        Ok(Some(Condition { line, predicate, only_macos, module, opens_sys }))
    }

    /// The block that `if cfg!(…)` runs on macOS alone, or what is not a block's: the one line.
    fn branch(&self, at: usize, open: usize, predicate: &Predicate) -> Range<usize> {
        let before = self.code[..at].trim_ascii_end();
        let negated = before.ends_with(b"!");
        let before = before.strip_suffix(b"!").unwrap_or(before).trim_ascii_end();
        let (on_macos, on_linux) = holds(predicate);
        if on_macos == on_linux {
            return at..at;
        }
        let then = self.skip_blanks(self.closing(open) + 1);
        if !before.ends_with(b"if") || self.code.get(then) != Some(&b'{') {
            return at..at + 1;
        }
        let end = self.closing(then) + 1;
        if on_macos != negated {
            return at..end;
        }
        let otherwise = self.skip_blanks(end);
        match self.word_at(otherwise) {
            Some("else") => otherwise..self.end_of_item(otherwise),
            _ => at..at,
        }
    }

    /// What the attribute with `at` in it is about, itself included; all of the file for one that begins
    /// with `#!`.
    fn item(&self, at: usize) -> Range<usize> {
        let bracket = self.code[..at].iter().rposition(|byte| *byte == b'[').unwrap_or(at);
        if self.code[..bracket].ends_with(b"#!") {
            return 0..self.code.len();
        }
        let start = bracket.saturating_sub(1);
        start..self.end_of_item(self.closing(bracket) + 1)
    }

    fn end_of_item(&self, from: usize) -> usize {
        let mut at = self.skip_attributes(from);
        // A comma ends a field, a variant and an arm; in an item it stands between parameters.
        let comma_ends = !self.is_item(at);
        while let Some(byte) = self.code.get(at) {
            match byte {
                b'{' => return self.closing(at) + 1,
                b'(' | b'[' => at = self.closing(at),
                b')' | b']' | b'}' => return at,
                b';' => return at + 1,
                b',' if comma_ends => return at + 1,
                _ => {}
            }
            at += 1;
        }
        at
    }

    fn skip_attributes(&self, from: usize) -> usize {
        let at = self.skip_blanks(from);
        match self.code[at..].starts_with(b"#[") {
            true => self.skip_attributes(self.closing(at + 1) + 1),
            false => at,
        }
    }

    fn is_item(&self, at: usize) -> bool {
        const WORDS: [&str; 15] = [
            "async",
            "const",
            "enum",
            "extern",
            "fn",
            "impl",
            "let",
            "macro_rules",
            "mod",
            "static",
            "struct",
            "trait",
            "type",
            "unsafe",
            "use",
        ];
        match self.word_at(at) {
            Some("pub") => {
                let next = self.skip_blanks(at + 3);
                let restricted = self.code.get(next) == Some(&b'(');
                self.is_item(self.skip_blanks(if restricted {
                    self.closing(next) + 1
                } else {
                    next
                }))
            }
            Some(word) => WORDS.contains(&word),
            None => false,
        }
    }

    /// `name`, where the lines are `mod name;`.
    fn module(&self, governed: &Range<usize>) -> Option<String> {
        let code = std::str::from_utf8(self.code.get(governed.clone())?).ok()?;
        let (_, name) = code.strip_suffix(';')?.rsplit_once("mod ")?;
        name.chars().all(|c| c.is_alphanumeric() || c == '_').then(|| name.to_owned())
    }

    fn skip_blanks(&self, from: usize) -> usize {
        let rest = self.code.get(from..).unwrap_or_default();
        from + (rest.len() - rest.trim_ascii_start().len())
    }

    /// The word that begins at `at`.
    fn word_at(&self, at: usize) -> Option<&str> {
        let begins = !self.code[..at].last().is_some_and(|byte| is_word(*byte));
        let rest = self.code.get(at..)?;
        let len = rest.iter().take_while(|byte| is_word(**byte)).count();
        (begins && len > 0).then(|| std::str::from_utf8(&rest[..len]).ok())?
    }

    /// Where what opens at `open` is closed, or the end.
    fn closing(&self, open: usize) -> usize {
        let mut depth = 0usize;
        for (at, byte) in self.code.iter().enumerate().skip(open) {
            match byte {
                b'(' | b'[' | b'{' => depth += 1,
                b')' | b']' | b'}' => depth = depth.saturating_sub(1),
                _ => continue,
            }
            if depth == 0 {
                return at;
            }
        }
        self.code.len().saturating_sub(1)
    }

    fn line(&self, at: usize) -> usize {
        1 + self.code[..at].iter().filter(|byte| **byte == b'\n').count()
    }
}

/// Whether it holds on macOS, and on Linux, for some kind of build.
fn holds(predicate: &Predicate) -> (bool, bool) {
    (predicate.possible(System::Macos), predicate.possible(System::Linux))
}

pub(super) fn only_macos(predicate: &Predicate) -> bool {
    holds(predicate) == (true, false)
}

/// `text` with comments, and what is between quotes, as blanks; ends of lines stay.
fn blank(text: &[u8]) -> Vec<u8> {
    let mut code = text.to_vec();
    let mut at = 0;
    while at < text.len() {
        let end = literal_or_comment(text, at);
        match end {
            Some(end) => {
                for byte in code.iter_mut().take(end).skip(at).filter(|byte| **byte != b'\n') {
                    *byte = b' ';
                }
                at = end;
            }
            None => at += 1,
        }
    }
    code
}

/// The end of the comment or literal that begins at `at`.
fn literal_or_comment(text: &[u8], at: usize) -> Option<usize> {
    let rest = text.get(at..)?;
    let to = |len: Option<usize>, more: usize| Some(len.map_or(text.len(), |len| at + len + more));
    if rest.starts_with(b"//") {
        return to(rest.iter().position(|byte| *byte == b'\n'), 0);
    }
    if rest.starts_with(b"/*") {
        return Some(at + comment(rest));
    }
    let word_before = text[..at].last().is_some_and(|byte| is_word(*byte));
    if let Some(from) = raw(rest).filter(|_| !word_before) {
        let hashes = rest[..from].iter().filter(|byte| **byte == b'#').count();
        let end = [b"\"".as_slice(), &b"#".repeat(hashes)].concat();
        return to(find(&rest[from..], &end), from + end.len());
    }
    match rest[0] {
        b'"' => to(quoted(rest, b'"'), 1),
        // A character, and no lifetime.
        b'\'' if rest.get(1) == Some(&b'\\') => to(quoted(rest, b'\''), 1),
        b'\'' => {
            let length = std::str::from_utf8(&rest[1..]).ok()?.chars().next()?.len_utf8();
            (rest.get(1 + length) == Some(&b'\'')).then_some(at + length + 2)
        }
        _ => None,
    }
}

/// How long the comment is that `rest` begins with; comments have comments in them.
fn comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0usize, 0);
    while let Some(pair) = rest.get(at..at + 2) {
        match pair {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    rest.len()
}

/// Where the inside begins of the raw string that `rest` begins with: `r"`, `br##"`, `cr#"`. A raw identifier is none.
fn raw(rest: &[u8]) -> Option<usize> {
    let prefix =
        [b"r".as_slice(), b"br", b"cr"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest[prefix.len()..].iter().take_while(|byte| **byte == b'#').count();
    let quote = prefix.len() + hashes;
    (rest.get(quote) == Some(&b'"')).then_some(quote + 1)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Where the quote is that ends what `rest` begins.
fn quoted(rest: &[u8], quote: u8) -> Option<usize> {
    let mut escaped = false;
    rest.iter().enumerate().skip(1).find_map(|(at, byte)| {
        let ends = *byte == quote && !escaped;
        escaped = *byte == b'\\' && !escaped;
        ends.then_some(at)
    })
}

fn find(text: &[u8], wanted: &[u8]) -> Option<usize> {
    text.windows(wanted.len()).position(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Lines that macOS alone compiles, as written in `text`.
    fn only(text: &str) -> Vec<usize> {
        let conditions = Source::new(text).conditions().unwrap();
        conditions.into_iter().flat_map(|found| found.only_macos).collect()
    }

    #[test]
    fn an_attribute_is_about_the_item_that_follows() {
        let text = "fn a() {}\n#[cfg(target_os = \"macos\")] // why\n#[inline]\npub(super) fn b<A, B>(_: [u8; 2]) {\n    c();\n}\nfn d() {}\n";
        assert_eq!(only(text), [2, 3, 4, 5, 6]);
        assert_eq!(only(&text.replace("macos", "linux")), [] as [usize; 0]);
        let text = "struct A {\n    #[cfg(not(target_os = \"linux\"))]\n    b: u8,\n    c: u8,\n}";
        assert_eq!(only(text), [2, 3]);
        let text = "use a;\n#[cfg(target_os = \"macos\")]\nuse b::{c,\n    d};\nuse e;";
        assert_eq!(only(text), [2, 3, 4]);
        assert_eq!(only("#![cfg(target_os = \"macos\")]\nfn a() {}\n"), [1, 2]);
    }

    #[test]
    fn a_branch_for_macos_alone_counts_whichever_way_it_is_asked_for() {
        let text = "if cfg!(target_os = \"macos\") {\n    a();\n}\nb();";
        assert_eq!(only(text), [1, 2, 3]);
        let text = "if !cfg!(target_os = \"linux\") {\n    a();\n}\nb();";
        assert_eq!(only(text), [1, 2, 3]);
        let text = "if cfg!(target_os = \"linux\") {\n    a();\n} else {\n    b();\n}\nc();";
        assert_eq!(only(text), [3, 4, 5]);
        assert_eq!(only("let a = cfg!(target_os = \"macos\");\nb();"), [1]);
        assert_eq!(only("if cfg!(debug_assertions) {\n}"), [] as [usize; 0]);
    }

    #[test]
    fn what_some_linux_compiles_does_not_count() {
        for predicate in ["any(target_os = \"macos\", test)", "unix", "target_arch = \"aarch64\""] {
            assert_eq!(only(&format!("#[cfg({predicate})]\nfn a() {{}}\n")), [] as [usize; 0]);
        }
        let text = "#[cfg(all(target_os = \"macos\", target_arch = \"aarch64\"))]\nfn a() {}\n";
        assert_eq!(only(text), [1, 2]);
        let text = "#[cfg(all(unix, not(target_os = \"linux\")))]\nfn a() {}\n";
        assert_eq!(only(text), [1, 2]);
    }

    #[test]
    fn comments_and_literals_hold_no_conditions_and_no_brackets() {
        let text = "// #[cfg(target_os = \"macos\")]\n/* cfg!(target_os = \"macos\") */\n\
            const A: &str = \"#[cfg(target_os = 1)]\";\nconst B: &str = r#\"cfg!(\"x\")\"#;\n";
        assert_eq!(Source::new(text).conditions(), Ok(vec![]));
        let text = "#[cfg(target_os = \"macos\")]\nfn a<'a>() {\n    b('}', '\\'', \"}\\\"\", b'{'); // }\n    c();\n}\nd();";
        assert_eq!(only(text), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn raw_strings_of_every_kind_end_at_their_own_quote() {
        for (open, close) in [
            ("r\"", "\""),
            ("br\"", "\""),
            ("cr\"", "\""),
            ("r#\"", "\"#"),
            ("br#\"", "\"#"),
            ("cr##\"", "\"##"),
        ] {
            // A backslash is nothing special in one, nor is a quote without its hashes.
            let hashes = close.len() - 1;
            let quote = if hashes > 0 { "\"{" } else { "" };
            let text = format!(
                "#[cfg(target_os = \"macos\")]\nfn a() {{\n    b({open}{quote}\\{close});\n}}\nc();"
            );
            assert_eq!(only(&text), [1, 2, 3, 4], "{text}");
            let text = format!("a({open}{quote}#[cfg(target_os = 1)]{close});");
            assert_eq!(Source::new(&text).conditions(), Ok(vec![]), "{text}");
        }
        // No prefix, the end of a word; no string, a raw identifier.
        let text = "#[cfg(target_os = \"macos\")]\nfn r#fn() {\n    for_r!(\"\\\"}\");\n}\nc();";
        assert_eq!(only(text), [1, 2, 3, 4]);
    }

    #[test]
    fn a_comment_ends_with_the_comments_in_it() {
        let text = "/* a /* b */ #[cfg(target_os = \"macos\")] */ fn c() {}\n";
        assert_eq!(Source::new(text).conditions(), Ok(vec![]));
        let text = "#[cfg(target_os = \"macos\")]\nfn a() { /* /*/ } */ */ b();\n}\nc();";
        assert_eq!(only(text), [1, 2, 3]);
        assert_eq!(only("/* no end"), [] as [usize; 0]);
    }

    #[test]
    fn lines_without_code_do_not_count() {
        let source = Source::new("//! A file.\n\nuse a; // b\n/* c\n d */\nfn e() {\n}\n");
        assert_eq!(source.count(source.lines()), 3);
        assert_eq!(source.count(3..4), 1);
    }

    #[test]
    fn a_module_in_a_file_of_its_own_is_named() {
        let text = "#[cfg(target_os = \"macos\")]\npub(crate) mod seatbelt;\n";
        let conditions = Source::new(text).conditions().unwrap();
        assert_eq!(conditions[0].module.as_deref(), Some("seatbelt"));
    }

    #[test]
    fn a_predicate_that_cannot_be_read_is_an_error_with_its_line() {
        let error = Source::new("\n#[cfg(target_os =)]\nfn a() {}").conditions().unwrap_err();
        assert!(error.starts_with("line 2: "), "{error}");
    }
}
